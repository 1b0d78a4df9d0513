"""Packages that are optional extras: asked for when they are first needed."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

from ..errors import InputError


def optional_package(name: str, least: int, wanted_by: str, install: str) -> ModuleType:
    """Imports a package of an extra.

    Args:
        name: The package.
        least: The least number before the first dot of its version.
        wanted_by: What needs it, such as 'OME-Zarr'.
        install: The command that installs it.

    Raises:
        InputError: It is not installed, or too old.
    """
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{wanted_by} needs the package {name}, which is not installed here: {install}"
        ) from error
    first = re.match(r"[0-9]+", package.__version__)
    if first is None or int(first[0]) < least:
        raise InputError(
            f"{wanted_by} needs the package {name} in version {least} or later, and "
            f"{package.__version__} is installed here: {install}"
        )
    return package

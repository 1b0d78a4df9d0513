"""The package zarr, which is an optional extra, and what its errors mean."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from ..errors import InputError

ENDING = ".zarr"
INSTALL = 'pip install "sparsesegnet[zarr]"'
LEAST = 3  # major version: the first that reads both formats of zarr


def is_zarr(path: Path | str) -> bool:
    """Tells by its name whether a path is a zarr store, such as ``brain.ome.zarr``."""
    return Path(path).name.lower().endswith(ENDING)


def zarr_library() -> ModuleType:
    """The package zarr.

    Raises:
        InputError: It is not installed, or too old.
    """
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            f"OME-Zarr needs the package zarr, which is not installed here: {INSTALL}"
        ) from error
    version = re.match(r"[0-9]+", zarr.__version__)
    if version is None or int(version[0]) < LEAST:
        raise InputError(
            f"OME-Zarr needs the package zarr in version {LEAST} or later, and {zarr.__version__} "
            f"is installed here: {INSTALL}"
        )
    return zarr

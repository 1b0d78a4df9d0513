"""The package zarr, which is an optional extra, and what its errors mean."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from .optional_package import optional_package

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
    return optional_package("zarr", LEAST, "OME-Zarr", INSTALL)

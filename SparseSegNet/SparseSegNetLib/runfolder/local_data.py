"""The folder of this computer's own data, which no roaming profile carries along."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "SparseSegNet"
OVERRIDE = "SPARSESEGNET_DATA"  # environment variable


def local_data_folder() -> Path:
    """The folder for large data of this user on this computer; it may not exist yet.

    The environment variable SPARSESEGNET_DATA names another one. Else it is the folder SparseSegNet
    in the place that the platform has for such data, as platformdirs'
    `user_data_dir("SparseSegNet", appauthor=False)` finds it; Slicer comes without platformdirs.
    """
    if own := _absolute(OVERRIDE):
        return own
    if sys.platform == "win32":
        place = _absolute("LOCALAPPDATA") or _home("AppData", "Local")
    else:
        place = _absolute("XDG_DATA_HOME") or (
            _home("Library", "Application Support")
            if sys.platform == "darwin"
            else _home(".local", "share")
        )
    return place / NAME


def _absolute(variable: str) -> Path | None:
    """The folder that an environment variable names; None unless its path is absolute.

    The specification of XDG_DATA_HOME has others ignored: they would depend on the current folder.
    """
    path = Path(os.environ.get(variable, "").strip())
    return path if path.is_absolute() else None


def _home(*below: str) -> Path:
    return Path(os.path.expanduser("~"), *below)

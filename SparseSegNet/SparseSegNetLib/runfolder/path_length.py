"""Paths that are longer than the system takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError

LONGEST_NAME = 255  # bytes of a name between two separators; on Windows characters
LONGEST_WINDOWS = 259  # characters, unless long paths are switched on
LONGEST = {"linux": 4095, "darwin": 1023}  # bytes
# What is written below a run folder, and beside any other file while it is written.
DEEPEST = len("/checkpoint/.writing-12345678.safetensors")
BESIDE = len(".writing-12345678.safetensors")
SHOWN = 60  # characters of a name in a message


def check_path(path: Path, below: int = 0) -> None:
    """Checks that the system can take a path.

    Args:
        path: A file or a folder; it need not exist.
        below: Characters of the longest path of a file in it, if it is a folder.

    Raises:
        InputError: It cannot; the message names the path and the remedy.
    """
    fault = path_fault(path, below)
    if fault is not None:
        raise InputError(f"{path} cannot be used: {fault}.")


def path_fault(
    path: Path,
    below: int = 0,
    system: str = sys.platform,
    long_paths: Callable[[], bool] | None = None,
) -> str | None:
    """The reason why a path is too long, with the remedy; None if it is not.

    Args:
        path: A file or a folder; it need not exist.
        below: Characters of the longest path of a file in it, if it is a folder.
        system: `sys.platform` of the system.
        long_paths: Tells whether Windows takes long ones; asks it by default.
    """
    path = Path(os.path.abspath(path))
    windows = system == "win32"
    for name in path.parts[1:]:
        length = len(name) if windows else len(os.fsencode(name))
        if length > LONGEST_NAME:
            unit = "characters" if windows else "bytes"
            return (
                f"the name '{name[:SHOWN]}…' has {length} {unit}, and the system takes "
                f"{LONGEST_NAME}: choose a shorter name"
            )
    length = below + (len(str(path)) if windows else len(os.fsencode(path)))
    if not windows:
        most = LONGEST.get(system)
        if most is None or length <= most:
            return None
        return (
            f"its path has up to {length} bytes, and the system takes {most}: choose a shorter path"
        )
    if length <= LONGEST_WINDOWS or (long_paths or _long_paths)():
        return None
    return (
        f"its path has up to {length} characters, and Windows takes {LONGEST_WINDOWS}: choose a "
        "folder with a shorter path, or switch long paths on (LongPathsEnabled)"
    )


def _long_paths() -> bool:
    """True if Windows takes long paths."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem"
        ) as key:
            return winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1
    except OSError:
        return False

"""The engine's own environment on disk: where it lies, and whether it is whole.

It is whole once its mark, a file with versions and size, is there: the mark is written last when it
is made, and removed first when it is made again or removed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from ..runfolder.atomic import write_json
from ..runfolder.local_data import local_data_folder
from ..runfolder.lock import NAME as LOCK

MARK = "complete.json"
SCHEMA = 1
# Short names: on Windows torch's own paths leave little of 260 characters.
VENV, CACHE, PYTHONS, UV = "env", "cache", "python", "uv"


def place() -> Path:
    """The folder of the environment, shared by all versions of Slicer; it may not exist."""
    return local_data_folder() / "engine"


def python_in(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def described(folder: Path | None = None) -> dict | None:
    """The environment's description; None unless it is whole.

    Args:
        folder: Its folder; `place` by default.

    Returns:
        versions (of python, torch, ...), device, bytes (size on disk), made (date and time).
    """
    folder = folder or place()
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    if not isinstance(found.get("versions"), dict) or not isinstance(found.get("bytes"), int):
        return None
    return found if python_in(folder).is_file() else None


def remains(folder: Path | None = None) -> bool:
    """True if there is anything to remove, be it a whole environment or part of one."""
    with suppress(OSError), os.scandir(folder or place()) as entries:
        return any(entry.name != LOCK for entry in entries)
    return False


def write_mark(folder: Path, versions: dict[str, str], device: str, size: int, made: str) -> None:
    """Declares the environment whole."""
    write_json(
        folder / MARK,
        {"schema": SCHEMA, "versions": versions, "device": device, "bytes": size, "made": made},
    )

"""Renaming, deleting and opening of files that another program holds for a moment.

On Windows a virus scanner or an indexer opens a new file and lets nobody rename, delete or open it
until it is done. Elsewhere an open file is in nobody's way, and nothing is tried again.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast

Result = TypeVar("Result")
# Seconds between the attempts, about 2 together.
WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.4, 0.5)
# ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
HELD = (5, 32, 33)
WINDOWS = sys.platform == "win32"


def retried(
    action: Callable[[], Result], path: Path | str, sleep: Callable[[float], object] | None = None
) -> Result:
    """Does something with a file, again while another program holds it.

    Args:
        action: Does it.
        path: The file, for the message.
        sleep: Waits for some seconds; time.sleep by default.

    Raises:
        PermissionError: The file is still held after the last attempt; `strerror` names cause and
            remedy.
        OSError: Any other error of the action, at once.
    """
    for wait in (*WAITS, None):
        try:
            return action()
        except PermissionError as error:
            code = getattr(error, "winerror", None)
            if not WINDOWS or code not in HELD:
                raise
            if wait is None:
                raise PermissionError(errno.EACCES, _held(code), str(path)) from error
            (sleep or time.sleep)(wait)
    raise AssertionError


def _held(code: int) -> str:
    if code == HELD[0]:
        return (
            "access is denied; if you may write there, another program such as a virus scanner "
            "holds it: close that program, or except this folder from its scans, and try again"
        )
    return (
        "another program, such as a virus scanner, holds it: close that program, or except this "
        "folder from its scans, and try again"
    )


def replace(source: Path, target: Path) -> None:
    """Renames a file, over an existing one."""
    retried(lambda: os.replace(source, target), target)


def rename(source: Path, target: Path) -> None:
    """Renames a file or a folder to a name that does not exist yet."""
    retried(lambda: os.rename(source, target), source)


def remove(path: Path) -> None:
    """Deletes a file, if there is one."""
    retried(lambda: path.unlink(missing_ok=True), path)


def remove_tree(path: Path | str, ignore_errors: bool = False) -> None:
    """Deletes a folder, if there is one, with all that is in it.

    Args:
        path: The folder.
        ignore_errors: True leaves what cannot be deleted.
    """
    try:
        retried(lambda: shutil.rmtree(path), path)
    except FileNotFoundError:
        pass
    except OSError:
        if not ignore_errors:
            raise
        shutil.rmtree(path, ignore_errors=True)


def remove_content(path: Path) -> None:
    """Deletes all that is in a folder."""
    for part in path.iterdir():
        remove_tree(part) if part.is_dir() else remove(part)


def opened(path: Path, mode: Literal["rb", "rb+"]) -> BinaryIO:
    """Opens an existing file, as `open` does."""
    return cast(BinaryIO, retried(lambda: path.open(mode), path))

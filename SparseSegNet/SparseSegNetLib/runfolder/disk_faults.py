"""Cause and remedy where a run folder cannot be read or written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EngineError

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
WINDOWS_FULL = (39, 112)  # its numbers for a full disk
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def disk_full(error: OSError) -> bool:
    """True if a file could not be written since the disk, or a quota, is full."""
    return error.errno in FULL or getattr(error, "winerror", None) in WINDOWS_FULL


def disk_fault(error: OSError, folder: Path) -> EngineError:
    """Tells what is wrong with a run folder.

    Args:
        error: What the system answered to somebody who reads or writes there.
        folder: The run folder.

    Returns:
        The error, whose cause names the folder.
    """
    said = error.strerror or str(error)
    if not folder.is_dir():
        return EngineError(
            "files",
            f"the run folder {folder} is gone: it was deleted or renamed, or its disk is no longer "
            "connected.",
            "Bring it back to this place.",
        )
    if disk_full(error):
        return EngineError(
            "disk-full", f"the disk of the run folder {folder} is full.", "Free some space there."
        )
    if error.errno in REFUSED:
        return EngineError(
            "files",
            f"the run folder {folder} cannot be written to ({said}).",
            "Allow writing there; a disk may have become read-only after a fault.",
        )
    return EngineError(
        "files",
        f"a file of the run folder {folder} cannot be read or written ({said}).",
        "Check its disk, or the connection to it.",
    )


@contextmanager
def written(what: str, folder: Path) -> Iterator[None]:
    """Context manager that tells what is wrong where something cannot be written.

    Args:
        what: What is written, with its article.
        folder: The run folder.

    Raises:
        EngineError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        fault = disk_fault(error, folder)
        cause = f"{what} cannot be written: {fault.cause}"
        raise EngineError(fault.code, cause, fault.remedy) from error

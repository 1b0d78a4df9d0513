"""Refuses links in run folders: everything in one is a file or a folder of its own.

A folder may come from somebody else, and what is written into it must not land outside.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from .file_retries import retried

REPARSE_POINT = 0x400  # Windows: links and junctions alike (FILE_ATTRIBUTE_REPARSE_POINT)
CLOUD = 0x9000001A  # tag of files that a cloud drive keeps (IO_REPARSE_TAG_CLOUD), no links
CLOUD_MASK = 0xFFFF0FFF


def refuse_link(path: Path) -> None:
    """Checks that whatever lies at `path` is a file or a folder of its own.

    Raises:
        InputError: It is a symbolic link, a junction, a pipe or a device.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return  # opening it will raise the error
    if stat.S_ISLNK(found.st_mode) or _reparsed(found):
        raise InputError(
            f"{path} is a link to elsewhere, which a run folder must not hold: put "
            "the file itself in its place, or delete the link."
        )
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise InputError(f"{path} is neither a file nor a folder: delete it.")


def _reparsed(found: os.stat_result) -> bool:
    if not getattr(found, "st_file_attributes", 0) & REPARSE_POINT:
        return False
    return getattr(found, "st_reparse_tag", 0) & CLOUD_MASK != CLOUD


def refuse_links(folder: Path) -> None:
    """Raises InputError if anything inside a folder, at any depth, is a link."""
    try:
        with os.scandir(folder) as entries:
            paths = [Path(entry.path) for entry in entries]
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read ({error.strerror or error}): check its rights."
        ) from error
    for path in paths:
        refuse_link(path)
        if path.is_dir():
            refuse_links(path)


def open_to_append(path: Path) -> BinaryIO:
    """Opens a file for appending and creates it if it does not exist.

    Raises:
        InputError: It is a link.
        OSError: It cannot be opened.
    """
    refuse_link(path)
    # A link may appear between the check and the opening: where the system can, it checks itself.
    flags = (
        os.O_WRONLY
        | os.O_APPEND
        | os.O_CREAT
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        return os.fdopen(retried(lambda: os.open(path, flags, 0o666), path), "ab")
    except OSError as error:
        if error.errno in (errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP)):
            raise InputError(f"{path} is a link to elsewhere: delete it.") from error
        raise

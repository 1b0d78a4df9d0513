"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .file_retries import opened, remove, replace
from .links import open_to_append

PREFIX = ".writing-"


@contextmanager
def atomic_path(path: Path | str, suffix: str = "", durable: bool = True) -> Iterator[Path]:
    """Context manager that writes a file whole or not at all.

    On success the temporary file is renamed to `path`. On any exception it is removed and `path`
    is left as it was.

    Args:
        path: The file to write.
        suffix: Ending of the temporary name, for writers that go by the file's extension.
        durable: Whether the content reaches the disk before its new name, which takes up to
            seconds. Without, a machine that loses power may keep an empty file.

    Yields:
        A temporary path beside `path`, to write to.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results get the rights any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if durable:
            with opened(temporary, "rb+") as file:
                os.fsync(file.fileno())
        replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error tells more
            remove(temporary)
        raise


def write_json(path: Path | str, data: Any) -> None:
    """Writes `data` as indented UTF-8 JSON, atomically.

    Raises:
        ValueError: `data` holds NaN or infinities.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_array(path: Path | str, array: np.ndarray, durable: bool = True) -> None:
    """Writes one array as .npy, atomically.

    Args:
        path: The file.
        array: The array.
        durable: See `atomic_path`.

    Raises:
        OSError: It cannot be written whole.
    """
    with atomic_path(path, durable=durable) as temporary:
        write_plain_array(temporary, array)


def write_plain_array(path: Path, array: np.ndarray) -> None:
    """Writes one array as .npy, not atomically: for a temporary file.

    Raises:
        OSError: It cannot be written whole.
    """
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # np.save writes through a buffer of C's: on a full disk the last bytes get lost in silence.
        file.write(array.reshape(-1).view(np.uint8).data)


def append_line(path: Path, text: str) -> None:
    """Appends a line of UTF-8, on its own even after one that a full disk or a crash cut off.

    Raises:
        InputError: A link lies in the place of the file.
        OSError: It cannot be written.
    """
    with open_to_append(path) as file:
        begin = "" if _ends_whole(path) else "\n"
        file.write(f"{begin}{text}\n".encode())


def _ends_whole(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:  # seeking fails where nothing is in it
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
    return True


def sweep(folder: Path) -> None:
    """Removes the temporary files that killed writers left in a folder."""
    for path in folder.glob(PREFIX + "*"):
        with suppress(PermissionError):  # still held: the next sweep takes it
            remove(path)

"""Files as messages: in pieces, with length and checksum, and whole or not at all at their end."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..runfolder.atomic import atomic_path
from ..runfolder.file_retries import opened, remove
from .frames import FrameError, Frames, text_of, whole_of
from .run_files import place

PIECE = 256 << 10  # bytes
# A file that is held open cannot be replaced on Windows: all but the largest are read at once.
READ_WHOLE = 256 << 20
MOST_AT_ONCE = 8  # files that arrive at the same time
MOST_TAKEN = 16 << 20  # bytes of a file that is not written as it is
KINDS = ("file", "piece", "whole", "removed")


class Sender:
    """Sends files of a run folder.

    Args:
        frames: The connection.
        root: The run folder.
    """

    def __init__(self, frames: Frames, root: Path):
        self._frames, self._root = frames, root
        self._number = 0

    def send(self, path: str) -> None:
        """Sends a file; one that has gone meanwhile is not sent."""
        for _ in self.pieces(path):
            pass

    def pieces(self, path: str) -> Iterator[int]:
        """Sends a file piece by piece, between which others may be sent.

        Yields:
            Bytes that were sent since.
        """
        self._number += 1
        number, checksum = self._number, hashlib.sha256()
        try:
            file = opened(self._root / path, "rb")
        except FileNotFoundError:
            return
        with file:
            # Of a file that grows, what is there now: the rest is sent with its next change.
            size = left = file.seek(0, 2)
            file.seek(0)
            whole = file.read(size) if size <= READ_WHOLE else None
            if whole is not None:
                file.close()
            self._frames.send("file", number=number, path=path, length=size)
            while left:
                begin = size - left
                data = _piece(file, left) if whole is None else whole[begin : begin + PIECE]
                if not data:
                    return  # it became shorter: it is sent again, since it has changed
                checksum.update(data)
                self._frames.send("piece", data, number=number)
                left -= len(data)
                yield len(data)
        self._frames.send("whole", number=number, sha256=checksum.hexdigest())

    def removed(self, path: str) -> None:
        """Tells that a file has gone."""
        self._frames.send("removed", path=path)


def _piece(file: BinaryIO, left: int) -> bytes:
    return file.read(min(PIECE, left))


@dataclass
class _Coming:
    path: str
    writing: AbstractContextManager[Path] | None  # None where its content is taken
    file: BinaryIO
    left: int
    checksum: Any


class Receiver:
    """Writes the files that come: under a temporary name, renamed once they are whole.

    Args:
        root: The run folder.
        accepted: The forms of paths that may come.
        durable: Whether content reaches the disk before its new name (see `atomic_path`).
        taken: Files that are not written, by path, each with what takes its content.
    """

    def __init__(
        self,
        root: Path,
        accepted: re.Pattern[str],
        durable: bool = False,
        taken: Mapping[str, Callable[[bytes], None]] | None = None,
    ):
        self._root, self._accepted, self._durable = root, accepted, durable
        self._taken = taken or {}
        self._coming: dict[int, _Coming] = {}

    def handle(self, header: dict, payload: bytes) -> None:
        """Takes one message of KINDS.

        Raises:
            FrameError: It does not fit those before it: a file arrives incomplete or changed.
            PathError: Its path is none that may come.
            OSError: It cannot be written.
        """
        kind, number = header["kind"], whole_of(header, "number")
        if kind == "removed":
            path = text_of(header, "path")
            target = place(self._root, path, self._accepted)
            if path not in self._taken:
                remove(target)
        elif kind == "file":
            self._begin(number, text_of(header, "path"), whole_of(header, "length", -1))
        elif number not in self._coming:
            raise FrameError("a piece of no file")
        elif kind == "piece":
            coming = self._coming[number]
            coming.left -= len(payload)
            if coming.left < 0:
                raise FrameError(f"{coming.path} is longer than was announced")
            coming.checksum.update(payload)
            coming.file.write(payload)
        else:
            self._end(number, text_of(header, "sha256"))

    def _begin(self, number: int, path: str, length: int) -> None:
        target = place(self._root, path, self._accepted)
        if length < 0:
            raise FrameError(f"{path} without a length")
        for other in [n for n, c in self._coming.items() if c.path == path]:
            self._drop(other)  # a newer one comes instead
        if len(self._coming) >= MOST_AT_ONCE or number in self._coming:
            raise FrameError("too many files at once")
        writing: AbstractContextManager[Path] | None = None
        file: BinaryIO
        if path in self._taken:
            if length > MOST_TAKEN:
                raise FrameError(f"{path} of {length} bytes")
            file = io.BytesIO()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            writing = atomic_path(target, durable=self._durable)
            file = writing.__enter__().open("wb")
        self._coming[number] = _Coming(path, writing, file, length, hashlib.sha256())

    def _end(self, number: int, checksum: str) -> None:
        coming = self._coming[number]
        if coming.left or coming.checksum.hexdigest() != checksum:
            self._drop(number)
            raise FrameError(f"{coming.path} has arrived incomplete or changed")
        del self._coming[number]
        if isinstance(coming.file, io.BytesIO):
            self._taken[coming.path](coming.file.getvalue())
        coming.file.close()
        if coming.writing is not None:
            coming.writing.__exit__(None, None, None)

    def _drop(self, number: int) -> None:
        coming = self._coming.pop(number)
        with suppress(OSError):
            coming.file.close()
        if coming.writing is None:
            return
        with suppress(FrameError):
            error = FrameError("dropped")
            coming.writing.__exit__(FrameError, error, None)

    def close(self) -> None:
        """Removes what has not arrived whole."""
        for number in list(self._coming):
            self._drop(number)

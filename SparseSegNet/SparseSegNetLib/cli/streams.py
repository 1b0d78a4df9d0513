"""The command line's standard streams, in whatever state the shell hands them over."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


class Messages(io.TextIOBase):
    """A stream of messages for people that goes on when nobody can read them any more.

    A pipe whose reader has ended, or a terminal that has gone, must not end a training.

    Args:
        stream: Where the messages go.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text, if it can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, if that is possible."""
        with suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        """The stream's file descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """True if the stream is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return self._stream.encoding


def prepare_streams() -> None:
    r"""Makes standard output and error usable, before a command begins.

    A closed one leads nowhere: its file number would be given to the next file that is opened,
    into which messages of libraries would then be written. Characters that the encoding of a
    stream does not have are written as escapes such as ``\u2026``.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for the whole process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)
    sys.stderr = Messages(sys.stderr)


def discard_output() -> None:
    """Has what was printed and not read go nowhere, so that it is no error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

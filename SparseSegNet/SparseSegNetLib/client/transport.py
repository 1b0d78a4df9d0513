"""Chooses how child processes are run: as a QProcess in Slicer, with pipes elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, Protocol


class Transport(Protocol):
    """A child process that is written to and read from without waiting."""

    def send(self, line: bytes) -> None:
        """Writes a command; if the child has ended, nothing happens."""

    def receive(self, timeout: float = 0.0) -> tuple[str, Any] | None:
        """Next chunk: ("out" | "err", bytes), at last ("end", exit code); None if there is none."""

    def close_input(self) -> None:
        """Closes the child's stdin."""

    def kill(self) -> None:
        """Ends the child, and the processes that it started, at once."""


def start(arguments: list[str]) -> Transport:
    """Starts Python with these arguments: as a QProcess in Slicer, with pipes elsewhere.

    In Slicer Python's threads stand still while the event loop waits, so that pipes that are read
    by threads would run full.

    Raises:
        EngineError: The process cannot be started.
    """
    if "qt" in sys.modules or importlib.util.find_spec("qt") is not None:
        from .qprocess_transport import QProcessTransport

        return QProcessTransport(arguments)
    from .popen_transport import PopenTransport

    return PopenTransport(arguments)

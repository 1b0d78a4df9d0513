"""Chooses how child processes are run: as a QProcess in Slicer, with pipes elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

from .interpreter import Interpreter, chosen, in_slicer


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


def start(arguments: list[str], interpreter: Interpreter | None = None) -> Transport:
    """Starts Python with these arguments: as a QProcess in Slicer, with pipes elsewhere.

    In Slicer Python's threads stand still while the event loop waits, so that pipes that are read
    by threads would run full.

    Args:
        arguments: Python's arguments.
        interpreter: The Python; the one that was chosen for the engine by default.

    Raises:
        EngineError: The process cannot be started.
    """
    interpreter = interpreter or chosen()
    if in_slicer():
        from .qprocess_transport import QProcessTransport

        return QProcessTransport(arguments, interpreter)
    from .popen_transport import PopenTransport

    return PopenTransport(arguments, interpreter)

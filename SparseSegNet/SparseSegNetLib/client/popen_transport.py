"""Runs the engine as a child process with pipes, for scripts, tests and the command line."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from contextlib import suppress
from io import BufferedReader
from typing import IO, Any, cast

from .interpreter import Interpreter, this_python
from .processes import cannot_start, command_of, engine_environment, kill_tree


class PopenTransport:
    """Child process whose output is read by two threads into one queue.

    Args:
        arguments: Python's arguments.
        interpreter: The Python to run; this process's by default.

    Raises:
        EngineError: The process cannot be started.
    """

    def __init__(self, arguments: list[str], interpreter: Interpreter | None = None):
        # A process group of its own: Ctrl-C in the terminal reaches the client alone, which then
        # asks the engine to stop and keep its best result.
        group: dict[str, Any]
        if sys.platform == "win32":
            group = {
                "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            }
        else:
            group = {"start_new_session": True}
        interpreter = interpreter or this_python()
        try:
            self._process = subprocess.Popen(
                command_of(arguments, interpreter),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=engine_environment(interpreter),
                **group,
            )
        except OSError as error:
            raise cannot_start(interpreter.python, error.strerror or str(error)) from error
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._queue: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._open = 2
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            threading.Thread(target=self._read, args=(name, stream), daemon=True).start()

    def _read(self, name: str, stream: BufferedReader) -> None:
        while chunk := stream.read1(65536):
            self._queue.put((name, chunk))
        stream.close()
        self._queue.put((name, b""))

    def send(self, line: bytes) -> None:
        """Writes a command; if the child has ended, nothing happens: `receive` reports its end."""
        with suppress(OSError, ValueError):
            self._stdin.write(line)
            self._stdin.flush()

    def receive(self, timeout: float = 0.0) -> tuple[str, Any] | None:
        """Next chunk of output, for which it waits at most `timeout` seconds.

        Returns:
            ("out" or "err", bytes); once both streams have ended, ("end", exit code); None if
            there is nothing.
        """
        try:
            name, chunk = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
        if chunk:
            return name, chunk
        self._open -= 1
        if self._open:
            return self.receive(timeout)
        return "end", self._process.wait()

    def close_input(self) -> None:
        """Closes the child's stdin, upon which the engine ends by itself."""
        with suppress(OSError):
            self._stdin.close()

    def kill(self) -> None:
        """Ends the child, and the processes that it started, at once."""
        kill_tree(self._process.pid)

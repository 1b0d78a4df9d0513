"""Runs the engine as a child process with pipes, for scripts, tests and the command line."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress

from .processes import cannot_start, engine_environment, kill_tree


class PopenTransport:
    """Child process whose output is read by two threads into one queue.

    `receive` never blocks unless asked to; it gives ("out" | "err", bytes) chunks and, once both
    streams have ended, ("end", exit code). Raises EngineError when nothing starts.
    """

    def __init__(self, arguments: list[str], python: str | None = None):
        # A process group of its own: Ctrl-C in the terminal reaches the client alone, which then
        # asks the engine to stop and keep its best result.
        if os.name == "nt":
            apart = {
                "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            }
        else:
            apart = {"start_new_session": True}
        python = python or sys.executable
        try:
            self._process = subprocess.Popen(
                [python, "-u", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=engine_environment(),
                **apart,
            )
        except OSError as error:
            raise cannot_start(python, error.strerror or str(error)) from error
        self._queue: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._open = 2
        for name, stream in (("out", self._process.stdout), ("err", self._process.stderr)):
            threading.Thread(target=self._read, args=(name, stream), daemon=True).start()

    def _read(self, name: str, stream) -> None:
        while chunk := stream.read1(65536):
            self._queue.put((name, chunk))
        stream.close()
        self._queue.put((name, b""))

    def send(self, line: bytes) -> None:
        """Write a command; a child that has gone is not an error here, its end tells."""
        with suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def receive(self, timeout: float = 0.0) -> tuple[str, bytes | int] | None:
        """The next chunk, waiting at most `timeout` seconds for it; None when there is none."""
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
        """Close the child's stdin, on which the engine ends by itself."""
        with suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the child, and what it has started, at once."""
        kill_tree(self._process.pid)

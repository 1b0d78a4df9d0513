"""Runs the engine as a QProcess, for Slicer: without threads."""

from __future__ import annotations

import os
from typing import Any

import qt

from .interpreter import Interpreter, this_python
from .processes import cannot_start, command_of, engine_environment, kill_tree

START = 10_000  # milliseconds for the system to start a program
GONE = 1_000  # milliseconds that a killed program may take to end; it takes few


class QProcessTransport:
    """Child process like that of `PopenTransport`, by Qt's means.

    Args:
        arguments: Python's arguments.
        interpreter: The Python to run; this process's by default.

    Raises:
        EngineError: The process cannot be started.
    """

    def __init__(self, arguments: list[str], interpreter: Interpreter | None = None):
        interpreter = interpreter or this_python()
        environment = qt.QProcessEnvironment()
        for name, value in engine_environment(interpreter).items():
            environment.insert(name, value)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        program, *rest = command_of(arguments, interpreter)
        self._process.start(program, rest)
        if not self._process.waitForStarted(START):
            raise cannot_start(interpreter.python, self._process.errorString())
        self._pid = int(self._process.processId())
        self._ended = False

    def send(self, line: bytes) -> None:
        """Writes a command; if the child has ended, nothing happens: `receive` reports its end."""
        if self._running():
            self._process.write(line)

    def receive(self, timeout: float = 0.0) -> tuple[str, Any] | None:
        """Next chunk of output, for which it waits at most `timeout` seconds.

        Returns:
            ("out" or "err", bytes); once the process has ended, ("end", exit code); None if
            there is nothing.
        """
        if self._ended:
            return None
        self._process.waitForReadyRead(round(1000 * timeout))
        for name, read in (
            ("out", self._process.readAllStandardOutput),
            ("err", self._process.readAllStandardError),
        ):
            if chunk := _bytes(read()):
                return name, chunk
        if self._running():
            return None
        self._ended = True
        return "end", self._exit_code()

    def _exit_code(self) -> int:
        """Exit code as in subprocess: negative for the signal that ended the process."""
        code = int(self._process.exitCode())
        crashed = self._process.exitStatus() == qt.QProcess.CrashExit
        return -code if crashed and os.name != "nt" else code

    def _running(self) -> bool:
        return self._process.state() != qt.QProcess.NotRunning

    def close_input(self) -> None:
        """Closes the child's stdin, upon which the engine ends by itself."""
        if self._running():
            self._process.closeWriteChannel()

    def kill(self) -> None:
        """Ends the child, and the processes that it started, at once."""
        kill_tree(self._pid)
        if self._running():
            self._process.kill()
            self._process.waitForFinished(GONE)


def _bytes(value: Any) -> bytes:
    """Content of a QByteArray; some versions of PythonQt return bytes or text instead of one."""
    data = value if isinstance(value, (bytes, str)) else value.data()
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)

"""Runs the engine as a QProcess, for Slicer: no threads, driven by the event loop or by waiting."""

from __future__ import annotations

import os
import sys

import qt

from .processes import cannot_start, engine_environment, kill_tree

START = 10_000  # milliseconds for the system to start a program
GONE = 1_000  # milliseconds that a killed program may take to go; it takes few


class QProcessTransport:
    """The same as `PopenTransport`, by Qt's means. Raises EngineError when nothing starts."""

    def __init__(self, arguments: list[str], python: str | None = None):
        environment = qt.QProcessEnvironment()
        for name, value in engine_environment().items():
            environment.insert(name, value)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        self._process.start(python or sys.executable, ["-u", *arguments])
        if not self._process.waitForStarted(START):
            raise cannot_start(python or sys.executable, self._process.errorString())
        self._pid = int(self._process.processId())
        self._ended = False

    def send(self, line: bytes) -> None:
        """Write a command; a child that has gone is not an error here, its end tells."""
        if self._running():
            self._process.write(line)

    def receive(self, timeout: float = 0.0) -> tuple[str, bytes | int] | None:
        """The next chunk, waiting at most `timeout` seconds for it; None when there is none."""
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
        """As subprocess has it: negative for the signal that ended the process."""
        code = int(self._process.exitCode())
        crashed = self._process.exitStatus() == qt.QProcess.CrashExit
        return -code if crashed and os.name != "nt" else code

    def _running(self) -> bool:
        return self._process.state() != qt.QProcess.NotRunning

    def close_input(self) -> None:
        """Close the child's stdin, on which the engine ends by itself."""
        if self._running():
            self._process.closeWriteChannel()

    def kill(self) -> None:
        """End the child, and what it has started, at once."""
        kill_tree(self._pid)
        if self._running():
            self._process.kill()
            self._process.waitForFinished(GONE)


def _bytes(value) -> bytes:
    """What a QByteArray holds; versions of PythonQt give bytes at once, or text."""
    data = value if isinstance(value, (bytes, str)) else value.data()
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)

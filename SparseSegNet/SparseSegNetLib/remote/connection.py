"""Begins a connection: runs the SSH command, and brings our code to the Python at its other end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from ..client.foreign import outside_slicer
from ..client.processes import kill_tree
from ..errors import EngineError
from ..runfolder.disk_faults import disk_full
from .frames import FrameError, Frames, text_of, whole_of
from .package import LOADER, MARK, OLDEST, archive, first_line
from .ssh_command import full_command, host
from .ssh_faults import no_answer

TO_ANSWER = 90.0  # seconds until a Python over there has to have answered
TO_END = 3.0  # seconds for the SSH command to end by itself
MOST_LINES = 500  # that a login may print before Python answers
LONGEST_LINE = 64 << 10


class Connection:
    """A connection to the agent over there.

    Args:
        command: The SSH command.
        python: What the shell over there runs as Python.

    Attributes:
        frames: Messages to and from the agent.
        host: Name of the other computer.

    Raises:
        EngineError: No connection comes about; the code says why.
        InputError: The SSH command cannot be read.
    """

    def __init__(self, command: str, python: str):
        self._command, self._python = command, python
        self.host = host(command)
        self._printed: deque[str] = deque(maxlen=50)
        group: dict[str, Any] = {}
        if sys.platform == "win32":
            group = {"creationflags": subprocess.CREATE_NO_WINDOW}
        try:
            self._process = subprocess.Popen(
                full_command(command, f"{python} {LOADER}"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=outside_slicer(os.environ),  # Slicer's libraries are not for ssh
                **group,
            )
        except OSError as error:
            raise EngineError(
                "ssh-missing",
                f"the SSH command cannot be started: {error.strerror or error}.",
                f"Does '{command}' work in a terminal?",
            ) from error
        self._in = cast(IO[bytes], self._process.stdin)
        self._out = cast(IO[bytes], self._process.stdout)
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        try:
            with self._patience():
                self._greet()
        except BaseException:
            self.close()
            raise
        self.frames = Frames(cast(Any, self._out), cast(Any, self._in))

    @contextmanager
    def _patience(self) -> Iterator[None]:
        timer = threading.Timer(TO_ANSWER, self.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _read_errors(self) -> None:
        for line in cast(IO[bytes], self._process.stderr):
            self._printed.append(line[:1000].decode("utf-8", "replace"))
            with suppress(OSError, ValueError):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()

    def _greet(self) -> None:
        code = archive()
        self._write(first_line(code))
        self._skip_to_mark()
        about = self._line()
        version = about.get("python")
        if not (isinstance(version, list) and all(type(n) is int for n in version)):
            raise self._strange()
        if version < OLDEST:
            raise EngineError(
                "remote-python",
                f"{self.host} runs Python {'.'.join(map(str, version))} "
                f"({text_of(about, 'program', 200)}), and 3.11 or later is needed.",
                "Name another Python there as remote Python (--remote-python).",
            )
        if self._line().get("known") is not True:
            self._write(code)
        if (answer := self._line()).get("ready") is True:
            return
        if not (fault := text_of(answer, "fault", 500)):
            raise self._strange()
        if disk_full(OSError(whole_of(answer, "number"), fault)):
            raise EngineError(
                "remote-disk-full",
                f"the disk of {self.host}, or your quota on it, is full ({fault}).",
                "Free some space there, or have SPARSESEGNET_DATA name another folder there.",
            )
        raise EngineError(
            "remote",
            f"the engine's code cannot be written on {self.host}: {fault}.",
            "Allow writing there, or have SPARSESEGNET_DATA name another folder there.",
        )

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # it has ended: what it printed says why
            self._in.write(data)
            self._in.flush()

    def _skip_to_mark(self) -> None:
        """Skips what a login prints before Python answers."""
        before: deque[str] = deque(maxlen=20)
        for _ in range(MOST_LINES):
            line = self._out.readline(LONGEST_LINE)
            if line.rstrip().endswith(MARK.encode()):
                return
            if not line:
                break
            before.append(line[:1000].decode("utf-8", "replace"))
        raise no_answer(
            self._command, self._python, self._ended(), "".join([*before, *self._printed])
        )

    def _ended(self) -> int | None:
        """Exit code of the SSH command, whose last words are read; None if it has to be ended."""
        try:
            code = self._process.wait(TO_END)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._errors.join(TO_END)
        return code

    def _line(self) -> dict:
        line = self._out.readline(LONGEST_LINE)
        if not line:
            raise self.lost()
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
        raise self._strange()

    def _strange(self) -> EngineError:
        return EngineError(
            "remote",
            f"{self.host} answers with something else than our code.",
            "Does a login script there print text, or is the remote Python no Python?",
        )

    def lost(self, reason: Exception | None = None) -> EngineError:
        """Error of a connection that ended before the engine did.

        Args:
            reason: What showed it, if it was not the end itself.
        """
        self._ended()
        last = next(filter(None, reversed([s.strip() for s in self._printed])), "")
        said = f" (last: '{last[:200]}')" if last else ""
        damaged = f": {reason}" if isinstance(reason, FrameError) else ""
        return EngineError(
            "connection-lost",
            f"the connection to {self.host} was lost{damaged}{said}.",
            "Try again once the connection works.",
        )

    def kill(self) -> None:
        """Ends the SSH command at once."""
        with suppress(OSError):
            self._process.kill()
        if sys.platform == "win32":
            kill_tree(self._process.pid)

    def close(self) -> None:
        """Ends the connection; the other side ends by itself then."""
        with suppress(OSError, ValueError):
            self._in.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(TO_END)
            return
        self.kill()

"""Follows installations: of missing packages in this Python, or of the engine's own environment."""

from __future__ import annotations

import importlib
import json
import time
from collections import deque
from collections.abc import Sequence

from ..errors import EngineError
from ..runfolder.protocol import LineBuffer
from ..runfolder.requirements import SAFETENSORS, TORCH
from .installation_failures import explain
from .interpreter import this_python
from .processes import kill_group
from .transport import Transport, start

LIGHT_THE_TORCH = "light-the-torch>=0.5"
REMAINS = "SparseSegNetLib.client.torch_cleanup"
STEPS = "SparseSegNetLib.client.installing"
ENVIRONMENT = "SparseSegNetLib.client.make_environment"


def steps(
    lacking: Sequence[str], repair: bool = False, torch_arguments: Sequence[str] | None = None
) -> list[list[str]]:
    """Steps of an installation.

    Args:
        lacking: The packages to install (see `interpreter.missing`).
        repair: Remove all files of torch first and install everything again.
        torch_arguments: Arguments for light-the-torch, as the PyTorch extension chooses them.

    Returns:
        Arguments for Python, one list per step.
    """
    found = [["-m", REMAINS]] if repair else []
    if repair or "torch" in lacking:
        arguments = [
            a
            for a in (torch_arguments or ["install", TORCH])
            if not a.startswith(("torchvision", "torchaudio"))
        ]
        found += [["-m", "pip", "install", LIGHT_THE_TORCH], ["-m", "light_the_torch", *arguments]]
    if repair or "safetensors" in lacking:
        found.append(["-m", "pip", "install", SAFETENSORS])
    return found


class Installation:
    """Follows an installing process, driven by `poll`, which never waits.

    Args:
        arguments: Python's arguments for the process (see `in_this_python`).

    Attributes:
        state: 'running', 'done', 'failed' or 'cancelled'.
        step: Number of the current step, from 1, and number of steps.
        size: Bytes that have come of the current step, or in all; None while unknown.
        total: Bytes that are to come of the same, None where nobody knows.
        said: The newest line of output.
        lines: The last lines of all output, for a report.
        problem: Cause and remedy, of an installation that failed.
    """

    def __init__(self, arguments: list[str]):
        self.state, self.said = "running", ""
        self.step = (1, 1)
        self.size: int | None = None
        self.total: int | None = None
        self.lines: deque[str] = deque(maxlen=200)
        self.problem: EngineError | None = None
        self._begun = time.monotonic()
        self._pid: int | None = None
        self._code = 1
        self._buffers = {"out": LineBuffer(), "err": LineBuffer()}
        self._transport: Transport | None = None
        try:
            self._transport = start(arguments, this_python())
        except EngineError as error:
            self.state, self.problem = "failed", error

    @property
    def seconds(self) -> float:
        """Seconds since the installation began."""
        return time.monotonic() - self._begun

    def poll(self) -> str:
        """Handles the output so far. Returns the state."""
        for _ in range(50):  # a step with much output must not block the panel
            if self.state != "running" or self._transport is None:
                break
            chunk = self._transport.receive()
            if chunk is None:
                break
            stream, data = chunk
            if stream == "end":
                self._ended(data)
            else:
                self._read_output(stream, data)
        return self.state

    def cancel(self) -> None:
        """Ends the installation, with all that it started, at once."""
        if self.state != "running":
            return
        self.state = "cancelled"
        if self._transport is not None:
            self._transport.close_input()  # all that a launcher's child needs to end
            self._end_group()
            self._transport.kill()

    def _end_group(self) -> None:
        if self._pid is not None:
            kill_group(self._pid)

    def _ended(self, code: int) -> None:
        for name in self._buffers:
            self._read_output(name, b"\n")
        if code == 0:
            importlib.invalidate_caches()
            self.state = "done"
            return
        self._end_group()  # where the process itself was killed, what it started goes on
        self.state = "failed"
        if self.problem is None:
            self.problem = explain(list(self.lines), self._code if code == 1 else code)

    def _read_output(self, stream: str, data: bytes) -> None:
        for line in self._buffers[stream].feed(data):
            if not (text := line.decode("utf-8", "replace").strip()):
                continue
            try:
                event = json.loads(text) if text.startswith("{") else {}
            except ValueError:
                event = {}
            if stream == "out" and isinstance(event, dict) and "event" in event:
                self._handle(event)
            else:
                self._say(text)

    def _say(self, text: str) -> None:
        self.said = text
        self.lines.append(text)

    def _handle(self, event: dict) -> None:
        kind = event["event"]
        if kind == "started":
            self._pid = int(event["pid"])
        elif kind == "step":
            self.step = event["number"], event["count"]
            self.size = self.total = None
        elif kind == "size":
            self.size, self.total = event["bytes"], event.get("total")
        elif kind == "said":
            self._say(event["line"])
        elif kind == "failed":
            self._code = event.get("code", self._code)
            if "cause" in event:
                self.problem = EngineError(event["problem"], event["cause"], event["remedy"])


def in_this_python(todo: Sequence[Sequence[str]]) -> Installation:
    """Starts an installation in this Python.

    Args:
        todo: Arguments for Python, one sequence per step (see `steps`).
    """
    return Installation(["-m", STEPS, json.dumps([list(step) for step in todo])])


def of_own_environment() -> Installation:
    """Starts to make the engine's own environment; what there is of it is removed first."""
    return Installation(["-m", ENVIRONMENT, "make"])


def removal_of_own_environment() -> Installation:
    """Starts to remove the engine's own environment."""
    return Installation(["-m", ENVIRONMENT, "remove"])

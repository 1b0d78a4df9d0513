"""Installs the packages that the engine needs, step by step in child processes."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from collections.abc import Sequence

from ..errors import EngineError
from ..runfolder.protocol import LineBuffer
from .transport import Transport, start

TORCH, SAFETENSORS, LIGHT_THE_TORCH = "torch>=2.4", "safetensors>=0.4", "light-the-torch>=0.5"
REMAINS = "SparseSegNetLib.client.torch_cleanup"


def missing() -> list[str]:
    """Names of the engine's packages (torch, safetensors) that are not installed.

    Nothing is imported. A bare folder that an interrupted installation left is no package.
    """
    names = []
    for name in ("torch", "safetensors"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            names.append(name)
    return names


def steps(
    lacking: Sequence[str], repair: bool = False, torch_arguments: Sequence[str] | None = None
) -> list[list[str]]:
    """Steps of an installation.

    Args:
        lacking: The packages to install (see `missing`).
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
    """Runs the steps of an installation one after the other, driven by `poll`, which never waits.

    Args:
        todo: Arguments for Python, one sequence per step (see `steps`).

    Attributes:
        state: 'running', 'done', 'failed' or 'cancelled'.
        said: The newest line of output.
        lines: The last lines of all output, for a report.
    """

    def __init__(self, todo: Sequence[Sequence[str]]):
        self._todo = deque(list(step) for step in todo)
        self._count = len(self._todo)
        self._begun = time.monotonic()
        self._transport: Transport | None = None
        self._buffers = {"out": LineBuffer(), "err": LineBuffer()}
        self.state, self.said = "running", ""
        self.lines: deque[str] = deque(maxlen=200)

    @property
    def step(self) -> tuple[int, int]:
        """Number of the current step, from 1, and number of steps."""
        return self._count - len(self._todo), self._count

    @property
    def seconds(self) -> float:
        """Seconds since the installation began."""
        return time.monotonic() - self._begun

    def poll(self) -> str:
        """Reads the current step's output and starts the next step. Returns the state."""
        if self.state != "running":
            return self.state
        if self._transport is None:
            self._next()
            return self.state
        for _ in range(50):  # a step with much output must not block the panel
            chunk = self._transport.receive()
            if chunk is None:
                break
            stream, data = chunk
            if stream != "end":
                self._read_output(stream, data)
                continue
            for name in self._buffers:
                self._read_output(name, b"\n")
            self._transport = None
            if data != 0:
                self.state = "failed"
            elif not self._todo:
                importlib.invalidate_caches()
                self.state = "done"
            break
        return self.state

    def cancel(self) -> None:
        """Ends the installation at once; a half installed package can be repaired."""
        if self.state == "running":
            self.state = "cancelled"
            if self._transport is not None:
                self._transport.kill()

    def _next(self) -> None:
        if not self._todo:
            self.state = "done"
            return
        try:
            self._transport = start(self._todo.popleft())
        except EngineError as error:
            self.state = "failed"
            self.lines.append(str(error))

    def _read_output(self, stream: str, data: bytes) -> None:
        for line in self._buffers[stream].feed(data):
            if text := line.decode("utf-8", "replace").strip():
                self.said = text
                self.lines.append(text)

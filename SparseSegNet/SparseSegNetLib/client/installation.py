"""Installs what the engine needs, step by step in child processes, without waiting."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from collections.abc import Sequence

from ..errors import EngineError
from ..runfolder.protocol import LineBuffer
from .transport import start

TORCH, SAFETENSORS, LIGHT_THE_TORCH = "torch>=2.4", "safetensors>=0.4", "light-the-torch>=0.5"
REMAINS = "SparseSegNetLib.client.torch_cleanup"


def missing() -> list[str]:
    """Which of the engine's two packages cannot be found; nothing is imported.

    A bare folder that a broken-off installation left is no package.
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
    """Arguments for Python, one list per step.

    torch_arguments: those of light-the-torch, as the PyTorch extension chooses them.
    repair: take away what there is of torch first.
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
    """state: 'running', 'done', 'failed' or 'cancelled'.  said: the newest line.  lines: the
    last of all output, for a report.  seconds: since it began."""

    def __init__(self, todo: Sequence[Sequence[str]]):
        self._todo = deque(list(step) for step in todo)
        self._count = len(self._todo)
        self._begun = time.monotonic()
        self._transport = None
        self._buffers = {"out": LineBuffer(), "err": LineBuffer()}
        self.state, self.said = "running", ""
        self.lines: deque[str] = deque(maxlen=200)

    @property
    def step(self) -> tuple[int, int]:
        """Which step of how many, from 1."""
        return self._count - len(self._todo), self._count

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def poll(self) -> str:
        """Take in what the present step says; begin the next one. Returns the state."""
        if self.state != "running":
            return self.state
        if self._transport is None:
            self._next()
            return self.state
        for _ in range(50):  # a talkative step must not hold up the panel
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
        """End it at once; what is half installed can be repaired."""
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

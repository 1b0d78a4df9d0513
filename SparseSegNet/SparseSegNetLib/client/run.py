"""A training run as its user sees it: state, progress, metrics, stop, cancel, result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from ..errors import EngineError, InputError
from ..run.folder import RunFolder
from .popen_transport import PopenTransport
from .protocol import LineBuffer, decode, encode

WORKER = "SparseSegNetLib.engine.worker"
ENDED = ("done", "failed", "cancelled")
STATE_OF_PHASE = {"correcting bias": "preparing", "probing": "preparing",
                  "comparing slices": "preparing", "predicting": "finishing"}
EXIT_CANCELLED = 3


class Run:
    """Starts the engine on a run folder and follows it.

    state: preparing, training, finishing, done, failed or cancelled.
    progress: the newest ``progress`` event (step, loss, seconds, remaining, fraction, phase).
    metrics: all ``metrics`` events.  plan: the engine's plan once known.
    error: EngineError when failed.  Observers are called with each event, a dictionary, from
    within `poll`, in the thread that calls it.
    """

    def __init__(self, folder: RunFolder, transport=None):
        self.folder = folder
        self.state = "preparing"
        self.progress: dict = {}
        self.metrics: list[dict] = []
        self.warnings: list[str] = []
        self.plan: dict | None = None
        self.summary: dict = {}
        self.error: EngineError | None = None
        self._observers: list[Callable[[dict], None]] = []
        self._lines = LineBuffer()
        self._complaint = ""
        self._chatter = ""
        self._complaint_lines = LineBuffer()
        self._log = folder.log_path.open("ab")
        self._done: dict | None = None
        self._reported: EngineError | None = None
        self._cancelling = False
        self._transport = transport or PopenTransport(["-m", WORKER, str(folder.path)])

    def observe(self, observer: Callable[[dict], None]) -> None:
        self._observers.append(observer)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def poll(self) -> str:
        """Take in what the engine has said so far, without waiting. Returns the state."""
        return self._take_in(0.0)

    def wait(self, timeout: float | None = None) -> str:
        """Follow the run until it ends or `timeout` seconds have passed. Returns the state."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.ended and (end is None or time.monotonic() < end):
            # Short waits, so that Ctrl-C is answered on every platform.
            self._take_in(0.2)
        return self.state

    def stop(self) -> None:
        """End training now, keep the best result so far: predict, then finish as done."""
        if not self.ended:
            self._transport.send(encode("command", "stop"))

    def cancel(self, patience: float = 3.0) -> None:
        """Give the run up. The engine is asked first and killed after `patience` seconds."""
        if self.ended:
            return
        self._cancelling = True
        self._transport.send(encode("command", "cancel"))
        self._transport.close_input()
        if self.wait(patience) not in ENDED:
            self._transport.kill()
            self.wait(patience)

    def result(self, number: int = 1) -> np.ndarray:
        """Dense labels uint8 (k, j, i) of input `number`; raises the run's error if it failed."""
        if self.error is not None:
            raise self.error
        if self.state != "done":
            raise InputError(f"the run has no result: it is {self.state}.")
        return self.folder.read_result(number)

    def _take_in(self, timeout: float) -> str:
        while not self.ended and (chunk := self._transport.receive(timeout)) is not None:
            timeout = 0.0
            stream, data = chunk
            if stream == "end":
                self._end(data)
            elif stream == "err":
                self._complain(data)
            else:
                for line in self._lines.feed(data):
                    event = decode(line, "event")
                    if event is None:
                        self._chatter = self._write_log([line]) or self._chatter
                    else:
                        self._handle(event)
        return self.state

    def _complain(self, data: bytes) -> None:
        self._complaint = self._write_log(self._complaint_lines.feed(data)) or self._complaint

    def _write_log(self, lines: list[bytes]) -> str:
        """Whole lines only, since two streams share the log. Returns the last that says
        something."""
        with suppress(OSError):  # a full disk must not hide why the engine failed
            self._log.writelines(line + b"\n" for line in lines)
            self._log.flush()
        said = (line.decode("utf-8", "replace").strip() for line in reversed(lines))
        return next(filter(None, said), "")

    def _handle(self, event: dict) -> None:
        kind = event["event"]
        if kind == "plan":
            self.plan = event
        elif kind == "progress":
            self.progress = event
            self.state = STATE_OF_PHASE.get(event.get("phase"), "training")
        elif kind == "metrics":
            self.metrics.append(event)
        elif kind in ("warning", "oom-recovered"):
            self.warnings.append(event["text"])
        elif kind == "done":
            self._done = event
        elif kind == "error":
            remedy = event.get("remedy", "")
            if event["code"] != "input":
                remedy = f"{remedy} The log is {self.folder.log_path}.".strip()
            self._reported = EngineError(event["code"], event["cause"], remedy)
        self._tell(event)

    def _end(self, code: int) -> None:
        if self._complaint_lines.rest:
            self._complain(b"\n")
        self._log.close()
        self._transport.close_input()
        if code == 0 and self._done is not None:
            self.summary = self._done
            self.state = "done"
        elif code == EXIT_CANCELLED or self._cancelling:
            self.state = "cancelled"
        else:
            self.error = self._reported or EngineError(
                "died", f"the engine ended without a result (exit code {code}). "
                        f"Its last words: {self._last_words()}",
                f"The log is {self.folder.log_path}.")
            self.state = "failed"
        self._tell({"event": "ended", "state": self.state})

    def _last_words(self) -> str:
        # Which of two pipes is read first is chance, but the reason of a death is on stderr.
        said = self._complaint or self._chatter
        return f"'{said[:300]}'." if said else "none."

    def _tell(self, event: dict) -> None:
        for observer in self._observers:
            observer(event)

"""A training run as its user sees it: state, progress, metrics, commands, result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import numpy as np

from ..annotation.slices import AnnotatedSlice
from ..errors import EngineError, InputError
from ..runfolder.changes import Changes
from ..runfolder.exit_codes import CANCELLED
from ..runfolder.folder import RunFolder
from ..runfolder.links import open_to_append
from ..runfolder.messages import ProtocolError, check_message
from ..runfolder.protocol import LineBuffer, decode, encode
from .processes import explain_end, interrupted_end, kill_tree
from .transport import start

WORKER = "SparseSegNetLib.engine.worker"
ENDED = ("done", "failed", "cancelled")
STATE_OF_PHASE = {
    "correcting bias": "preparing",
    "probing": "preparing",
    "predicting": "finishing",
    "paused": "paused",
}
ENDING = 8.0  # seconds that an engine whose client has left may take to end, and some more
SILENCE = 15.0  # seconds without a word from the engine until the client says so
LONGEST_POLL = 0.005  # seconds that `poll` takes in what has come; the rest comes with the next


def worker_arguments(
    folder: RunFolder, changes: str | None = None, patience: float = 0.0
) -> list[str]:
    """Python's arguments for an engine that has a client."""
    return [
        "-m",
        WORKER,
        str(folder.path),
        "--client",
        *(["--changes", changes] if changes else []),
        *(["--wait", str(patience)] if patience else []),
    ]


class EngineRun:
    """Starts the engine on a run folder and follows it.

    state: preparing, training, paused, finishing, done, failed or cancelled.
    progress: the newest ``progress`` event (step, loss, seconds, remaining, fraction, phase).
    metrics: all ``metrics`` events.  plan: the engine's plan once known.  silent: whether the
    engine has not been heard of for a while.
    error: EngineError when failed.  Observers are called with each event, a dictionary, from
    within `poll`, in the thread that calls it. Two events are the client's own: ``silent``
    (seconds, text) and ``ended`` (state).
    """

    def __init__(
        self,
        folder: RunFolder,
        transport=None,
        changes: Changes | None = None,
        patience: float = 0.0,
    ):
        """changes: what to go on with; the engine writes it, once it owns the folder.  patience:
        seconds that the engine waits for another one on this folder to end."""
        self.folder = folder
        self.state = "preparing"
        self.progress: dict = {}
        self.metrics: list[dict] = []
        self.warnings: list[str] = []
        self.plan: dict | None = None
        self.summary: dict = {}
        self.error: EngineError | None = None
        self.silent = False
        self._observers: list[Callable[[dict], None]] = []
        self._lines = LineBuffer()
        self._last_stderr = ""
        self._last_stdout = ""
        self._complaint_lines = LineBuffer()
        self._done: dict | None = None
        self._reported: EngineError | None = None
        self._protocol_error = ""
        self._cancelling = self._interrupting = False
        self._unsent: dict[int, tuple[np.ndarray, list[AnnotatedSlice]]] = {}
        self._owner = False  # whether the engine holds the folder's lock
        self._kill_at: float | None = None
        self._trained = False
        self._pid: int | None = None
        self._heard = time.monotonic()
        self._changes = None if changes is None else changes.handed()
        try:
            self._transport = transport or start(
                worker_arguments(folder, self._changes and self._changes.name, patience)
            )
        except BaseException:
            self._drop_changes()
            raise

    def observe(self, observer: Callable[[dict], None]) -> None:
        self._observers.append(observer)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def poll(self) -> str:
        """Take in what the engine has said so far, without waiting. Returns the state."""
        return self._read_output(0.0)

    def wait(self, timeout: float | None = None) -> str:
        """Follow the run until it ends or `timeout` seconds have passed. Returns the state."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.ended and (end is None or time.monotonic() < end):
            # Short waits, so that Ctrl-C is answered on every platform.
            self._read_output(0.2)
        return self.state

    def stop(self) -> None:
        """End training now, keep the best result so far: predict, then finish as done."""
        self._say("stop")

    def pause(self) -> None:
        """Let the engine rest, and free the GPU's memory, until `resume`. Its time stands still."""
        self._say("pause")

    def resume(self) -> None:
        """Go on after `pause`."""
        self._say("resume")

    def set_time_budget(self, seconds: float) -> None:
        """Change the time that the run may take in all, while it trains."""
        self._say("set", time_budget=float(seconds))

    def change_labels(
        self, labels: np.ndarray, slices: Iterable[AnnotatedSlice], number: int = 1
    ) -> None:
        """Train on other labels of input `number` from now on, without beginning anew.

        labels: uint8 (k, j, i), 255 = unlabelled.  slices: the annotated ones. Raises InputError
        when they do not fit the run, OSError when they cannot be written. Until the engine owns
        the run folder they are kept here.
        """
        if self.ended:
            raise InputError(f"the labels of a run that is {self.state} cannot be changed.")
        self.folder.check_new_labels(number, labels)
        if not self._owner:
            self._unsent[number] = labels.copy(), list(slices)
            return
        self.folder.write_labels(number, labels, list(slices))
        self._say("labels-changed", input=number)

    def _send_labels(self) -> None:
        """The engine owns the folder now: what was changed before can be written."""
        self._owner = True
        unsent, self._unsent = self._unsent, {}
        for number, (labels, slices) in unsent.items():
            try:
                self.change_labels(labels, slices, number)
            except OSError as error:
                self.warnings.append(
                    f"the changed labels cannot be written: {error.strerror or error}."
                )

    def preview(self, planes: Sequence[str] | None = None, number: int = 1) -> None:
        """Ask for the newest prediction: of these slices ('k:10', 'i:5,7'), or of everything.
        A ``preview`` event tells when it lies in the run folder."""
        self._say("preview", input=number, **({} if planes is None else {"planes": list(planes)}))

    def cancel(self, patience: float = 3.0) -> None:
        """Give the run up. The engine is asked first and killed after `patience` seconds."""
        self.begin_cancel(patience)
        self.wait(2 * patience)

    def begin_cancel(self, patience: float = 3.0) -> None:
        """Give the run up without waiting: `poll` sees it end, and kills the engine when it has
        not ended by itself after `patience` seconds."""
        if self.ended or self._cancelling:
            return
        self._cancelling = True
        self._kill_at = time.monotonic() + patience
        self._say("cancel")
        self._transport.close_input()

    def interrupt(self, patience: float = 10.0) -> None:
        """Have the engine write a checkpoint and end, without waiting: `poll` sees it end, and
        kills it after `patience` seconds. The run is failed then, its error 'interrupted'."""
        if self.ended or self._cancelling or self._interrupting:
            return
        self._interrupting = True
        self._kill_at = time.monotonic() + patience
        self._say("interrupt")

    def kill(self) -> None:
        """End the engine at once, and what it or a launcher before it has started."""
        self._transport.kill()
        if self._pid is not None and not self.ended:
            kill_tree(self._pid)

    def result(self, number: int = 1) -> np.ndarray:
        """Dense labels uint8 (k, j, i) of input `number`; raises the run's error if it failed."""
        if self.error is not None:
            raise self.error
        if self.state != "done":
            raise InputError(f"the run has no result: it is {self.state}.")
        return self.folder.read_result(number)

    def _say(self, command: str, **data) -> None:
        if not self.ended:
            self._transport.send(encode("command", command, **data))

    def _read_output(self, timeout: float) -> str:
        until = time.monotonic() + timeout + LONGEST_POLL
        if self._kill_at is not None and time.monotonic() > self._kill_at and not self.ended:
            self._kill_at = None
            self.kill()
        while not self.ended and (chunk := self._transport.receive(timeout)) is not None:
            timeout = 0.0
            self._heard, self.silent = time.monotonic(), False
            stream, data = chunk
            if stream == "end":
                self._end(data)
            elif stream == "err":
                self._read_stderr(data)
            else:
                for line in self._lines.feed(data):
                    event = decode(line, "event")
                    if event is None:
                        self._last_stdout = self._write_log([line]) or self._last_stdout
                    else:
                        self._handle_event(event, line)
            if time.monotonic() > until:
                break
        if not (self.ended or self.silent) and time.monotonic() - self._heard > SILENCE:
            self.silent = True
            self._tell(
                {
                    "event": "silent",
                    "seconds": SILENCE,
                    "text": (
                        f"the engine has not been heard of for {SILENCE:.0f} s. It may be busy, "
                        f"or hang: wait, or cancel the run. The log is {self.folder.log_path}."
                    ),
                }
            )
        return self.state

    def _read_stderr(self, data: bytes) -> None:
        self._last_stderr = self._write_log(self._complaint_lines.feed(data)) or self._last_stderr

    def _write_log(self, lines: list[bytes]) -> str:
        """Whole lines only, since two streams share the log. Returns the last that says
        something."""
        # A full disk must not hide why the engine failed. Opened each time, since a run may be let
        # go of at any moment, and Windows deletes no folder with an open file.
        with suppress(OSError, InputError), open_to_append(self.folder.log_path) as log:
            log.writelines(line + b"\n" for line in lines)
        said = (line[:1000].decode("utf-8", "replace").strip() for line in reversed(lines))
        return next(filter(None, said), "")

    def _handle_event(self, event: dict, line: bytes) -> None:
        """Handle an event; one of another form than agreed goes into the log, and is told."""
        try:
            check_message(event, "event", len(self.folder.segments))
        except ProtocolError as error:
            self._write_log([line])
            if not self._protocol_error:
                self._protocol_error = str(error)
                self._handle(
                    {
                        "event": "warning",
                        "text": f"{error}. Client and engine may be of different versions.",
                    }
                )
            return
        self._handle(event)

    def _handle(self, event: dict) -> None:
        kind = event["event"]
        if kind in ("started", "ready"):
            self._pid = event["pid"]
            if kind == "ready":
                self._write_log([])  # a log that is named anywhere is there, if empty
                self._send_labels()
        elif kind == "plan":
            self.plan = event
        elif kind == "progress":
            self.progress = event
            self.state = self._state_in(event["phase"])
        elif kind == "metrics":
            self.metrics.append(event)
        elif kind in ("warning", "oom-recovered"):
            self.warnings.append(event["text"])
        elif kind == "paused":
            self.state = "paused"
        elif kind == "done":
            self._done = event
        elif kind == "interrupted":
            self._reported = EngineError(kind, event["cause"], event["remedy"])
        elif kind == "error":
            remedy = event.get("remedy", "")
            if event["code"] not in ("input", "locked"):
                remedy = f"{remedy} The log is {self.folder.log_path}.".strip()
            self._reported = EngineError(event["code"], event["cause"], remedy)
        self._tell(event)

    def _state_in(self, phase: str) -> str:
        """Slices are compared before training, and again where labels have changed."""
        if phase == "comparing slices":
            return "training" if self._trained else "preparing"
        state = STATE_OF_PHASE.get(phase, "training")
        self._trained = self._trained or state == "training"
        return state

    def _end(self, code: int) -> None:
        if not self._complaint_lines.empty:
            self._read_stderr(b"\n")
        self._transport.close_input()
        self._drop_changes()
        if code == 0 and self._done is not None:
            self.summary = self._done
            self.state = "done"
        elif self._cancelling or (
            code == CANCELLED and not self._interrupting and self._reported is None
        ):
            self.state = "cancelled"
        else:
            self.error = (
                self._reported
                or self._not_understood(code)
                or (
                    interrupted_end(self.folder.path)
                    if self._interrupting
                    else explain_end(
                        code, self._last_output(), self.folder.path, self.folder.log_path
                    )
                )
            )
            self.state = "failed"
        self._tell({"event": "ended", "state": self.state})

    def _not_understood(self, code: int) -> EngineError | None:
        """Why a run has no result whose engine ended well, or said why not."""
        if not self._protocol_error or code < 0:
            return None
        return EngineError(
            "protocol",
            f"{self._protocol_error}.",
            "Install SparseSegNet again, "
            "so that client and engine are of the same version. The log is "
            f"{self.folder.log_path}.",
        )

    def _drop_changes(self) -> None:
        if self._changes is not None:
            self._changes.cleanup()

    def _last_output(self) -> str:
        # Which of two pipes is read first is chance, but the reason of a death is on stderr.
        said = self._last_stderr or self._last_stdout
        return f"'{said[:300]}'." if said else "none."

    def _tell(self, event: dict) -> None:
        for observer in self._observers:
            observer(event)

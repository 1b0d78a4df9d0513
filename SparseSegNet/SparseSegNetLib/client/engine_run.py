"""A training run in its client: state, progress, metrics, commands, result."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..annotation.slices import AnnotatedSlice
from ..errors import EngineError, InputError
from ..runfolder.changes import Changes
from ..runfolder.exit_codes import CANCELLED
from ..runfolder.folder import RunFolder
from ..runfolder.messages import ProtocolError, check_message
from ..runfolder.protocol import LineBuffer, decode, encode
from ..steps import Steps, finished
from .engine_log import EngineLog
from .failures import SILENCE, protocol_error, protocol_warning, reported_error, silence
from .label_changes import LabelChanges
from .processes import explain_end, interrupted_end, kill_tree
from .states import ENDED, state_of_phase
from .transport import start

WORKER = "SparseSegNetLib.engine.worker"
ENDING = 8.0  # seconds that an engine whose client has ended may take to end, and some more
LONGEST_POLL = 0.005  # seconds that `poll` takes in what has come; the rest comes with the next


def worker_arguments(
    folder: RunFolder, changes: str | None = None, patience: float = 0.0
) -> list[str]:
    """Arguments of Python for an engine that has a client.

    Args:
        folder: The run folder.
        changes: A folder of `Changes` that the engine writes into the run folder.
        patience: Seconds that the engine waits for another one on this folder to end.
    """
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

    Args:
        folder: The run folder.
        transport: Runs the engine; None starts one that fits this process.
        changes: Labels and options to resume with, or the folder that they were handed in; the
            engine writes them once it owns the run folder.
        patience: Seconds that the engine waits for another one on this folder to end.

    Attributes:
        state: preparing, training, paused, finishing, done, failed or cancelled.
        progress: The newest ``progress`` event (step, loss, seconds, remaining, fraction, phase).
        metrics: All ``metrics`` events.
        warnings: Messages of the engine to the user.
        plan: The engine's plan once known.
        summary: The ``done`` event of a run that is done.
        error: EngineError of a run that failed, else None.
        silent: Whether the engine has not been heard of for a while.
    """

    def __init__(
        self,
        folder: RunFolder,
        transport=None,
        changes: Changes | tempfile.TemporaryDirectory[str] | None = None,
        patience: float = 0.0,
    ):
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
        self._log = EngineLog(folder.log_path)
        self._done: dict | None = None
        self._reported: EngineError | None = None
        self._protocol_error = ""
        self._cancelling = self._interrupting = False
        self._labels = LabelChanges()
        self._kill_at: float | None = None
        self._trained = False
        self._pid: int | None = None
        self._last_heard = time.monotonic()
        self._changes = changes.handed() if isinstance(changes, Changes) else changes
        changes_folder = None if self._changes is None else self._changes.name
        try:
            self._transport = transport or start(worker_arguments(folder, changes_folder, patience))
        except BaseException:
            self._drop_changes()
            raise

    def observe(self, observer: Callable[[dict], None]) -> None:
        """Has a function called with each event of the engine, a dictionary.

        It is called from within `poll`, in the thread that calls it. Two events are the client's
        own: ``silent`` (seconds, text) and ``ended`` (state).
        """
        self._observers.append(observer)

    @property
    def ended(self) -> bool:
        """True once the run is done, failed or cancelled."""
        return self.state in ENDED

    def poll(self) -> str:
        """Handles the engine's events so far, without waiting. Returns the state."""
        return self._read_output(0.0)

    def wait(self, timeout: float | None = None) -> str:
        """Follows the run until it ends or `timeout` seconds have passed. Returns the state."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.ended and (end is None or time.monotonic() < end):
            # Short waits, so that Ctrl-C is answered on every platform.
            self._read_output(0.2)
        return self.state

    def stop(self) -> None:
        """Ends training now and keeps the best result so far: predicts, and ends as done."""
        self.send("stop")

    def pause(self) -> None:
        """Pauses the training until `resume`: frees the GPU's memory and stops the clock."""
        self.send("pause")

    def resume(self) -> None:
        """Resumes after `pause`."""
        self.send("resume")

    def set_time_budget(self, seconds: float) -> None:
        """Changes the time budget of the whole run while it trains."""
        self.send("set", time_budget=float(seconds))

    def change_labels(
        self, labels: np.ndarray, slices: Iterable[AnnotatedSlice], number: int = 1
    ) -> None:
        """Trains on other labels from now on, without beginning anew.

        Until the engine owns the run folder they are kept here.

        Args:
            labels: uint8 (k, j, i), 255 = unlabelled.
            slices: The annotated ones.
            number: Of the input, from 1.

        Raises:
            InputError: They do not fit the run.
            EngineError: They cannot be written.
        """
        finished(self.changing_labels(labels.copy(), slices, number))

    def changing_labels(
        self, labels: np.ndarray, slices: Iterable[AnnotatedSlice], number: int = 1
    ) -> Steps[None]:
        """Changes labels in steps (see `steps`), as `change_labels`; the array is kept."""
        return self._labels.changing(self, labels, list(slices), number)

    @property
    def takes_labels(self) -> bool:
        """True once the engine owns the run folder, so that changed labels are sent at once."""
        return self._labels.sends

    def preview(self, planes: Sequence[str] | None = None, number: int = 1) -> None:
        """Requests the newest prediction; a ``preview`` event tells when it is in the run folder.

        Args:
            planes: The wanted slices, such as ['k:10', 'i:5,7']; None for the whole volume.
            number: Of the input, from 1.
        """
        self.send("preview", input=number, **({} if planes is None else {"planes": list(planes)}))

    def cancel(self, patience: float = 3.0) -> None:
        """Cancels the run and waits for its end; kills the engine after `patience` seconds."""
        self.begin_cancel(patience)
        self.wait(2 * patience)

    def begin_cancel(self, patience: float = 3.0) -> None:
        """Cancels the run without waiting.

        `poll` notices its end, and kills the engine after `patience` seconds.
        """
        if self.ended or self._cancelling:
            return
        self._cancelling = True
        self._kill_at = time.monotonic() + patience
        self.send("cancel")
        self._transport.close_input()

    def interrupt(self, patience: float = 10.0) -> None:
        """Has the engine write a checkpoint and end, without waiting.

        `poll` notices its end, and kills it after `patience` seconds. The run has failed then, with
        the error 'interrupted'.
        """
        if self.ended or self._cancelling or self._interrupting:
            return
        self._interrupting = True
        self._kill_at = time.monotonic() + patience
        self.send("interrupt")

    def kill(self) -> None:
        """Kills the engine, and what it or a launcher before it has started."""
        self._transport.kill()
        if self._pid is not None and not self.ended:
            kill_tree(self._pid)

    def result(self, number: int = 1) -> np.ndarray:
        """Reads the dense labels uint8 (k, j, i) of input `number`.

        Raises:
            EngineError: The run failed.
            InputError: The run has no result.
        """
        if self.error is not None:
            raise self.error
        if self.state != "done":
            raise InputError(f"the run has no result: it is {self.state}.")
        return self.folder.read_result(number)

    def send(self, command: str, **data) -> None:
        """Sends a command of the protocol to the engine; nothing happens once the run has ended."""
        if not self.ended:
            self._transport.send(encode("command", command, **data))

    def _read_output(self, timeout: float) -> str:
        until = time.monotonic() + timeout + LONGEST_POLL
        if self._kill_at is not None and time.monotonic() > self._kill_at and not self.ended:
            self._kill_at = None
            self.kill()
        while not self.ended and (chunk := self._transport.receive(timeout)) is not None:
            timeout = 0.0
            self._last_heard, self.silent = time.monotonic(), False
            stream, data = chunk
            if stream == "end":
                self._end(data)
            elif stream == "err":
                self._log.write_stderr(data)
            else:
                for line in self._lines.feed(data):
                    event = decode(line, "event")
                    if event is None:
                        self._log.write_stdout(line)
                    else:
                        self._handle_event(event, line)
            if time.monotonic() > until:
                break
        if not (self.ended or self.silent) and time.monotonic() - self._last_heard > SILENCE:
            self.silent = True
            self._notify(silence(self.folder.log_path))
        return self.state

    def _handle_event(self, event: dict, line: bytes) -> None:
        """Handles an event; one that breaks the protocol goes into the log, with a warning."""
        try:
            check_message(event, "event", len(self.folder.segments))
        except ProtocolError as error:
            self._log.append([line])
            if not self._protocol_error:
                self._protocol_error = str(error)
                self._handle(protocol_warning(self._protocol_error))
            return
        self._handle(event)

    def _handle(self, event: dict) -> None:
        kind = event["event"]
        if kind in ("started", "ready"):
            self._pid = event["pid"]
            if kind == "ready":
                self._log.append([])  # a log that is named anywhere is there, if empty
                self._labels.send(self)
        elif kind == "plan":
            self.plan = event
        elif kind == "progress":
            self.progress = event
            self.state = state_of_phase(event["phase"], self._trained)
            self._trained |= self.state == "training"
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
            self._reported = reported_error(event, self.folder.log_path)
        self._notify(event)

    def _end(self, code: int) -> None:
        self._log.close()
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
                        code, self._log.last_output, self.folder.path, self.folder.log_path
                    )
                )
            )
            self.state = "failed"
        self._notify({"event": "ended", "state": self.state})

    def _not_understood(self, code: int) -> EngineError | None:
        """The error of a run whose engine ended well, but whose events broke the protocol."""
        if not self._protocol_error or code < 0:
            return None
        return protocol_error(self._protocol_error, self.folder.log_path)

    def _drop_changes(self) -> None:
        if self._changes is not None:
            self._changes.cleanup()

    def _notify(self, event: dict) -> None:
        for observer in self._observers:
            observer(event)

"""Events to the client, and records in the run folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...annotation.slices import AnnotatedSlice
from ...runfolder.disk_faults import disk_fault
from ...runfolder.folder import RunFolder
from ...runfolder.phases import Phase
from ..compute import metrics
from ..compute.problems import classify, out_of_memory
from ..training.report import Report
from .clock import Clock

PROGRESS_EVERY = 0.25  # seconds


class Reporter:
    """Writes records to the run folder and sends events to the client.

    What cannot be written during training (a full disk) is reported once, until it can be again,
    and ends no training.

    Args:
        emit: Sends an event to the client.
        folder: The run folder.
        clock: The run's time.
        by_steps: Whether the training ends by steps and not by time.

    Attributes:
        newest: The newest report of the training.
    """

    def __init__(self, emit: Callable[..., None], folder: RunFolder, clock: Clock, by_steps: bool):
        self.emit, self.folder, self.clock, self.by_steps = emit, folder, clock, by_steps
        self.newest = Report(0, None, 0.0, Phase.PREPARING)
        self._last, self._phase = -PROGRESS_EVERY, ""
        self._unwritten: dict[str, str] = {}

    def warn(self, text: str) -> None:
        """Sends a warning to the user."""
        self.emit("warning", text=text)

    def trying(self, what: str, action: Callable[[], None]) -> bool:
        """Does something that writes to the disk; True if it succeeded."""
        try:
            action()
        except (OSError, RuntimeError, MemoryError) as error:
            if isinstance(error, OSError):
                fault = disk_fault(error, self.folder.path)
            elif out_of_memory(error):
                fault = classify(error)
            else:
                raise
            new = fault.code not in self._unwritten.values()
            self._unwritten[what] = fault.code
            if new:
                cause = f"{what} cannot be written: {fault.cause} {fault.remedy}"
                self.warn(f"{cause} The run goes on; until then nothing of it is kept.")
            return False
        self._unwritten.pop(what, None)
        return True

    def progress(self, phase: str, fraction: float = 0.0, now: bool = False) -> None:
        """Reports the progress of a phase: at once if it is new or `now`, else 4 times a second."""
        seconds = self.clock.seconds
        if not now and phase == self._phase and abs(seconds - self._last) < PROGRESS_EVERY:
            return
        self._last, self._phase = seconds, phase
        if self.by_steps:
            remaining = seconds / fraction * (1 - fraction) if fraction else None
        else:
            remaining = self.clock.left
        record = {
            "step": self.newest.step,
            "loss": _finite(self.newest.loss),
            "seconds": round(seconds, 3),
            "phase": phase,
        }
        self._append(record)
        self.emit(
            "progress",
            **record,
            fraction=round(fraction, 4),
            remaining=None if remaining is None else round(remaining, 1),
        )

    def step(self, report: Report) -> None:
        """Reports a training step."""
        previous, self.newest = self.newest, report
        if report.recovered:
            self.recovered(report.recovered)
        if report.held_out is not None or previous.phase != report.phase:
            self.scores(report)
        self.progress(report.phase, report.fraction)

    def recovered(self, smaller: str) -> None:
        """Reports that memory ran out and something was made smaller."""
        self.emit(
            "oom-recovered",
            step=self.newest.step,
            text=f"memory ran out: it goes on with {smaller}.",
        )

    def scores(self, report: Report) -> None:
        """Records the scores of a report."""
        rows = report.held_out
        record = {
            "step": report.step,
            "seconds": round(self.clock.seconds, 3),
            "loss": _finite(report.loss),
            "phase": report.phase,
            "held_out": rows,
            "held_out_dice": None if rows is None else metrics.mean(r["dice"] for r in rows),
        }
        self._append(record)
        self.emit("metrics", **record)

    def scored(self) -> list[dict]:
        """The records with scores so far; warns of damaged ones."""
        found = [m for m in self.folder.read_metrics() if m.get("held_out")]
        for text in self.folder.notes:
            self.warn(text)
        return found

    def preview(self, number: int, labels: np.ndarray) -> None:
        """Shows dense labels uint8 (k, j, i) of input `number` (from 0)."""
        if self.trying("the preview", lambda: self.folder.write_preview(number + 1, labels)):
            self._previewed(number)

    def preview_slices(self, number: int, slices: dict[AnnotatedSlice, np.ndarray]) -> None:
        """Shows the labels of single slices of input `number` (from 0)."""

        def write() -> None:
            for item, labels in slices.items():
                self.folder.write_preview_slice(number + 1, item, labels)

        if self.trying("the preview", write):
            self._previewed(number, planes=[str(s) for s in slices])

    def _previewed(self, number: int, **about) -> None:
        self.emit(
            "preview",
            input=number + 1,
            step=self.newest.step,
            seconds=round(self.clock.seconds, 3),
            **about,
        )

    def _append(self, record: dict) -> None:
        self.trying("the metrics", lambda: self.folder.append_metrics(record))


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value

"""The queue of scans that a model is applied to, one after another."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..client.states import ENDED
from ..errors import EngineError, InputError
from ..scene.model_use import doubt, segment
from ..scene.scans import Scan
from ..scene.scene_run import SceneRun

# The end of a refusal that can be overruled, which names options of console and command line.
CHOICE = re.compile(r"\s*If that is meant, --accept .*$", re.DOTALL)


@dataclass
class Entry:
    """A scan in the queue.

    Attributes:
        scan: The scan.
        state: 'waiting', 'running', 'done', 'failed', 'refused' (it differs from the training set,
            which the user may accept) or 'cancelled'.
        reason: Why it failed or was refused.
        notes: Warnings.
        doubt: Share of uncertain voxels of the result.
        seconds: Time that it took.
        run: The run of a scan that failed, whose folder with the log lives as long as it does.
    """

    scan: Scan
    state: str = "waiting"
    reason: str = ""
    notes: tuple[str, ...] = ()
    doubt: float = 0.0
    seconds: float = 0.0
    run: SceneRun | None = None

    @property
    def namedReason(self) -> str:
        """The reason, with the name of the scan."""
        if self.reason.casefold().startswith(self.scan.name.casefold()):
            return self.reason
        return f"{self.scan.name}: {self.reason}"


class ModelQueue:
    """Applies a model to scans, one engine after another; goes on where one fails.

    `poll` is called by the panel's timer and never waits for an engine.

    Args:
        abandon: Called with a run that is cancelled, to follow it to its end.

    Attributes:
        entries: The newest entry of each scan, in the order in which they were begun.
    """

    def __init__(self, abandon: Callable[[SceneRun], None]):
        self._abandon = abandon
        self.entries: dict[object, Entry] = {}
        self._batch: list[Entry] = []
        self._running: Entry | None = None
        self._run: SceneRun | None = None
        self._begun = 0.0
        self._model, self._device = Path(), "auto"
        self._accept: Collection[str] = ()

    @property
    def active(self) -> bool:
        """True while scans are segmented."""
        return any(entry.state in ("waiting", "running") for entry in self._batch)

    @property
    def finished(self) -> int:
        """Number of scans of the present or last batch that have ended."""
        return sum(entry.state not in ("waiting", "running") for entry in self._batch)

    @property
    def batch(self) -> list[Entry]:
        """The scans that were begun together last."""
        return self._batch

    def begin(
        self, model: Path, scans: Sequence[Scan], device: str, accept: Collection[str] = ()
    ) -> None:
        """Begins to segment scans.

        Args:
            model: The model file.
            scans: The scans.
            device: 'auto', or the device to compute on.
            accept: Differences from the training set that the user has accepted.
        """
        if self.active:
            return
        self._model, self._device, self._accept = model, device, accept
        self._batch = [Entry(scan) for scan in scans]
        for entry in self._batch:
            self.entries.pop(entry.scan.key, None)
            self.entries[entry.scan.key] = entry

    def poll(self) -> bool:
        """Follows the running scan, or begins the next one; returns True if something changed."""
        if self._running is None:
            waiting = [entry for entry in self._batch if entry.state == "waiting"]
            if waiting:
                self._start(waiting[0])
            return bool(waiting)
        run, entry = self._run, self._running
        assert run is not None
        if run.poll() not in ENDED:
            return True
        try:
            if run.state == "done":
                entry.doubt = doubt(run)
                entry.notes = tuple(run.warnings)
                entry.scan.keep(run)
                self._end("done")
            elif run.state == "failed":
                entry.run = run
                self._end("failed", f"{run.error.cause} {run.error.remedy}".strip())
            else:
                self._end("cancelled")
        except (InputError, EngineError, OSError, RuntimeError) as error:
            self._end("failed", str(error))
        return True

    def _start(self, entry: Entry) -> None:
        self._running, self._begun = entry, time.monotonic()
        entry.state = "running"
        try:
            self._run = segment(
                self._model, entry.scan.open(), accept=self._accept, device=self._device
            )
        except (InputError, EngineError, OSError, RuntimeError) as error:
            text, choices = CHOICE.subn("", str(error))
            self._end("refused" if choices else "failed", text)

    def _end(self, state: str, reason: str = "") -> None:
        entry = self._running
        assert entry is not None
        entry.state, entry.reason = state, reason[:1].upper() + reason[1:]
        entry.seconds = time.monotonic() - self._begun
        self._running = self._run = None
        entry.scan.close()

    def cancel(self) -> None:
        """Cancels the running scan and those that wait; results that are there stay."""
        for entry in self._batch:
            if entry.state == "waiting":
                entry.state = "cancelled"
        if self._running is not None:
            if self._run is not None:
                self._run.cancel(wait=False)
                self._abandon(self._run)
            self._end("cancelled")

    def leave(self) -> None:
        """Cancels everything and forgets the scans, before the scene closes."""
        self.cancel()
        self.entries, self._batch = {}, []

    @property
    def remaining(self) -> float | None:
        """Seconds until all scans are segmented, None while nothing is known of them."""
        present = None if self._run is None else self._run.progress.get("remaining")
        taken = [entry.seconds for entry in self._batch if entry.state == "done"]
        waiting = sum(entry.state == "waiting" for entry in self._batch)
        gone = time.monotonic() - self._begun
        if taken:
            each = sum(taken) / len(taken)
            left = max(0.0, each - gone) if present is None else present
        elif present is not None:
            each, left = gone + present, present
        else:
            return None
        return left + waiting * each

    def about(self, entry: Entry) -> str:
        """The state of a scan in words."""
        return {
            "waiting": _("Waiting"),
            "running": _("Segmenting"),
            "done": _("Segmented"),
            "failed": _("Failed: {why}"),
            "refused": _("Not segmented: {why}"),
            "cancelled": _("Cancelled"),
        }[entry.state].format(why=entry.reason)

"""Changed labels on their way to the engine that trains on them."""

from __future__ import annotations

import time

from ..client.states import ENDED
from ..errors import EngineError, InputError
from ..scene.paint_observer import lentLayers
from ..scene.scene_run import SceneRun
from ..steps import Steps
from .stepped_task import SteppedTask

CALM = 1.0  # seconds without a change until new labels are sent


class LabelSender:
    """Sends labels once painting has paused and the engine is there, in steps."""

    def __init__(self):
        self._task: SteppedTask | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets what was to be sent: for another run."""
        if self._task is not None:
            self._task.giveUp()
        self._task = None
        self._changedAt: float | None = None
        self._changed: list = []  # segmentations
        self._sending: list = []  # of which the task sends the labels
        self._failed = False

    @property
    def busy(self) -> bool:
        """True while labels are read and written."""
        return self._task is not None

    def changed(self, segmentation) -> None:
        """Notes that labels or slices of a segmentation changed."""
        self._changedAt = time.monotonic()
        if segmentation not in self._changed:
            self._changed.append(segmentation)

    def tick(self, run: SceneRun, state: str) -> str | None:
        """Goes on sending.

        Args:
            run: The run.
            state: Its state.

        Returns:
            A message for the user, empty where an earlier one no longer holds; None without news.
        """
        if self._task is not None:
            return self._go(state)
        waiting = self._changedAt is None or time.monotonic() - self._changedAt < CALM
        if not waiting and run.takesLabels and state not in ENDED:
            self._changedAt = None
            self._sending, self._changed = self._changed, []
            self._task = SteppedTask(_sending(run, self._sending))
        return None

    def _go(self, state: str) -> str | None:
        assert self._task is not None
        if not self._task.poll():
            return None
        error, self._task = self._task.error, None
        if state in ENDED:  # whose labels are not changed any more
            return None
        mended, self._failed = self._failed and error is None, isinstance(error, EngineError)
        if error is None:
            return "" if mended else None
        if self._failed:  # the disk's, which may be mended
            for segmentation in self._sending:
                self.changed(segmentation)
        elif not isinstance(error, InputError):
            raise error
        return str(error)


def _sending(run: SceneRun, segmentations: list) -> Steps[None]:
    for node in segmentations:
        yield from run.updatingLabels(segmentationNode=node, known=lentLayers)

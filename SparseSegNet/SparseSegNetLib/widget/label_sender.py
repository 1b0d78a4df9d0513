"""Changed labels on their way to the engine that trains on them."""

from __future__ import annotations

import time

from ..client.states import ENDED
from ..errors import InputError
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

    @property
    def busy(self) -> bool:
        """True while labels are read and written."""
        return self._task is not None

    def changed(self, segmentation) -> None:
        """Notes that labels or slices of a segmentation changed."""
        self._changedAt = time.monotonic()
        if segmentation not in self._changed:
            self._changed.append(segmentation)

    def tick(self, run: SceneRun, state: str) -> str:
        """Goes on sending.

        Args:
            run: The run.
            state: Its state.

        Returns:
            A message for the user, or an empty text.
        """
        if self._task is not None:
            return self._go(state)
        waiting = self._changedAt is None or time.monotonic() - self._changedAt < CALM
        if not waiting and run.takesLabels and state not in ENDED:
            self._changedAt = None
            changed, self._changed = self._changed, []
            self._task = SteppedTask(_sending(run, changed))
        return ""

    def _go(self, state: str) -> str:
        assert self._task is not None
        if not self._task.poll():
            return ""
        error, self._task = self._task.error, None
        if error is None or state in ENDED:  # whose labels are not changed any more
            return ""
        if not isinstance(error, InputError | OSError):
            raise error
        return str(error)


def _sending(run: SceneRun, segmentations: list) -> Steps[None]:
    for node in segmentations:
        yield from run.updatingLabels(segmentationNode=node, known=lentLayers)

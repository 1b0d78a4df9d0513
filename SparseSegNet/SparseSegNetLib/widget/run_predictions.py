"""Predictions of the run that is shown: previews while it trains, and its results."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from ..annotation.slices import format_slices
from ..errors import InputError
from ..scene.scans import hidden, removed
from ..scene.scene_run import SceneRun
from ..scene.shown_layers import asPreview
from ..scene.views import shownPlanes
from ..steps import Steps
from ..units import sentence
from .stepped_task import SteppedTask

LOOK_AGAIN = 3.0  # seconds between two requests of a preview


class RunPredictions:
    """Reads predictions in a thread and puts them into the scene.

    Args:
        panel: The panel.
    """

    def __init__(self, panel):
        self.panel = panel
        self._preview: SteppedTask | None = None
        self._results: SteppedTask | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets what is on its way: for another run."""
        for task in (self._preview, self._results):
            if task is not None:
                task.giveUp()
        self._preview = self._results = None
        self.due, self._lookedAt = False, time.monotonic()

    @property
    def busy(self) -> bool:
        """True while a prediction is read."""
        return self._preview is not None or self._results is not None

    def preview(self, run: SceneRun, state: str) -> None:
        """Requests predictions of the shown planes now and then, and shows those that came."""
        parameters, now = self.panel.parameters, time.monotonic()
        volume = parameters.volume
        if self._preview is not None:
            self._showPreview()
        if (
            not parameters.livePreview
            or state not in ("training", "preparing")
            or volume not in run.volumeNodes
            or volume is None
        ):
            return
        if state == "training" and now - self._lookedAt > LOOK_AGAIN:
            self._lookedAt = now
            planes = shownPlanes(volume)
            wanted = format_slices({p for p in planes.values() if p is not None})
            if wanted:
                run.requestPreview(wanted, volume)
        if self.due and self._preview is None:
            self.due = False
            self._preview = SteppedTask(run.updatingPreview(volume))

    def _showPreview(self) -> None:
        task, parameters = self._preview, self.panel.parameters
        if not task.poll():
            return
        self._preview = None
        if isinstance(task.error, InputError):
            return  # a node was removed, which was reported
        if task.error is not None:
            raise task.error
        if task.result is not None and parameters.preview is not task.result:
            self.removePreview()
            parameters.preview = asPreview(task.result)
            self.panel.shown.predictionCame(task.result)

    def removePreview(self) -> None:
        """Removes the preview from the scene."""
        if self._preview is not None:
            self._preview.giveUp()
            self._preview = None
        node = self.panel.parameters.preview
        self.panel.parameters.preview = None
        if node is not None:
            removed(node)

    def results(self, run: SceneRun) -> tuple[str, str] | None:
        """Goes on making the results of a run that is done.

        Returns:
            Once they are there a message for the user, and why there is none; either may be empty.
        """
        if self._results is None:
            several = len(run.volumeNodes) > 1
            self._results = SteppedTask(_several(run) if several else self._one(run))
        if not self._results.poll():
            return None
        task, self._results = self._results, None
        if isinstance(task.error, InputError):
            return "", str(task.error)
        if task.error is not None:
            raise task.error
        self.removePreview()
        if len(run.volumeNodes) > 1:
            self.showResultOf(run, self.panel.parameters.volume)
        else:
            self._show(task.result)
            return "", ""
        return task.result, ""

    def _one(self, run: SceneRun) -> Steps:
        return (yield from run.makingResult(None))

    def _show(self, result) -> None:
        parameters = self.panel.parameters
        parameters.uncertainty, parameters.result = None, result
        self.panel.shown.predictionCame(result)

    def showResultOf(self, run: SceneRun, volume) -> None:
        """Shows the result of one of the scans that the run was trained on, not of the others."""
        parameters = self.panel.parameters
        if volume not in filter(None, run.volumeNodes):
            return
        try:
            result = run.resultOf(volume)
        except InputError:
            return  # it was removed, or its volume was changed
        if parameters.result is not None and parameters.result is not result:
            hidden(parameters.result)
        self._show(result)


def _several(run: SceneRun) -> Steps[str]:
    """Makes the results of all scans that are still there."""
    made, faults = 0, []
    for volume in filter(None, run.volumeNodes):
        try:
            hidden((yield from run.makingResult(volume)))
            made += 1
        except InputError as error:
            faults.append(sentence(str(error)))
    if faults and not made:
        raise InputError(faults[0])
    text = _("{count} scans segmented. Choose one in Data to see its result.")
    return "\n".join([text.format(count=made), *faults])

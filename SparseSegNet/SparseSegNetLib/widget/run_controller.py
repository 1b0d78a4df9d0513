"""Control of the run that the panel shows: start, progress, changes, end."""

from __future__ import annotations

import re
import time

from slicer.i18n import tr as _

from ..annotation.slices import format_slices
from ..client.states import ENDED
from ..errors import EngineError, InputError
from ..scene import logic
from ..scene.scans import hidden, removed
from ..scene.scene_run import SceneRun
from ..scene.shown_layers import asPreview
from ..scene.training_set import train
from ..scene.views import shownPlanes
from ..units import sentence
from .run_store import finished, resumable

CALM = 1.0  # seconds without a change until new labels are sent
LOOK_AGAIN = 3.0  # seconds between two requests of a preview
COMMAND = re.compile(r"'sparsesegnet resume \"[^\"]*\"'")


class RunController:
    """Starts, follows and ends runs for the panel's sections.

    Args:
        panel: The panel with parameters, annotation session and run store.

    Attributes:
        run: The run that is shown, or None.
        state: Its state as of the timer's last tick, '' without a run.
        progress: Its newest progress event.
        metrics: Its scores so far.
        warnings: Warnings of the engine.
        message: The last message to the user.
        failure: Why the run failed, else ''.
        device: The device that it trains on, '' until it is known.
        score: The estimated quality of its prediction as a text, '' without one.
    """

    def __init__(self, panel):
        self.panel = panel
        self._leaving: list[SceneRun] = []
        self._reset(None, "")
        self._seen = None  # the newest run that was shown, or refused, by the panel

    def _reset(self, run: SceneRun | None, state: str) -> None:
        """Shows this run, of which no event has come yet, or none."""
        self.run, self.state, self.progress, self.metrics = run, state, {}, []
        self.warnings: list[str] = []
        self.message = self.failure = self.device = self.score = self._unsent = ""
        self._changedAt: float | None = None
        self._changed: list = []  # segmentations
        self._previewDue, self._lookedAt = False, time.monotonic()

    def _abandon(self) -> None:
        """Cancels the run without waiting for its engine."""
        self.run.cancel(wait=False)
        self.followToItsEnd(self.run)

    def followToItsEnd(self, run: SceneRun) -> None:
        """Follows a run that was cancelled until its engine has ended."""
        self._leaving.append(run)

    def showMessage(self, text: str) -> None:
        """Shows a message in the section Train."""
        self.message = sentence(text)
        self.panel.learn.update()

    def showScore(self, text: str) -> None:
        """Shows how good the prediction is estimated to be, until another run is shown."""
        self.score = text
        self.panel.learn.update()
        self.panel.result.update()

    @property
    def active(self) -> bool:
        """True if the shown run has not ended, also while it is paused."""
        return self.run is not None and self.state not in (*ENDED, "")

    def train(self) -> None:
        """Starts a run with the present annotation and parameters."""
        parameters = self.panel.parameters
        if parameters is None or self.panel.session is None or self.active:
            return
        self.panel.annotate.look()
        pairs = self.panel.training.pairs()
        if len(pairs) > 1 and parameters.channels:
            self.showMessage(
                _(
                    "Several scans are trained on by their volume alone: uncheck the further "
                    "channels, or train on all channels from the Python console "
                    "(SparseSegNet.train)."
                )
            )
            return
        try:
            options = {
                "timeBudget": parameters.timeBudget,
                "network": parameters.network,
                "device": parameters.device,
                "seed": parameters.seed,
                "largestComponent": parameters.largestComponent,
                "scanNames": parameters.scanNames,
                "runFolder": self.panel.runs.new(parameters.runName),
            }
            if len(pairs) > 1:
                run = train([(p.volume, p.segmentation) for p in pairs], **options)
            else:
                volumes = [parameters.volume, *parameters.channels]
                run = logic.densify(volumes, parameters.segmentation, **options)
        except (InputError, EngineError) as error:
            self.showMessage(str(error))
            return
        self.show(run)
        self.showMessage(self.panel.annotate.next.unconfirmed())

    def resume(self) -> None:
        """Resumes the run that is stored with the scene."""
        self.continueRun(self.panel.parameters.runFolder)

    def continueRun(self, folder, moreTime: float = 0.0, message: str = "") -> None:
        """Resumes a run from its last checkpoint.

        Args:
            folder: The run folder.
            moreTime: Seconds in addition to those taken; 0 for the rest of the time budget.
            message: A message to show.
        """
        try:
            run = logic.resume(
                folder,
                self.panel.parameters.volume,
                self.panel.parameters.segmentation,
                moreTime=moreTime,
            )
        except (InputError, EngineError) as error:
            self.showMessage(str(error))
            return
        self.show(run)
        self.showMessage(message)

    def show(self, run: SceneRun) -> None:
        """Makes a run the shown one."""
        self._seen = run
        self._reset(run, "preparing")
        self.panel.learn.curve.clear()
        run.observe(self._onEvent)
        self.panel.parameters.runFolder = str(run.folder)
        self.panel.foldForRun()

    def follow(self) -> None:
        """Processes the events of engines; called by the timer."""
        self._leaving = [r for r in self._leaving if r.poll() not in ENDED]
        newest = logic.currentRun()
        if newest is not None and newest is not self._seen:
            self._seen = newest
            self._showFromConsole(newest)
        if not self.active:
            return
        run, before = self.run, self.state
        self.state = run.poll()
        if self.run is not run:
            return  # an observer ended it
        self.progress, self.metrics = run.progress, run.metrics
        self.device = (run.plan or {}).get("device", self.device)
        self._sendLabels()
        self._preview()
        if self.state in ENDED and before not in ENDED:
            self._ended()
            return
        self.panel.learn.curve.show(self.metrics, self.panel.parameters.parameterNode)
        self.panel.learn.update()

    def _showFromConsole(self, run: SceneRun) -> None:
        """Shows a run that was started from the console on nodes of this scene."""
        if (
            self.active
            or run.volumeNode is None
            or run.segmentationNode is None
            or self.panel.parameters is None
        ):
            return
        parameters = self.panel.parameters
        parameters.volume, parameters.segmentation = run.volumeNode, run.segmentationNode
        parameters.timeBudget = float(run.options.time_budget)
        self.show(run)

    def labelsChanged(self) -> None:
        """Notes that labels or slices changed: they are sent once painting has paused."""
        self.message = ""
        if self.active and self.panel.parameters.followEdits:
            self._changedAt = time.monotonic()
            if self.panel.parameters.segmentation not in self._changed:
                self._changed.append(self.panel.parameters.segmentation)

    def _sendLabels(self) -> None:
        due = self._changedAt is not None and time.monotonic() - self._changedAt >= CALM
        if not due or self.state in ENDED:
            return
        self._changedAt = None
        try:
            for node in self._changed:
                self.run.updateLabels(segmentationNode=node)
            self._changed = []
            self.message = "" if self.message == self._unsent else self.message
        except (InputError, EngineError) as error:
            self.showMessage(str(error))
            if isinstance(error, EngineError):  # the disk's, which may be mended
                self._changedAt, self._unsent = time.monotonic(), self.message

    def changeTime(self, seconds: float) -> None:
        """Changes the time budget of the run while it trains or is paused."""
        if self.active and self.state in ("training", "paused"):
            self.run.setTimeBudget(seconds)

    def _onEvent(self, event: dict) -> None:
        if event["event"] == "preview":
            self._previewDue = True
        elif event["event"] == "score" and (lines := self.run.scoreText):
            first = _("Expected IoU (80 % interval): {score}.").format(score=lines[0])
            self.showScore("\n".join([first, *lines[1:]]))
        elif event["event"] in ("warning", "oom-recovered", "silent"):
            self.warnings.append(sentence(event["text"]))

    def _preview(self) -> None:
        """Requests predictions of the shown planes now and then, and shows those that came."""
        parameters, now = self.panel.parameters, time.monotonic()
        volume = parameters.volume
        if (
            not parameters.livePreview
            or self.state not in ("training", "preparing")
            or volume not in self.run.volumeNodes
            or volume is None
        ):
            return
        if self.state == "training" and now - self._lookedAt > LOOK_AGAIN:
            self._lookedAt = now
            planes = shownPlanes(volume)
            wanted = format_slices({p for p in planes.values() if p is not None})
            if wanted:
                self.run.requestPreview(wanted, volume)
        if self._previewDue:
            self._previewDue = False
            try:
                node = self.run.updatePreview(volume)
            except InputError:
                return  # a node was removed, which was reported
            if node is not None and parameters.preview is not node:
                self._removePreview()
                parameters.preview = asPreview(node)
                self.panel.shown.predictionCame(node)

    def _ended(self) -> None:
        """Shows the result of a run that has ended, or why there is none."""
        run, parameters = self.run, self.panel.parameters
        self.message = ""
        self._removePreview()
        if self.state == "done":
            try:
                if len(run.volumeNodes) > 1:
                    self._severalEnded(run)
                else:
                    parameters.uncertainty, parameters.result = None, run.result
                    self.panel.shown.predictionCame(parameters.result)
            except InputError as error:
                self.failure, self.state = str(error), "failed"
        elif self.state == "failed":
            self.failure = self._reason(run.error)
        self.panel.learn.curve.show(self.metrics, parameters.parameterNode)
        self.panel.update()
        self.panel.stored.look()

    def _severalEnded(self, run: SceneRun) -> None:
        """Makes the results of all scans that are still there, and shows the present one's."""
        made, faults = 0, []
        for volume in filter(None, run.volumeNodes):
            try:
                hidden(run.resultOf(volume))
                made += 1
            except InputError as error:
                faults.append(sentence(str(error)))
        if faults and not made:
            raise InputError(faults[0])
        text = _("{count} scans segmented. Choose one in Data to see its result.")
        self.message = "\n".join([text.format(count=made), *faults])
        self.showResultOf(self.panel.parameters.volume)

    def showResultOf(self, volume) -> None:
        """Shows the result of one of the scans that the run was trained on, not of the others."""
        run, parameters = self.run, self.panel.parameters
        if run is None or self.state != "done" or len(run.volumeNodes) < 2:
            return
        if volume not in filter(None, run.volumeNodes):
            return
        try:
            result = run.resultOf(volume)
        except InputError:
            return  # it was removed, or its volume was changed
        if parameters.result is not None and parameters.result is not result:
            hidden(parameters.result)
        parameters.uncertainty, parameters.result = None, result
        self.panel.shown.predictionCame(result)

    def _reason(self, error: EngineError) -> str:
        """The message of a failed run, with the button's name instead of the command line."""
        text = f"{sentence(error.cause)} {error.remedy}"
        if resumable(self.panel.parameters.runFolder):
            text = COMMAND.sub(_("'Resume the last run'"), text)
        return text.strip()

    def _removePreview(self) -> None:
        node = self.panel.parameters.preview
        self.panel.parameters.preview = None
        if node is not None:
            removed(node)

    def cancel(self) -> None:
        """Cancels the run, without waiting for its end."""
        if not self.active:
            return
        self._abandon()
        self.state = "cancelled"
        self._removePreview()
        if finished(self.panel.parameters.runFolder) is None:
            self.panel.parameters.runFolder = ""
        self.showMessage("")
        self.panel.update()

    def leave(self) -> None:
        """Cancels the run and no longer shows it, before the scene closes."""
        if self.active:
            self._abandon()
        self._reset(None, "")

    def endAll(self, patience: float) -> None:
        """Ends every engine; those that do not end by themselves are killed.

        Args:
            patience: Seconds an engine has to end by itself; the call waits at most twice that.
        """
        self.leave()
        end = time.monotonic() + 2 * patience
        while self._leaving and time.monotonic() < end:
            self._leaving = [r for r in self._leaving if r.wait(0.1) not in ENDED]
        self._leaving = []

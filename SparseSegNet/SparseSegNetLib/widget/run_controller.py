"""Control of the run that the panel shows: start, progress, changes, end."""

from __future__ import annotations

import re
import time

from slicer.i18n import tr as _

from ..client.states import ENDED
from ..errors import EngineError
from ..scene import logic
from ..scene.scene_run import SceneRun
from ..units import sentence
from .label_sender import LabelSender
from .run_predictions import RunPredictions
from .run_starter import RunStarter
from .run_store import finished, resumable
from .stepped_task import pollGivenUp

COMMAND = re.compile(r"'sparsesegnet resume \"[^\"]*\"'")


class RunController:
    """Starts, follows and ends runs for the panel's sections.

    Args:
        panel: The panel with parameters, annotation session and run store.

    Attributes:
        run: The run that is shown, or None.
        warnings: Warnings of the engine.
        message: The last message to the user.
        failure: Why the run failed, else ''.
        device: The device that it trains on, '' until it is known.
        score: The estimated quality of its prediction as a text, '' without one.
    """

    def __init__(self, panel):
        self.panel = panel
        self._leaving: list[SceneRun] = []
        self._starter = RunStarter(panel, self)
        self._labels, self._predictions = LabelSender(), RunPredictions(panel)
        self._reset(None, "")
        self._seen = None  # the newest run that was shown, or refused, by the panel

    def _reset(self, run: SceneRun | None, state: str) -> None:
        """Shows this run, of which no event has come yet, or none."""
        self.run, self._state, self._progress, self._metrics = run, state, {}, []
        self.warnings: list[str] = []
        self.message = self.failure = self.device = self.score = ""
        self._predictions.reset()

    @property
    def starting(self) -> bool:
        """True while a run is being prepared; `run` is the one before it."""
        return self._starter.busy

    @property
    def working(self) -> bool:
        """True while work goes on at each heartbeat that is not the engine's."""
        return self.starting or self._labels.busy or self._predictions.busy

    @property
    def state(self) -> str:
        """The run's state as of the timer's last tick, '' without a run.

        A run that is done is 'finishing' until its result is in the scene.
        """
        return "preparing" if self.starting else self._state

    @property
    def progress(self) -> dict:
        """The run's newest progress event."""
        return {} if self.starting else self._progress

    @property
    def metrics(self) -> list[dict]:
        """The run's scores so far."""
        return [] if self.starting else self._metrics

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
        """True if the shown run has not ended, also while it is prepared or paused."""
        return self.state not in (*ENDED, "")

    def train(self) -> None:
        """Starts a run with the present annotation and parameters."""
        if self.panel.parameters is None or self.panel.session is None or self.active:
            return
        self._labels.reset()
        self._starter.train()

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
        if not self.active:
            self._labels.reset()
            self._starter.resume(folder, moreTime, message)

    def show(self, run: SceneRun) -> None:
        """Makes a run the shown one."""
        self._seen = run
        self._reset(run, "preparing")
        self.panel.learn.curve.clear()
        run.observe(self._onEvent)
        parameters, folder = self.panel.parameters, str(run.folder)
        known, parameters.runFolder = parameters.runFolder, folder
        self.panel.foldForRun()
        if known == folder:  # else the panel was updated when it changed
            self.panel.update()

    def follow(self) -> None:
        """Processes the events of engines; called by the timer."""
        self._leaving = [r for r in self._leaving if r.poll() not in ENDED]
        pollGivenUp()
        self._starter.tick()
        newest = logic.currentRun()
        if newest is not None and newest is not self._seen:
            self._seen = newest
            self._showFromConsole(newest)
        if not self.active or self.starting:
            return
        run = self.run
        state = run.poll()
        if self.run is not run:
            return  # an observer ended it
        self._progress, self._metrics = run.progress, run.metrics
        self.device = (run.plan or {}).get("device", self.device)
        if state == "done":
            self._state = "finishing"
            self._done()
            return
        self._state = state
        if (text := self._labels.tick(run, state)) is not None:
            self.showMessage(text)
        self._predictions.preview(run, state)
        if state in ENDED:
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
            self._labels.changed(self.panel.parameters.segmentation)

    def changeTime(self, seconds: float) -> None:
        """Changes the time budget of the run while it trains or is paused."""
        if self.active and self.state in ("training", "paused"):
            self.run.setTimeBudget(seconds)

    def _onEvent(self, event: dict) -> None:
        if event["event"] == "preview":
            self._predictions.due = True
        elif event["event"] == "score" and (lines := self.run.scoreText):
            first = _("Expected IoU (80 % interval): {score}.").format(score=lines[0])
            self.showScore("\n".join([first, *lines[1:]]))
        elif event["event"] in ("warning", "oom-recovered", "silent"):
            self.warnings.append(sentence(event["text"]))

    def _done(self) -> None:
        """Makes the result of a run that is done, from tick to tick."""
        found = self._predictions.results(self.run)
        if found is None:
            return
        self._state = "failed" if found[1] else "done"
        self._ended()
        self.message, self.failure = found
        self.panel.learn.update()

    def _ended(self) -> None:
        """Shows that a run has ended, and why there is no result."""
        run, parameters = self.run, self.panel.parameters
        self.message = ""
        self._labels.reset()
        self._predictions.removePreview()
        if self.state == "failed" and run.error is not None:
            self.failure = self._reason(run.error)
        self.panel.learn.curve.show(self.metrics, parameters.parameterNode)
        self.panel.update()
        self.panel.stored.look()

    def showResultOf(self, volume) -> None:
        """Shows the result of one of the scans that the run was trained on, not of the others."""
        run = self.run
        if run is not None and self.state == "done" and len(run.volumeNodes) > 1:
            self._predictions.showResultOf(run, volume)

    def _reason(self, error: EngineError) -> str:
        """The message of a failed run, with the button's name instead of the command line."""
        text = f"{sentence(error.cause)} {error.remedy}"
        if resumable(self.panel.parameters.runFolder):
            text = COMMAND.sub(_("'Resume the last run'"), text)
        return text.strip()

    def cancel(self) -> None:
        """Cancels the run, without waiting for its end."""
        if not self.active:
            return
        if self.starting:
            self._starter.giveUp()
            self.panel.update()
            self.showMessage(_("Cancelled before the training began."))
            return
        self._abandon()
        self._labels.reset()
        self._state = "cancelled"
        self._predictions.reset()
        self._predictions.removePreview()
        if finished(self.panel.parameters.runFolder) is None:
            self.panel.parameters.runFolder = ""
        self.showMessage("")
        self.panel.update()

    def leave(self) -> None:
        """Cancels the run and no longer shows it, before the scene closes."""
        self._starter.giveUp()
        if self.active:
            self._abandon()
        self._labels.reset()
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
        end = time.monotonic() + patience
        while not pollGivenUp() and time.monotonic() < end:
            pass  # it waits a little for a thread

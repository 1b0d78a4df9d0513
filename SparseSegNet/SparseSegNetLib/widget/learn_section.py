"""The section Train: time budget, device, buttons and progress."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ..client.interpreter import SSH
from ..remote.ssh_command import host
from ..runfolder.phases import Phase, RemotePhase
from ..runfolder.presets import PRESETS
from ..units import clock, duration
from .curve_view import CurveView
from .help_link import showLink
from .model_choice import ModelChoice
from .parameters import TIMES
from .run_controller import RunController
from .run_store import resumable
from .script import scriptOf
from .what_now import whatNow

DEVICES = ("auto", "cuda", "mps", "cpu")
CHOICES = (  # widgets of what cannot be changed during a run
    "deviceCombo",
    "networkCombo",
    "priorSelector",
    "startCombo",
    "openStartButton",
    "seedSpin",
    "largestCheck",
    "scanNamesCheck",
)


class LearnSection:
    """Shows the run's progress and controls it.

    Args:
        panel: The panel.
        controller: The run's controller.
    """

    def __init__(self, panel, controller: RunController):
        self.panel, self.controller, self.ui = panel, controller, panel.ui
        self.curve = CurveView(self.ui.plotFrame)
        ui = self.ui
        ui.timeSlider.maximum = len(TIMES) - 1
        names = {
            "auto": _("Automatic"),
            "cuda": _("GPU (CUDA)"),
            "mps": _("Apple GPU (MPS)"),
            "cpu": _("CPU"),
        }
        for device in DEVICES:
            ui.deviceCombo.addItem(names[device], device)
        for name in PRESETS:
            ui.networkCombo.addItem(_("Automatic") if name == "auto" else name, name)
        ui.timeSlider.valueChanged.connect(self.onTime)
        ui.deviceCombo.currentIndexChanged.connect(self.onDevice)
        ui.networkCombo.currentIndexChanged.connect(self.onNetwork)
        self.start = ModelChoice(panel, ui.startCombo, ui.openStartButton, "startFile", _("(none)"))
        ui.trainButton.clicked.connect(self.controller.train)
        ui.pauseButton.clicked.connect(self.onPause)
        ui.stopButton.clicked.connect(self.onStop)
        ui.cancelButton.clicked.connect(self.controller.cancel)
        ui.resumeButton.clicked.connect(self.controller.resume)
        ui.copyScriptButton.clicked.connect(self.onCopyScript)
        self._showing = False

    def update(self) -> None:
        """Shows parameters, run and buttons."""
        ui, parameters, run = self.ui, self.panel.parameters, self.controller.run
        state = self.controller.state
        active = state in ("preparing", "training", "paused", "finishing")
        ready = self.panel.session is not None and self.panel.torchCard.state in (
            "ready",
            "checking",
            "unknown",
        )
        ui.trainButton.enabled = ready and not active
        starting = self.controller.starting
        ui.pauseButton.enabled = state in ("training", "paused")
        ui.pauseButton.text = _("Resume") if state == "paused" else _("Pause")
        ui.stopButton.enabled = state in ("preparing", "training", "paused") and not starting
        ui.cancelButton.enabled = active
        ui.resumeButton.visible = (
            not active and ready and parameters is not None and resumable(parameters.runFolder)
        )
        for name in CHOICES:
            getattr(ui, name).enabled = not active
        self._showParameters(parameters)
        self._showProgress(run, state)
        # The rest of it is in the section Result: this row is always in sight.
        ui.scoreLabel.text = self.controller.score.partition("\n")[0]
        ui.scoreLabel.toolTip = self.controller.score
        ui.scoreLabel.visible = bool(self.controller.score)
        self.showWhatNow()
        self.curve.visible = bool(self.curve.points)

    def showWhatNow(self) -> None:
        """Names the next useful act."""
        self.ui.whatNowLabel.text = whatNow(self.panel)
        self.ui.whatNowLabel.visible = bool(self.ui.whatNowLabel.text)

    def _showParameters(self, parameters) -> None:
        if parameters is None:
            return
        self._showing, ui = True, self.ui
        nearest = min(range(len(TIMES)), key=lambda n: abs(TIMES[n] - parameters.timeBudget))
        if TIMES[ui.timeSlider.value] != parameters.timeBudget:
            ui.timeSlider.value = nearest
        ui.timeLabel.text = duration(parameters.timeBudget)
        ui.deviceCombo.currentIndex = max(0, ui.deviceCombo.findData(parameters.device))
        ui.networkCombo.currentIndex = max(0, ui.networkCombo.findData(parameters.network))
        self.start.show(parameters)
        self._showing = False

    def _showProgress(self, run, state: str) -> None:
        ui = self.ui
        progress = self.controller.progress
        seconds, remaining = progress.get("seconds") or 0.0, progress.get("remaining")
        if state == "done":
            ui.progressBar.value = 1000
        elif remaining is not None:
            ui.progressBar.value = round(1000 * seconds / max(1e-6, seconds + remaining))
        else:
            ui.progressBar.value = 0
        ui.progressBar.textVisible = remaining is not None and self.controller.active
        if ui.progressBar.textVisible:
            ui.progressBar.format = _("{time} left").format(time=clock(remaining))
        ui.statusLabel.text = "\n".join(
            filter(
                None, (self.controller.message, self._status(state), *self.controller.warnings[-2:])
            )
        )
        failed = run is not None and state == "failed"
        showLink(ui.helpLabel, run.error if failed else None)

    def _status(self, state: str) -> str:
        progress = self.controller.progress
        where = self.controller.device or self.panel.torchCard.device
        on = f" ({where})" if where else ""
        phase = progress.get("phase")
        if self.controller.starting:
            return _("Reading what is drawn, and writing it down for the engine")
        if state == "preparing":
            text = {
                RemotePhase.CONNECTING: _("Connecting"),
                RemotePhase.SENDING: _("Sending the scan, {percent} %").format(
                    percent=round(100 * progress.get("fraction", 0.0))
                ),
                Phase.PROBING: _("Measuring this computer's speed"),
                Phase.COMPARING_SLICES: _("Comparing the slices"),
                Phase.CORRECTING_BIAS: _("Correcting the bias field"),
            }.get(phase, _("Starting"))
            return ". ".join(filter(None, (text + on, self.score())))
        if state == "training":
            text = _("Training, step {step}").format(step=progress.get("step", 0)) + on
            return ". ".join(filter(None, (text, self.score())))
        return {
            "paused": _("Paused."),
            "finishing": _("Predicting the whole volume") + on,
            "done": _("Done."),
            "cancelled": _("Cancelled. The scene was not changed."),
            "failed": self.controller.failure,
            "": self._idle(),
        }[state]

    def _idle(self) -> str:
        card = self.panel.torchCard
        if card.state != "ready":
            return ""
        if card.interpreter.kind == SSH:
            return _("Ready. Device: {device} on {host}, to which the scan is sent.").format(
                device=card.device, host=host(card.interpreter.ssh)
            )
        return _("Ready. Device: {device}").format(device=card.device)

    def score(self) -> str:
        """The newest score as a text for the user, empty without one.

        Either of priors and shallow model out of fold, or of the network on validation slices, by
        which its best weights are chosen.
        """
        scored = [m for m in self.controller.metrics if m.get("held_out_dice") is not None]
        if not scored:
            return ""
        text = (
            _("Out-of-fold Dice {score}")
            if scored[-1]["phase"] == Phase.COMPARING_SLICES
            else _("Validation Dice {score}")
        )
        return text.format(score=f"{scored[-1]['held_out_dice']:.2f}")

    def onTime(self, index: int) -> None:
        """Stores the chosen time budget and passes it to the run."""
        if self._showing or self.panel.parameters is None:
            return
        self.panel.parameters.timeBudget = float(TIMES[index])
        self.controller.changeTime(float(TIMES[index]))

    def onDevice(self, index: int) -> None:
        """Stores the chosen device."""
        if not self._showing and self.panel.parameters is not None:
            self.panel.parameters.device = self.ui.deviceCombo.itemData(index)

    def onNetwork(self, index: int) -> None:
        """Stores the chosen network."""
        if not self._showing and self.panel.parameters is not None:
            self.panel.parameters.network = self.ui.networkCombo.itemData(index)

    def onPause(self) -> None:
        """Pauses or resumes the run."""
        run = self.controller.run
        if run is not None:
            run.resume() if self.controller.state == "paused" else run.pause()

    def onStop(self) -> None:
        """Stops the run and keeps its best result."""
        if self.controller.run is not None:
            self.controller.run.stop()
            self.controller.showMessage(_("Stopping: the best result so far is kept."))

    def onCopyScript(self) -> None:
        """Copies a script with the present choices for the Python console to the clipboard."""
        parameters = self.panel.parameters
        if self.panel.session is None:
            self.controller.showMessage(_("Choose a volume and a segmentation first."))
            return
        pairs, slices = self.panel.training.pairs(), self.panel.session.slices
        qt.QApplication.clipboard().setText(scriptOf(parameters, pairs, slices))
        self.controller.showMessage(_("Copied: paste it into the Python console."))

"""The card that checks the requirements of the engine and installs missing ones."""

from __future__ import annotations

import platform
import sys

import slicer
from slicer.i18n import tr as _

from ..client import installation as installing
from ..client import interpreter as interpreters
from ..client import own_environment
from ..client.diagnosis import Diagnosis
from ..client.interpreter import AUTO, OTHER, OWN, SSH, THIS, Interpreter
from ..errors import EngineError, InputError
from ..units import clock, sentence, size
from .help_link import showLink

EXTENSION = "PyTorch"
REMOVAL = "removal"


class TorchCard:
    """Checks in a child process whether the engine can run; never loads torch in this process.

    Args:
        panel: The panel.

    Attributes:
        state: 'unknown', 'checking', 'ready', 'missing', 'broken' or 'installing'.
        device: The device that the engine would use, '' until it is known.
        speed: Voxels per second of the doctor's convolution, None until it is known.
        interpreter: The Python that was checked.
        report: The doctor's report, None until it is there.
        note: A message beside the state, such as why another Python was refused.
    """

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self.state, self.device, self.speed = "unknown", "", None
        self.interpreter = Interpreter(THIS, sys.executable)
        self.report: dict | None = None
        self.note = self._text = ""
        self._problem: EngineError | None = None
        self._diagnosis: Diagnosis | None = None
        self._installation: installing.Installation | None = None
        self._doing = THIS
        combo = self.ui.installWhereCombo
        if thisPythonCanHaveTorch():
            combo.addItem(_("Slicer's own Python (recommended)"), THIS)
        combo.addItem(_("An environment of its own"), OWN)
        self.ui.installTorchButton.clicked.connect(self.onInstall)
        self.ui.cancelInstallButton.clicked.connect(self.onCancel)
        self.ui.checkTorchButton.clicked.connect(self.check)

    def check(self) -> None:
        """Checks whether the engine can run: packages at once, the rest in a child process."""
        if self.state in ("checking", "installing"):
            return
        self.interpreter, self.report, self.note = interpreters.chosen(), None, ""
        self._problem = None
        lacking = interpreters.missing() if self.interpreter.kind == THIS else []
        if lacking:
            self.state = "missing"
            self._text = _(
                "For training, SparseSegNet needs {names}. Everything else works without."
            ).format(names=_(" and ").join(lacking))
            if own_environment.remains():
                self._text += " " + _(
                    "An environment of its own was begun, and is not used before it is whole."
                )
            if not thisPythonCanHaveTorch():
                self._text += " " + _("torch is not made for Slicer's own Python on this computer.")
        else:
            self.state = "checking"
            self._diagnosis = Diagnosis(
                folder=self.panel.runs.root(make=False), interpreter=self.interpreter
            )
        self.update()

    def tick(self) -> None:
        """Processes the output of child processes; called by the timer."""
        if self._diagnosis is not None and (report := self._diagnosis.poll()) is not None:
            self._diagnosis = None
            self.take(self.interpreter, report)
        if self._installation is not None:
            self._follow(self._installation)

    def cleanup(self) -> None:
        """Ends child processes."""
        if self._diagnosis is not None:
            self._diagnosis.cancel()
        if self._installation is not None:
            self._installation.cancel()
        self._diagnosis = self._installation = None

    def update(self) -> None:
        """Shows the state; the card is hidden unless something is missing or broken."""
        ui, busy = self.ui, self.state == "installing"
        ui.torchCard.visible = self.state in ("missing", "broken", "installing")
        ui.torchLabel.text = "\n".join(filter(None, (self._text, self.note)))
        showLink(ui.torchHelpLabel, self._problem)
        ui.torchProgress.visible = ui.cancelInstallButton.visible = busy
        for widget in (
            ui.installTorchButton,
            ui.checkTorchButton,
            ui.otherPythonButton,
            ui.otherComputerButton,
        ):
            widget.visible = not busy
        ui.installWhereCombo.visible = ui.installWhereLabel.visible = not busy
        repair = self.state == "broken" and self.interpreter.kind not in (OTHER, SSH)
        ui.installTorchButton.text = _("Repair") if repair else _("Install")
        self.panel.engine.update()
        self.panel.learn.update()
        self.panel.data.update()

    def take(self, interpreter: Interpreter, report: dict) -> None:
        """Shows the report of the doctor that ran in a Python."""
        self.interpreter, self.report = interpreter, report
        self.device, self.speed = report.get("device") or "", report.get("speed")
        if report["ok"]:
            self.state, self._text = "ready", ""
        else:
            self.state = "broken"
            failed = [c for c in report["checks"] if c["state"] == "failed"]
            self._text = (
                (
                    _("The engine cannot run on the other computer.")
                    if interpreter.kind == SSH
                    else _("The engine cannot run here.")
                )
                + "\n"
                + "\n".join(f"{c['name']}: {c['said']} {c['remedy']}".strip() for c in failed)
            )
            index = self.ui.installWhereCombo.findData(interpreter.kind)
            if index >= 0:  # what is broken is repaired
                self.ui.installWhereCombo.currentIndex = index
        self.update()

    def onInstall(self) -> None:
        """Installs missing packages or repairs broken ones, where it was chosen."""
        combo = self.ui.installWhereCombo
        self.install(combo.itemData(combo.currentIndex))

    def install(self, where: str) -> None:
        """Asks the user, then installs into Slicer's own Python or an environment of its own.

        Args:
            where: 'this' or 'own'.
        """
        repair = self.state == "broken" and self.interpreter.kind == where
        if where == OWN:
            self._makeOwn()
            return
        extension = extensionArguments()
        if extension is None and not self._installExtension():
            return
        todo = installing.steps(interpreters.missing(), repair, extension)
        question = _(
            "torch and safetensors are downloaded from the Python package index and "
            "PyTorch's server (up to 3 GB with GPU support) and installed in Slicer's Python."
        )
        if repair:
            question += " " + _("The present torch is removed first.")
        if not todo:
            self._done(THIS)
        elif slicer.util.confirmOkCancelDisplay(question, _("Install torch")):
            self._begin(THIS, installing.in_this_python(todo))

    def _makeOwn(self) -> None:
        if self._inUse():
            return
        question = _(
            "Python, torch, safetensors, numpy, scipy and SimpleITK are downloaded from the Python "
            "package index and PyTorch's server (up to 3 GB with GPU support, 7 GB on disk) into "
            "{folder}, for all versions of Slicer. Slicer's own Python stays as it is."
        ).format(folder=own_environment.place())
        if own_environment.remains():
            question += " " + _("What is there is removed first.")
        if slicer.util.confirmOkCancelDisplay(question, _("Install torch")):
            self._begin(OWN, installing.of_own_environment())

    def removeOwn(self) -> None:
        """Asks the user, then deletes the engine's own environment."""
        if self.state in ("checking", "installing") or self._inUse():
            return
        if slicer.util.confirmOkCancelDisplay(
            _("Delete the engine's own environment, {folder}?").format(
                folder=own_environment.place()
            ),
            _("Delete own environment"),
        ):
            self._begin(REMOVAL, installing.removal_of_own_environment())

    def _inUse(self) -> bool:
        """True, with a note, while a run may use the environment that is to be removed."""
        if not (self.panel.controller.active and own_environment.remains()):
            return False
        self.note = _("A run is active, which may use this environment: stop it first.")
        self.update()
        return True

    def _begin(self, doing: str, installation: installing.Installation) -> None:
        self._doing, self._installation = doing, installation
        self.state, self.note, self._problem = "installing", "", None
        self._follow(installation)

    def _installExtension(self) -> bool:
        """Offers the PyTorch extension, by which torch is installed, if it is missing.

        Returns:
            True if torch is to be installed without it.
        """
        manager = slicer.app.extensionsManagerModel()
        if manager is None or not hasattr(manager, "installExtensionFromServer"):
            return True
        if slicer.util.confirmOkCancelDisplay(
            _(
                "Slicer's extension PyTorch, which finds the torch that fits this computer, is "
                "not installed. Install it now? Slicer restarts then; afterwards press Install "
                "again."
            ),
            _("Install torch"),
        ):
            manager.installExtensionFromServer(EXTENSION)
        return False

    def onCancel(self) -> None:
        """Cancels the installation."""
        if self._installation is not None:
            self._installation.cancel()

    def _follow(self, installation: installing.Installation) -> None:
        state = installation.poll()
        if state == "running":
            self._text = self._progress(installation)
            self.update()
            return
        self._installation = None
        if state == "done":
            self._done(self._doing)
            return
        said = (
            _("The installation was cancelled. Install again to complete it.")
            if state == "cancelled"
            else sentence(str(installation.problem))
        )
        problem = installation.problem if state == "failed" else None
        if self._doing == THIS:
            self._problem = problem
            begun = state == "failed" or installation.step[0] > 1
            self.state, self._text = "broken" if begun else "missing", said
            self.update()
            return
        self.state = "unknown"  # another Python may be there, and work
        self.check()
        self.note, self._problem = said, problem
        self.update()

    def _progress(self, installation: installing.Installation) -> str:
        number, count = installation.step
        head = _("Deleting, {time}") if self._doing == REMOVAL else _("Installing, {time}")
        parts = [head.format(time=clock(installation.seconds))]
        if count > 1:
            parts.append(_("step {number} of {count}").format(number=number, count=count))
        come, total = installation.size, installation.total
        if come is not None and total:
            parts.append(_("{size} of {total}").format(size=size(come), total=size(total)))
        elif come:
            parts.append(_("{size} so far").format(size=size(come)))
        # Without an end the bar only moves.
        self.ui.torchProgress.maximum = 1000 if come is not None and total else 0
        self.ui.torchProgress.value = round(1000 * come / total) if come and total else 0
        return ", ".join(parts) + "\n" + installation.said[:200]

    def _done(self, what: str) -> None:
        """Chooses what was installed, then checks it."""
        self.state = "unknown"
        try:
            kind, _path = interpreters.setting()
            if what == OWN:
                interpreters.choose(OWN)
            elif what == THIS or kind == OWN:
                interpreters.choose(AUTO)
        except InputError as error:
            self.state, self._text = "broken", sentence(str(error))
            self.update()
            return
        self.check()


def thisPythonCanHaveTorch() -> bool:
    """False where torch is not made for Slicer's own Python: an Intel program on macOS."""
    return not (sys.platform == "darwin" and platform.machine() == "x86_64")


def extensionArguments() -> list[str] | None:
    """The arguments that the PyTorch extension would pass to light-the-torch.

    Returns:
        The arguments, empty if the extension does not offer them; None without the extension.
    """
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError:
        return None
    arguments = getattr(PyTorchUtilsLogic, "_getPipInstallArguments", None)
    return list(arguments(None, installing.TORCH.removeprefix("torch"))) if arguments else []

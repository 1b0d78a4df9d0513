"""The card that checks the requirements of the engine and installs missing ones."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ..client import installation as installing
from ..client.diagnosis import Diagnosis
from ..units import clock

EXTENSION = "PyTorch"


class TorchCard:
    """Checks in a child process whether the engine can run; never loads torch in this process.

    Args:
        panel: The panel.

    Attributes:
        state: 'unknown', 'checking', 'ready', 'missing', 'broken' or 'installing'.
        device: The device that the engine would use, '' until it is known.
        speed: Voxels per second of the doctor's convolution, None until it is known.
    """

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self.state, self.device, self.speed = "unknown", "", None
        self._text = ""
        self._diagnosis: Diagnosis | None = None
        self._installation: installing.Installation | None = None
        self.ui.installTorchButton.clicked.connect(self.onInstall)
        self.ui.cancelInstallButton.clicked.connect(self.onCancel)
        self.ui.checkTorchButton.clicked.connect(self.check)

    def check(self) -> None:
        """Checks whether the engine can run: packages at once, the rest in a child process."""
        if self.state in ("checking", "installing"):
            return
        lacking = installing.missing()
        if lacking:
            self.state = "missing"
            self._text = _(
                "For training, SparseSegNet needs {names}. Everything else works without."
            ).format(names=_(" and ").join(lacking))
        else:
            self.state = "checking"
            self._diagnosis = Diagnosis(folder=self.panel.runs.root(make=False))
        self.update()

    def tick(self) -> None:
        """Processes the output of child processes; called by the timer."""
        if self._diagnosis is not None and (report := self._diagnosis.poll()) is not None:
            self._diagnosis = None
            self._examined(report)
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
        ui.torchLabel.text = self._text
        ui.torchProgress.visible = ui.cancelInstallButton.visible = busy
        ui.installTorchButton.visible = ui.checkTorchButton.visible = not busy
        ui.installTorchButton.text = _("Repair") if self.state == "broken" else _("Install")
        self.panel.learn.update()
        self.panel.data.update()

    def _examined(self, report: dict) -> None:
        self.device, self.speed = report.get("device") or "", report.get("speed")
        if report["ok"]:
            self.state, self._text = "ready", ""
        else:
            self.state = "broken"
            failed = [c for c in report["checks"] if c["state"] == "failed"]
            self._text = (
                _("The engine cannot run here.")
                + "\n"
                + "\n".join(f"{c['name']}: {c['said']} {c['remedy']}".strip() for c in failed)
            )
        self.update()

    def onInstall(self) -> None:
        """Asks the user, then installs missing packages or repairs broken ones."""
        extension = extensionArguments()
        if extension is None and not self._installExtension():
            return
        repair = self.state == "broken"
        todo = installing.steps(installing.missing(), repair, extension)
        question = _(
            "torch and safetensors are downloaded from the Python package index and "
            "PyTorch's server (up to 3 GB with GPU support) and installed in Slicer's Python."
        )
        if repair:
            question += " " + _("The present torch is removed first.")
        if not todo or not slicer.util.confirmOkCancelDisplay(question, _("Install torch")):
            return
        self._installation = installing.Installation(todo)
        self.state = "installing"
        self._follow(self._installation)

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
        number, count = installation.step
        self._text = (
            _("Installing, step {number} of {count}, {time}").format(
                number=number, count=count, time=clock(installation.seconds)
            )
            + "\n"
            + installation.said[:200]
        )
        if state == "running":
            self.update()
            return
        self._installation = None
        if state == "done":
            self.state = "unknown"
            self.check()
            return
        if state == "failed":
            self.state = "broken"
            self._text = (
                _("The installation failed. Its last output:")
                + "\n"
                + "\n".join(list(installation.lines)[-5:])
            )
        else:
            self.state = "broken" if number > 1 else "missing"
            self._text = _("The installation was cancelled. Install again to complete it.")
        self.update()


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

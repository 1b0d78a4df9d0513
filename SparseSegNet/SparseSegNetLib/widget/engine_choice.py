"""The choice of the Python, or the other computer, that the engine runs in: advanced settings."""

from __future__ import annotations

import os

import qt
from slicer.i18n import tr as _

from ..client import interpreter as interpreters
from ..client import own_environment
from ..client.diagnosis import Diagnosis, refusal
from ..client.interpreter import OTHER, OWN, REMOTE_PYTHON, SSH, THIS, Interpreter
from ..errors import InputError
from ..remote.ssh_command import host, words
from ..units import sentence, size

ASK = "ask"  # the entry that asks for a path


class EngineChoice:
    """Shows which Python the engine runs in, and why; lets the user choose another one.

    Another Python, be it on another computer, is used once the doctor has run in it without a
    failure.

    Args:
        panel: The panel.
        card: The card that checks and installs.
    """

    def __init__(self, panel, card):
        self.panel, self.ui, self.card = panel, panel.ui, card
        self._candidate: Diagnosis | None = None
        self._showing = self._asking = False
        kind, python = interpreters.setting()
        if kind == SSH:
            self.ui.sshEdit.text, self.ui.remotePythonEdit.text = interpreters.ssh_setting(), python
        self.ui.testSshButton.clicked.connect(self.onTest)
        self.ui.sshEdit.returnPressed.connect(self.onTest)
        self.ui.remotePythonEdit.returnPressed.connect(self.onTest)
        self.ui.otherComputerButton.clicked.connect(self.onAnotherComputer)
        self.ui.engineCombo.currentIndexChanged.connect(self.onChosen)
        self.ui.otherPythonButton.clicked.connect(self.onAnother)
        self.ui.deleteOwnButton.clicked.connect(card.removeOwn)

    def tick(self) -> None:
        """Follows the doctor in another Python; called by the timer."""
        if self._candidate is None or (report := self._candidate.poll()) is None:
            return
        candidate, self._candidate = self._candidate.interpreter, None
        problem = refusal(report, candidate.title)
        if problem is None:
            self._asking = False
            self._choose(candidate.kind, candidate.python, candidate.ssh)
            self.card.take(interpreters.chosen(), report)
        else:
            self.card.note = sentence(problem)
            self.card.update()

    def cleanup(self) -> None:
        """Ends the check of another Python."""
        if self._candidate is not None:
            self._candidate.cancel()
        self._candidate = None

    def update(self) -> None:
        """Shows the choice, and what is known of it."""
        ui, card = self.ui, self.card
        kind = card.interpreter.kind
        busy = card.state in ("checking", "installing") or self._candidate is not None
        self._showing = True
        ui.engineCombo.clear()
        ui.engineCombo.addItem(_("Slicer's own Python"), THIS)
        ui.engineCombo.addItem(_("Environment of its own"), OWN)
        if kind == OTHER:
            ui.engineCombo.addItem(card.interpreter.python, OTHER)
        ui.engineCombo.addItem(_("Another Python…"), ASK)
        there = host(card.interpreter.ssh) if kind == SSH else _("Another computer (SSH)…")
        ui.engineCombo.addItem(there, SSH)
        ui.engineCombo.currentIndex = ui.engineCombo.findData(SSH if self._asking else kind)
        self._showing = False
        named = any(map(os.environ.get, (interpreters.VARIABLE, interpreters.SSH_VARIABLE)))
        ui.engineCombo.enabled = not busy and not named
        ui.sshFrame.visible = (self._asking or kind == SSH) and not named
        ui.testSshButton.enabled = ui.otherComputerButton.enabled = not busy
        ui.otherPythonButton.enabled = ui.deleteOwnButton.enabled = not busy
        ui.engineInfoLabel.text = self._about()
        ui.engineInfoLabel.toolTip = card.interpreter.title
        whole = own_environment.described()
        ui.deleteOwnButton.visible = own_environment.remains()
        ui.deleteOwnButton.text = (
            _("Delete own environment ({size})").format(size=size(whole["bytes"]))
            if whole is not None
            else _("Delete unfinished environment")
        )

    def _about(self) -> str:
        if self._candidate is not None:
            return _("Checking {python} …").format(python=self._candidate.interpreter.title)
        card, lines = self.card, []
        if card.state == "checking":
            lines.append(_("Checking …"))
        elif card.report is not None:
            versions = card.report.get("versions", {})
            lines.append(
                _("Python {python}, torch {torch}, {device}.").format(
                    python=versions.get("python", "?"),
                    torch=versions.get("torch", _("missing")),
                    device=card.device or _("no device"),
                )
            )
        lines.append(card.interpreter.reason if card.state != "missing" else _("torch is missing."))
        return " ".join(lines) + (f"\n{card.note}" if card.note else "")

    def onChosen(self, index: int) -> None:
        """Changes the choice, or asks for what it needs."""
        if self._showing or index < 0:
            return
        kind = self.ui.engineCombo.itemData(index)
        self._asking = kind == SSH
        if kind == ASK:
            self.onAnother()
        elif kind == OWN and own_environment.described() is None:
            self.card.install(OWN)
        elif kind in (THIS, OWN):
            self._choose(kind)
            self.card.check()
        self.update()

    def onAnother(self) -> None:
        """Asks for another Python, and checks it."""
        chosen = qt.QFileDialog.getOpenFileName(
            self.ui.otherPythonButton, _("Python of an environment with torch"), ""
        )
        path = str(chosen[0] if isinstance(chosen, tuple) else chosen)
        if not path:
            return
        self.card.note = ""
        try:
            python = interpreters.python_at(path)
        except InputError as error:
            self.card.note = sentence(str(error))
        else:
            self._candidate = Diagnosis(
                folder=self.panel.runs.root(make=False), interpreter=Interpreter(OTHER, python)
            )
        self.card.update()

    def onAnotherComputer(self) -> None:
        """Shows where the SSH command is given."""
        self._asking = True
        self.ui.learnSection.collapsed = self.ui.advancedGroup.collapsed = False
        self.update()
        self.ui.sshEdit.setFocus()

    def onTest(self) -> None:
        """Checks the engine on the other computer."""
        command, python = str(self.ui.sshEdit.text).strip(), str(self.ui.remotePythonEdit.text)
        self.card.note = ""
        try:
            words(command)
        except InputError as error:
            self.card.note = sentence(str(error))
        else:
            there = Interpreter(SSH, python.strip() or REMOTE_PYTHON, ssh=command)
            self._candidate = Diagnosis(folder=self.panel.runs.root(make=False), interpreter=there)
        self.card.update()

    def _choose(self, kind: str, python: str = "", ssh: str = "") -> None:
        self.card.note = ""
        try:
            interpreters.choose(kind, python, ssh)
        except InputError as error:
            self.card.note = sentence(str(error))

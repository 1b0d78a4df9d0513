"""The Python that the engine runs in: shown, chosen, made and deleted in the panel."""

import os
import sys
from types import SimpleNamespace

import pytest
import slicer.util

from SparseSegNetLib.client import installation, interpreter, own_environment
from SparseSegNetLib.client.interpreter import AUTO, OTHER, OWN, SSH, THIS

# A doctor's, of a Python that is a shell script.
REPORT = (
    '{"ok": true, "device": "cuda:0", "speed": 1e8, "checks": [], '
    '"versions": {"python": "3.12.7", "torch": "2.8.0"}}'
)


@pytest.fixture
def asked(monkeypatch):
    """The questions that the user was asked, and agreed to."""
    questions = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, title: questions.append(text) or True
    )
    return questions


@pytest.fixture
def made():
    """What an installation of the environment does, at once."""

    def make():
        folder = own_environment.place()
        python = own_environment.python_in(folder)
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho '{REPORT}'\n")
        python.chmod(0o755)
        versions = {"python": "3.12.1", "torch": "2.9.1"}
        own_environment.write_mark(folder, versions, "cpu", 1_234_000_000, "2026-01-01T00:00:00")

    return make


def program(monkeypatch, name, text):
    """Let an installation be this program, which reports by itself."""
    monkeypatch.setattr(installation, name, lambda: installation.Installation(["-c", text]))


def choose(user, data):
    user.ui.engineCombo.currentIndex = user.ui.engineCombo.findData(data)
    user.turn()


def current(user):
    return user.ui.engineCombo.itemData(user.ui.engineCombo.currentIndex)


def answer(user, monkeypatch, path):
    monkeypatch.setattr(
        user.qt, "QFileDialog", SimpleNamespace(getOpenFileName=lambda *a: (str(path), ""))
    )


EVENTS = """
import json, os, sys
def say(**event): print(json.dumps(event), flush=True)
say(event="started", pid=os.getpid())
say(event="step", number=3, count=4)
say(event="said", line="Downloading torch (782.1MiB)")
say(event="size", bytes=1_234_000_000)
sys.stdin.readline()
"""


def test_what_is_used_is_shown(user):
    user.until(lambda: user.panel.torchCard.state == "ready")
    text = user.ui.engineInfoLabel.text
    assert sys.version.split()[0] in text and "torch 2." in text and "cpu" in text
    assert "torch is installed in it" in text
    assert current(user) == THIS and not user.ui.deleteOwnButton.visible
    user.ui.learnSection.collapsed = user.ui.advancedGroup.collapsed = False
    user.picture("13-engine")


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for a program")
def test_an_environment_is_made_cancelled_and_deleted(user, asked, made, monkeypatch):
    card = user.panel.torchCard
    user.until(lambda: card.state == "ready")
    program(monkeypatch, "of_own_environment", EVENTS)
    choose(user, OWN)
    assert "7 GB on disk" in asked[0] and str(own_environment.place()) in asked[0]
    user.until(lambda: "so far" in user.ui.torchLabel.text)
    assert "step 3 of 4, 1.2 GB so far" in user.ui.torchLabel.text
    assert user.ui.cancelInstallButton.visible and not user.ui.engineCombo.enabled
    user.picture("14-own-environment")
    user.click("cancelInstallButton")
    # Slicer's own Python works as before.
    user.until(lambda: card.state == "ready")
    assert "cancelled" in user.ui.engineInfoLabel.text and interpreter.setting() == (AUTO, "")
    made()
    choose(user, OWN)
    assert card.interpreter.kind == OWN and interpreter.setting() == (OWN, ""), "it is there"
    assert user.ui.deleteOwnButton.text == "Delete own environment (1.2 GB)"
    user.until(lambda: card.state == "ready")
    assert "torch 2.8.0, cuda:0. You chose it." in user.ui.engineInfoLabel.text
    program(
        monkeypatch,
        "removal_of_own_environment",
        f"import shutil; shutil.rmtree({str(own_environment.place())!r})",
    )
    user.ui.learnSection.collapsed = user.ui.advancedGroup.collapsed = False
    user.picture("15-own-environment-made")
    running = user.panel.controller
    with monkeypatch.context() as patched:
        patched.setattr(type(running), "active", property(lambda _: True))
        user.click("deleteOwnButton")
    assert "stop it first" in user.ui.engineInfoLabel.text and len(asked) == 1
    user.click("deleteOwnButton")
    user.until(lambda: card.interpreter.kind == THIS and card.state == "ready")
    assert "Delete" in asked[-1] and interpreter.setting() == (AUTO, "")


def test_a_failure_names_the_remedy_and_what_works_goes_on(user, asked, monkeypatch):
    card = user.panel.torchCard
    user.until(lambda: card.state == "ready")
    fails = "print('cause: dns error'); raise SystemExit(1)"
    program(monkeypatch, "of_own_environment", fails)
    choose(user, OWN)
    user.until(lambda: card.note and card.state == "ready")
    assert "cannot be reached" in user.ui.engineInfoLabel.text
    assert current(user) == THIS and user.ui.trainButton is not None


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for a program")
def test_another_python_is_checked_before_it_is_used(user, monkeypatch, tmp_path):
    card = user.panel.torchCard
    user.until(lambda: card.state == "ready")
    bad, good = tmp_path / "bad", tmp_path / "conda" / "bin" / "python"
    bad.write_text("#!/bin/sh\necho hello >&2; exit 3\n")
    good.parent.mkdir(parents=True)
    good.write_text(f"#!/bin/sh\necho '{REPORT}'\n")
    for path in (bad, good):
        path.chmod(0o755)
    answer(user, monkeypatch, bad)
    choose(user, "ask")
    assert str(bad) in user.ui.engineInfoLabel.text
    user.until(lambda: "cannot be used" in user.ui.engineInfoLabel.text)
    assert interpreter.setting() == (AUTO, "") and current(user) == THIS
    answer(user, monkeypatch, tmp_path / "none")
    choose(user, "ask")
    assert "There is no" in user.ui.engineInfoLabel.text
    answer(user, monkeypatch, "")
    choose(user, "ask")
    assert current(user) == THIS
    answer(user, monkeypatch, good)
    choose(user, "ask")
    user.until(lambda: card.device == "cuda:0")
    assert interpreter.setting() == (OTHER, str(good)) and card.state == "ready"
    assert "Python 3.12.7, torch 2.8.0, cuda:0. You chose it." in user.ui.engineInfoLabel.text
    assert user.ui.engineCombo.currentText == str(good)
    user.ui.learnSection.collapsed = user.ui.advancedGroup.collapsed = False
    user.picture("16-another-python")
    choose(user, THIS)
    user.until(lambda: card.interpreter.kind == THIS and card.state == "ready")


def test_where_slicers_python_cannot_have_torch(makeUser, monkeypatch):
    monkeypatch.setattr(interpreter, "missing", lambda: ["torch", "safetensors"])
    half = own_environment.place() / "env" / "half"
    half.mkdir(parents=True)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "darwin")
    user = makeUser()
    monkeypatch.setattr(sys, "platform", "linux")
    combo = user.ui.installWhereCombo
    assert [combo.itemData(i) for i in range(combo.count)] == [OWN]
    assert "begun" in user.ui.torchLabel.text
    assert user.ui.deleteOwnButton.text == "Delete unfinished environment"
    user.picture("17-own-environment-only")


def test_a_variable_decides(makeUser, monkeypatch):
    monkeypatch.setenv("SPARSESEGNET_PYTHON", sys.executable)
    user = makeUser()
    assert not user.ui.engineCombo.enabled
    assert "SPARSESEGNET_PYTHON" in user.ui.engineInfoLabel.text


def test_another_computer_is_checked_before_it_is_used(user, far_nearby, monkeypatch):
    card, ui = user.panel.torchCard, user.ui
    user.until(lambda: card.state == "ready")
    ui.learnSection.collapsed = ui.advancedGroup.collapsed = False
    assert not ui.sshFrame.visible
    choose(user, SSH)
    assert ui.sshFrame.visible and current(user) == SSH and interpreter.setting() == (AUTO, "")
    user.click("testSshButton")
    assert "SSH command is empty" in ui.engineInfoLabel.text
    ui.sshEdit.text = "no-such-ssh me@gpu-box"
    user.click("testSshButton")
    user.until(lambda: "no program no-such-ssh" in ui.engineInfoLabel.text)
    assert interpreter.setting() == (AUTO, "") and card.state == "ready"
    ui.sshEdit.text, ui.remotePythonEdit.text = far_nearby.command, f'"{sys.executable}"'
    user.click("testSshButton")
    assert "Checking" in ui.engineInfoLabel.text and not ui.testSshButton.enabled
    user.until(lambda: card.interpreter.kind == SSH)
    assert card.state == "ready" and card.device == "cpu" and "torch 2." in ui.engineInfoLabel.text
    assert interpreter.setting() == (SSH, f'"{sys.executable}"')
    assert ui.engineCombo.currentText == "gpu-box" and ui.sshFrame.visible
    assert "cpu on gpu-box, to which the scan is sent" in ui.statusLabel.text
    user.picture("18-another-computer")
    choose(user, THIS)
    user.until(lambda: card.interpreter.kind == THIS and card.state == "ready")
    assert not ui.sshFrame.visible


def test_without_torch_another_computer_trains(makeUser, far_nearby, monkeypatch):
    monkeypatch.setattr(interpreter, "missing", lambda: ["torch", "safetensors"])
    user = makeUser()
    assert user.panel.torchCard.state == "missing" and user.ui.torchCard.visible
    user.click("otherComputerButton")
    assert user.ui.sshFrame.visible and not user.ui.advancedGroup.collapsed
    user.ui.sshEdit.text = far_nearby.command
    user.ui.remotePythonEdit.text = f'"{sys.executable}"'
    user.click("testSshButton")
    user.until(lambda: user.panel.torchCard.state == "ready")
    assert not user.ui.torchCard.visible

"""torch is missing, broken, installed, repaired; nothing of it is loaded in this process."""

import sys
import types
from pathlib import Path

import pytest
import slicer.util
from scenes import addVolume, paintSlices

from SparseSegNetLib.client import installation, interpreter
from SparseSegNetLib.client import torch_cleanup as torch_remains
from SparseSegNetLib.client.installation import in_this_python, steps
from SparseSegNetLib.client.interpreter import missing

pytestmark = pytest.mark.full_engine  # and the real doctor


@pytest.fixture(autouse=True)
def nothingIsInstalledOrRemoved(monkeypatch):
    """These tests must never touch the torch that they run with."""
    assert sys.modules["SparseSegNetLib.client.installation"] is installation
    for name, harmless in (
        ("REMAINS", "this"),
        ("ENVIRONMENT", "none"),
        ("TORCH", "none"),
        ("SAFETENSORS", "none"),
        ("LIGHT_THE_TORCH", "none"),
    ):
        monkeypatch.setattr(installation, name, harmless)


@pytest.fixture
def lacking(monkeypatch):
    """A list of what is missing, which a test may change."""
    names = ["torch", "safetensors"]
    monkeypatch.setattr(interpreter, "missing", lambda: list(names))
    return names


@pytest.fixture
def extension(monkeypatch):
    """The PyTorch extension is installed."""
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = type(
        "PyTorchUtilsLogic",
        (),
        {
            "_getPipInstallArguments": (
                staticmethod(
                    lambda backend=None, version="": ["install", "torch" + version, "torchvision"]
                )
            )
        },
    )
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


def install(monkeypatch, *programs):
    """Let the steps of the installation be these programs."""
    monkeypatch.setattr(installation, "steps", lambda *a: [["-c", p] for p in programs])


def test_everything_but_train_works_without_torch(lacking, makeUser, extension, monkeypatch):
    user = makeUser()
    assert user.ui.torchCard.visible and user.panel.torchCard.state == "missing"
    assert "torch and safetensors" in user.ui.torchLabel.text
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth, (("k", 8), ("j", 10)))
    assert len(user.panel.session.slices) == 2 and not user.ui.trainButton.enabled
    user.picture("10-torch-missing")
    # Refused consent changes nothing.
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: False)
    user.click("installTorchButton")
    assert user.panel.torchCard.state == "missing"
    asked = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, title: asked.append(text) or True
    )
    install(
        monkeypatch,
        "import time; print('Downloading torch (800 MB)', flush=True); time.sleep(1)",
        "print('Successfully installed')",
    )
    user.click("installTorchButton")
    assert "downloaded" in asked[0]
    user.until(lambda: "800 MB" in user.ui.torchLabel.text, 10)
    assert user.ui.torchProgress.visible and user.ui.cancelInstallButton.visible
    assert "step 1 of 2" in user.ui.torchLabel.text
    user.picture("11-installing")
    lacking.clear()
    user.until(lambda: user.panel.torchCard.state == "ready", 60)
    assert not user.ui.torchCard.visible and user.ui.trainButton.enabled


def test_cancel_and_failure(lacking, makeUser, extension, monkeypatch):
    user = makeUser()
    install(monkeypatch, "import time; time.sleep(60)")
    user.click("installTorchButton")
    transport = user.panel.torchCard._installation._transport
    user.click("cancelInstallButton")
    user.until(lambda: user.panel.torchCard.state != "installing", 5)
    assert "cancelled" in user.ui.torchLabel.text and not transport._running()
    install(monkeypatch, "import sys; print('No space left on device'); sys.exit(1)")
    user.click("installTorchButton")
    user.until(lambda: user.panel.torchCard.state == "broken", 10)
    assert "the disk is full. Free some space" in user.ui.torchLabel.text
    assert "/errors/#disk-full" in user.ui.torchHelpLabel.text
    assert user.ui.installTorchButton.text == "Repair"
    user.picture("12-installation-failed")


def test_a_broken_torch_is_named_and_repaired(makeUser, extension, monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('DLL load failed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    user = makeUser()
    user.until(lambda: user.panel.torchCard.state == "broken")
    assert "torch" in user.ui.torchLabel.text and "DLL" in user.ui.torchLabel.text
    repaired = []
    real = installation.steps
    monkeypatch.setattr(
        installation, "steps", lambda *a: repaired.append(real(*a)) or [["-c", "print('ok')"]]
    )
    monkeypatch.delenv("PYTHONPATH")
    user.click("installTorchButton")
    user.until(lambda: user.panel.torchCard.state == "ready", 60)
    assert repaired[0][0] == ["-m", "this"], "what there is is taken away first"


def test_without_the_extension_it_is_offered(lacking, makeUser, slicerApplication, monkeypatch):
    user = makeUser()
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    user.click("installTorchButton")
    assert slicerApplication.extensionsManagerModel()._asked == ["PyTorch"]
    assert user.panel.torchCard.state == "missing"


def test_the_steps(monkeypatch):
    monkeypatch.undo()
    assert steps([]) == []
    assert steps(["safetensors"]) == [["-m", "pip", "install", "safetensors>=0.4"]]
    found = steps(["torch", "safetensors"], False, ["install", "torch>=2.4", "torchvision"])
    assert found[1] == ["-m", "light_the_torch", "install", "torch>=2.4"], "torch alone"
    assert steps([], True)[0] == ["-m", torch_remains.__name__]


def test_a_bare_folder_is_no_torch(tmp_path, monkeypatch):
    assert missing() == []
    for name in ("torch", "safetensors"):
        (tmp_path / name).mkdir()
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: types.SimpleNamespace(origin=None) if name == "torch" else real(name),
    )
    assert missing() == ["torch"]


def test_remains_are_taken_away(tmp_path):
    for name in ("torch", "torchgen", "torch-2.5.dist-info", "torchvision", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    torch_remains.remove(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numpy", "torchvision"]


def test_an_installation_that_cannot_start(monkeypatch, slicerApplication):
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).with_name("none")))
    run = in_this_python([["-c", "pass"]])
    assert run.poll() == "failed" and "cannot be started" in run.problem.cause


def test_torch_was_never_loaded_here(user):
    before = set(sys.modules)
    user.until(lambda: user.panel.torchCard.state == "ready", 60)
    assert "torch" not in set(sys.modules) - before

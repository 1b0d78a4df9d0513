"""The panel's fields for a prior and a model to start from, in Advanced."""

import numpy as np
import pytest
import slicer
from described_models import write_model
from scenes import addVolume, annotated, paintSlices, press

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.client import engine_run


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


@pytest.fixture
def model(tmp_path):
    known = [Segment("S", "Structure 1", (1.0, 0.0, 0.0), 1)]
    return write_model(tmp_path / "others.safetensors", segments=known, scores=None)


def ready(user):
    truth = annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    user.ui.advancedGroup.collapsed = False
    return truth


def lastYear(user, truth):
    """A dense segmentation of the scan, with the names of the annotated segments."""
    parameters = user.panel.parameters
    drawn = parameters.segmentation.GetSegmentation()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Last year")
    node.SetReferenceImageGeometryParameterFromVolumeNode(parameters.volume)
    for value, segmentId in enumerate(drawn.GetSegmentIDs(), start=1):
        name = drawn.GetSegment(segmentId).GetName()
        own = node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            (truth == value).astype(np.uint8), node, own, parameters.volume
        )
    return node


def choose(combo, text):
    combo.currentIndex = [combo.itemText(n) for n in range(combo.count)].index(text)


def test_a_prior_and_a_model_go_into_the_run(user, model, monkeypatch):
    import qt
    from PySide6.QtWidgets import QApplication

    truth = ready(user)
    node = lastYear(user, truth)
    user.turn()
    choose(user.ui.priorSelector, "Last year")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: str(model))
    user.click("openStartButton")
    parameters = user.panel.parameters
    assert parameters.prior is node and parameters.startFile == str(model)
    assert user.ui.startCombo.currentText == "others.safetensors"
    assert not parameters.modelFile, "that of Use a model is another choice"
    user.picture("31-prior-and-start")
    user.click("copyScriptButton")
    script = QApplication.clipboard().text()
    assert f"prior=slicer.util.getNode('Last year'), startFrom={str(model)!r}" in script
    compile(script, "script", "exec")
    press(user, "trainButton")
    controller = user.panel.controller
    folder = controller.run._run.folder
    for name in ("priorSelector", "startCombo", "openStartButton"):
        assert not getattr(user.ui, name).enabled
    given = folder.read_input()
    assert given.prior_classes == (1, 2) and given.prior_known is None
    assert np.array_equal(given.prior[0], 255 * (truth == 1))
    assert folder.given_model.read_bytes() == model.read_bytes()
    user.until(lambda: not controller.active)
    assert controller.state == "done", user.ui.statusLabel.text
    # Neither again.
    choose(user.ui.priorSelector, "(none)")
    choose(user.ui.startCombo, "(none)")
    assert parameters.prior is None and parameters.startFile == ""
    press(user, "trainButton")
    folder = controller.run._run.folder
    assert folder.read_input().prior is None and folder.given_model is None


def test_the_choices_are_kept_in_the_scene(user, model, tmp_path):
    truth = ready(user)
    user.panel.parameters.prior = lastYear(user, truth)
    user.panel.parameters.startFile = str(model)
    bundle = str(tmp_path / "session.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear(0)
    assert user.panel.parameters.prior is None and user.ui.startCombo.currentText == "(none)"
    assert slicer.mrmlScene.ReadFromMRB(bundle, True)
    user.until(lambda: user.panel.session is not None, 5)
    node = user.panel.parameters.prior
    assert node.GetName() == "Last year" and user.ui.priorSelector.currentNode() is node
    assert user.panel.parameters.startFile == str(model)
    assert user.ui.startCombo.currentText == "others.safetensors"
    slicer.mrmlScene.RemoveNode(node)
    user.turn()
    assert user.panel.parameters.prior is None and user.ui.priorSelector.currentNode() is None


def test_what_cannot_be_used_is_said(user, model, tmp_path):
    truth = ready(user)
    parameters, controller = user.panel.parameters, user.panel.controller

    def refused(words):
        press(user, "trainButton")
        assert words in user.ui.statusLabel.text and controller.run is None

    parameters.prior = parameters.segmentation
    refused("is annotated, and cannot be the prior as well")
    parameters.prior = parameters.volume
    refused("The prior")
    parameters.prior = None
    parameters.startFile = str(tmp_path / "gone.safetensors")
    refused("gone.safetensors")
    parameters.startFile = str(model)
    parameters.network = "unet3d"
    refused("takes no model to start from")
    parameters.network = "auto"
    other, _ = addVolume("MR b")
    before = parameters.volume, parameters.segmentation
    parameters.segmentation = None
    parameters.volume = other
    user.click("newSegmentationButton")
    paintSlices(user, truth, [("k", 8)])
    parameters.trainingSet = [parameters.segmentation]
    parameters.segmentation = None
    parameters.volume, parameters.segmentation = before
    user.turn()
    refused("goes with one scan alone")

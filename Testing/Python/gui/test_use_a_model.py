"""Several scans in the panel: trained on together, segmented with a model, reviewed."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import slicer.util
from described_models import write_model
from scenes import SHAPE, SLICES, addVolume, annotated, paintSlices, planeOf, press

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.scene.annotated_pairs import annotatedPairs
from SparseSegNetLib.scene.prediction_start import startedFromPrediction
from SparseSegNetLib.scene.segmentations import mergedSegments


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "kidney.safetensors")


def cells(table, column=0):
    return [table.item(row, column).text() for row in range(table.rowCount)]


def check(table, row, checked):
    from PySide6.QtCore import Qt

    table.item(row, 0).setCheckState(Qt.Checked if checked else Qt.Unchecked)


def second(user, name="MR b", slices=SLICES[:2]):
    """Another annotated scan; the first is chosen again afterwards."""
    parameters = user.panel.parameters
    before = parameters.volume, parameters.segmentation
    volume, truth = addVolume(name)
    parameters.segmentation = None
    parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth, slices)
    node = parameters.segmentation
    parameters.segmentation = None
    parameters.volume, parameters.segmentation = before
    user.turn()
    return volume, node


def opened(user, model=None):
    user.ui.modelSection.collapsed = False
    if model is not None:
        user.panel.parameters.modelFile = str(model)
    user.until(lambda: user.panel.torchCard.state == "ready")
    user.turn()


def only(user, *sections):
    """The other sections folded, for a picture."""
    for name in ("data", "annotate", "learn", "result", "model"):
        getattr(user.ui, f"{name}Section").collapsed = name not in sections


def test_training_on_several_scans(user):
    from PySide6.QtWidgets import QApplication

    annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    volume = user.panel.parameters.volume
    user.ui.severalGroup.checked = True
    assert "no other annotated scan" in user.ui.severalLabel.text
    only(user, "learn")
    user.picture("20-several-none")
    other, drawn = second(user)
    user.until(lambda: user.ui.trainingTable.rowCount == 2, 5)
    assert cells(user.ui.trainingTable) == ["MR", "MR b"]
    assert cells(user.ui.trainingTable, 2) == ["5", "2"]
    assert [p.volume for p in user.panel.training.pairs()] == [volume]
    check(user.ui.trainingTable, 1, True)
    user.ui.advancedGroup.collapsed = False
    user.click("copyScriptButton")
    script = QApplication.clipboard().text()
    assert "SparseSegNet.train(pairs, timeBudget=15, device='cpu')" in script
    compile(script, "script", "exec")
    assert user.panel.parameters.trainingSet == [drawn]
    assert "(2 chosen)" in user.ui.severalGroup.title
    user.picture("21-several-chosen")
    press(user, "trainButton")
    run = user.panel.controller.run
    assert run._run.folder.task == "train" and run.volumeNodes == [volume, other]
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    assert "2 scans segmented" in user.ui.statusLabel.text
    first, its = run.results
    assert user.panel.parameters.result is first
    assert first.GetDisplayNode().GetVisibility() and not its.GetDisplayNode().GetVisibility()
    assert not user.ui.continueButton.visible and "press Train" in user.ui.resultLabel.text
    only(user, "learn", "result")
    user.picture("22-several-done")
    # The other scan is chosen: its result is shown, and its uncertainty is on its grid.
    user.panel.parameters.segmentation = None
    user.panel.parameters.volume, user.panel.parameters.segmentation = other, drawn
    user.turn()
    assert user.panel.parameters.result is its and its.GetDisplayNode().GetVisibility()
    assert not first.GetDisplayNode().GetVisibility()
    user.click("uncertaintyButton")
    assert user.panel.parameters.uncertainty is not None
    # The model can be used at once.
    opened(user)
    assert "Structure 1" in user.ui.modelLabel.text and "Trained on 3 scans" in (
        user.ui.modelLabel.text
    )
    # With one check mark it is a densification as ever.
    user.panel.parameters.trainingSet = []
    press(user, "trainButton")
    assert user.panel.controller.run._run.folder.task == "densify"


def test_further_channels_are_not_lost_in_silence(user):
    annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    _, drawn = second(user)
    user.panel.parameters.channels = [addVolume("T2")[0]]
    user.panel.parameters.trainingSet = [drawn]
    press(user, "trainButton")
    assert "uncheck the further channels" in user.ui.statusLabel.text
    assert user.panel.controller.run is None


def test_a_model_on_scans_of_the_scene(user, model, monkeypatch):
    opened(user)
    assert "Train first, or open a model" in user.ui.modelLabel.text
    assert not user.ui.segmentButton.enabled
    only(user, "model")
    user.picture("23-model-none")
    dialog = user.qt.QFileDialog
    monkeypatch.setattr(
        user.qt, "QFileDialog", SimpleNamespace(getOpenFileName=lambda *a: (str(model), ""))
    )
    user.click("openModelButton")
    monkeypatch.setattr(user.qt, "QFileDialog", dialog)
    assert user.panel.parameters.modelFile == str(model)
    assert "Shell" in user.ui.modelLabel.text and "Dice 0.9" in user.ui.modelLabel.text
    volumes = [addVolume(f"MR {n}")[0] for n in (1, 2, 3)]
    thick, _ = addVolume("MR thick")
    thick.SetSpacing(0.8, 0.8, 4.0)
    noisy = slicer.util.arrayFromVolume(volumes[1])
    noisy += np.random.default_rng(0).normal(0, 25, SHAPE).astype(noisy.dtype)
    user.until(lambda: user.ui.scanTable.rowCount == 4, 5)
    check(user.ui.scanTable, 2, False)
    user.turn()
    user.picture("24-model-scans")
    monkeypatch.setenv("STAND_IN_FAILS", "MR 1")
    user.click("segmentButton")
    assert user.ui.cancelSegmentButton.enabled and not user.ui.segmentButton.enabled
    user.until(lambda: "/errors/#out-of-memory" in user.ui.modelHelpLabel.text)
    assert user.panel.model.queue.finished == 1
    user.picture("25-model-running")
    user.until(lambda: not user.panel.model.queue.active)
    user.turn()
    states = [text.partition(":")[0] for text in cells(user.ui.scanTable, 1)]
    assert states == ["Failed", "Segmented", "", "Not segmented"]
    assert "1 of 3 scans segmented" in user.ui.modelStatusLabel.text
    assert "MR thick has a spacing" in user.ui.modelStatusLabel.text
    assert not user.ui.modelHelpLabel.visible, "it says all"
    assert "accept=" not in user.ui.modelStatusLabel.text, "a choice of the panel's own"
    user.picture("26-model-refused")
    asked = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, title: asked.append(text) or True
    )
    user.click("anywayButton")
    assert "spacing" in asked[0]
    user.until(lambda: not user.panel.model.queue.active)
    user.turn()
    assert cells(user.ui.scanTable, 1)[3] == "Segmented"
    # What failed is tried again.
    monkeypatch.delenv("STAND_IN_FAILS")
    user.click("segmentButton")
    assert len(user.panel.model.queue.batch) == 1, "what is done is not done again"
    user.until(lambda: not user.panel.model.queue.active)
    user.turn()
    names = cells(user.ui.reviewTable)
    assert sorted(names) == ["MR 1", "MR 2", "MR thick"] and names[0] == "MR 2", "the noisy one"
    # To correct one: its prediction is the start, and it joins the training set.
    user.ui.reviewTable.selectRow(0)
    user.turn()
    user.picture("27-model-review")
    user.click("showScanButton")
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert composite.GetBackgroundVolumeID() == volumes[1].GetID()
    user.click("correctScanButton")
    parameters = user.panel.parameters
    assert parameters.volume is volumes[1] and startedFromPrediction(parameters.segmentation)
    assert parameters.segmentation.GetName() == "MR 2 corrected"
    assert user.ui.segmentEditor.segmentationNode() is parameters.segmentation
    assert parameters.trainingSet == [parameters.segmentation]
    assert user.ui.sliceTable.rowCount == 0, "nothing is annotated yet"
    assert "This is a prediction" in user.ui.annotateHint.text
    ids = list(parameters.segmentation.GetSegmentation().GetSegmentIDs())
    before = mergedSegments(parameters.segmentation.GetSegmentation(), ids, volumes[1])
    where = planeOf("k", 9)
    user.paint(ids[1], np.s_[9, 4:8, 4:8])
    user.until(lambda: user.ui.sliceTable.rowCount == 1, 10)
    assert "k 9" in user.ui.sliceTable.item(0, 0).text()
    after = mergedSegments(parameters.segmentation.GetSegmentation(), ids, volumes[1])
    assert (after[where] != before[where]).any()
    (pair,) = annotatedPairs()
    assert pair.segmentation is parameters.segmentation and pair.slices == 1
    first = parameters.segmentation
    user.ui.reviewTable.selectRow(0)
    user.click("correctScanButton")
    assert parameters.segmentation is first, "opened again, not begun anew"
    only(user, "annotate", "model")
    user.picture("28-correcting")


def test_cancel_and_a_scene_that_is_closed(user, model, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "never"))
    for n in (1, 2):
        addVolume(f"MR {n}")
    opened(user, model)
    user.click("segmentButton")
    user.until(lambda: user.panel.model.queue._run is not None)
    run = user.panel.model.queue._run
    user.click("cancelSegmentButton")
    assert cells(user.ui.scanTable, 1) == ["Cancelled", "Cancelled"]
    user.until(lambda: run._run.ended, 10)
    user.click("segmentButton")
    user.until(lambda: user.panel.model.queue._run is not None)
    run = user.panel.model.queue._run
    slicer.mrmlScene.Clear(0)
    user.until(lambda: run._run.ended, 10)
    assert user.ui.scanTable.rowCount == 0 and not user.panel.model.queue.active
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_files_of_a_folder(user, model, monkeypatch, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in (1, 2):
        node, _ = addVolume(f"MR {n}")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(folder / f"case{n}.nrrd"))
        assert storage.WriteData(node)
        slicer.mrmlScene.RemoveNode(node)
    (folder / "case2.seg.nrrd").write_text("mine")

    def load(path, properties):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "case")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(path)
        assert storage.ReadData(node)
        return node

    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    opened(user, model)
    user.ui.sourceCombo.currentIndex = 1
    assert "Choose a folder" in user.ui.modelStatusLabel.text
    monkeypatch.setattr(
        user.qt, "QFileDialog", SimpleNamespace(getExistingDirectory=lambda *a: str(folder))
    )
    user.click("folderButton")
    assert cells(user.ui.scanTable) == ["case1.nrrd", "case2.nrrd"]
    assert cells(user.ui.scanTable, 1) == ["", "Segmented before"]
    only(user, "model")
    user.picture("29-folder")
    user.click("segmentButton")
    user.until(lambda: not user.panel.model.queue.active)
    user.turn()
    assert "1 of 1 scans segmented" in user.ui.modelStatusLabel.text
    assert (folder / "case1.seg.nrrd").is_file()
    assert (folder / "case2.seg.nrrd").read_text(encoding="utf-8") == "mine"
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert cells(user.ui.reviewTable) == ["case1.nrrd"]
    shutil.rmtree(folder)
    user.panel.model.say("")
    assert "cannot be read" in user.ui.modelStatusLabel.text


def test_images_of_a_sequence(user, model, monkeypatch):
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    sequences = SimpleNamespace(logic=lambda: logic)
    monkeypatch.setattr(slicer.modules, "sequences", sequences, raising=False)
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
    for n in range(2):
        node, _ = addVolume("frame")
        sequence.SetDataNodeAtValue(node, str(n))
        slicer.mrmlScene.RemoveNode(node)
    opened(user, model)
    user.ui.sourceCombo.currentIndex = 2
    assert "Choose a sequence" in user.ui.modelStatusLabel.text
    user.ui.sequenceSelector.setCurrentNode(sequence)
    assert cells(user.ui.scanTable) == ["Heart 0 s", "Heart 1 s"]
    user.click("segmentButton")
    user.until(lambda: not user.panel.model.queue.active)
    user.turn()
    made = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[1]
    assert made.GetName() == "Heart segmentation" and made.GetNumberOfDataNodes() == 2
    only(user, "model")
    user.picture("30-sequence")
    user.ui.reviewTable.selectRow(0)
    user.click("correctScanButton")
    assert user.panel.parameters.volume.GetName().startswith("Heart")
    assert startedFromPrediction(user.panel.parameters.segmentation)


def test_one_of_several_scans_is_deleted_while_training(user, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "go"))
    annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    other, drawn = second(user)
    user.panel.parameters.trainingSet = [drawn]
    press(user, "trainButton")
    slicer.mrmlScene.RemoveNode(other)
    slicer.mrmlScene.RemoveNode(drawn)
    (tmp_path / "go").touch()
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    assert user.panel.parameters.result.GetName() == "MR drawn dense"
    assert "1 scans segmented" in user.ui.statusLabel.text

"""What must never hang, leave a process behind or touch a node that has gone."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from scenes import addVolume, annotated, paintSlices, planeOf, press, training

from SparseSegNetLib.runfolder.lock import alive
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.sample import loadSample, sampleTruth


def engineOf(user, events):
    """The engine's process, once it has told."""
    user.until(lambda: any(e["event"] == "ready" for e in events))
    return next(e["pid"] for e in events if e["event"] == "ready")


def begun(user, seconds=120.0):
    """A run that trains, and its engine's process."""
    truth = annotated(user, seconds)
    events = []
    press(user, "trainButton")
    user.panel.controller.run.observe(events.append)
    pid = engineOf(user, events)
    user.until(lambda: training(user))
    return truth, pid


def test_the_scene_is_closed_while_training(user):
    _, pid = begun(user)
    folder = user.panel.controller.run.folder
    slicer.mrmlScene.Clear(0)
    assert not user.panel.controller._leaving[0]._run.ended, "closing does not wait for the engine"
    assert user.panel.controller.run is None and user.panel.session is None
    assert user.panel.parameters.volume is None
    user.until(lambda: not alive(pid), 15)
    assert folder.is_dir(), "the run can still be resumed by hand"
    # The panel goes on with the next scene.
    volume, _ = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    assert user.panel.session is not None


@pytest.mark.parametrize("gone", ["volume", "segmentation"])
def test_a_node_is_deleted_while_training(user, gone):
    _, pid = begun(user)
    slicer.mrmlScene.RemoveNode(getattr(user.panel.parameters, gone))
    assert user.panel.session is None and not user.ui.trainButton.enabled
    user.turn()
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert (
        user.panel.controller.state == "failed"
        and f"{gone} is no longer in the scene" in user.ui.statusLabel.text
    )
    assert (user.panel.controller.run.folder / "result" / "1.npy").is_file(), "the result is kept"
    user.until(lambda: not alive(pid), 15)


def test_a_segment_is_deleted_while_training(user):
    begun(user, 60.0)
    segmentation = user.panel.parameters.segmentation.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetNthSegmentID(1))
    user.until(lambda: "Structure 2" not in user.ui.sliceTable.item(0, 1).text(), 10)
    user.until(lambda: "begin a new one" in user.ui.statusLabel.text, 10)
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert (
        user.panel.controller.state == "failed"
        and "'Structure 2' was removed" in user.ui.statusLabel.text
    )


def test_the_module_is_reloaded_and_slicer_quits(user, makeUser, slicerApplication):
    _, pid = begun(user)
    checkpoint = user.panel.controller.run.folder / "checkpoint" / "state.safetensors"
    user.until(checkpoint.is_file)
    user.widget.cleanup()
    assert not alive(pid), "no orphan"
    user.widget.onReload()
    assert not any(n.startswith("SparseSegNetLib") for n in sys.modules), "the library too"
    second = makeUser()
    assert second.ui.resumeButton.visible, "its run can be resumed"
    second.until(lambda: second.panel.torchCard.state == "ready")
    events = []
    press(second, "resumeButton")
    second.panel.controller.run.observe(events.append)
    pid = engineOf(second, events)
    for act in list(slicerApplication._signals["aboutToQuit()"]):
        act()
    assert not alive(pid)


def test_the_engine_is_killed_and_the_run_resumed(user):
    _, pid = begun(user)
    folder = user.panel.controller.run.folder
    user.until(lambda: (folder / "checkpoint" / "state.safetensors").is_file())
    os.kill(pid, 9)
    user.until(lambda: not user.panel.controller.active)
    assert (
        user.panel.controller.state == "failed" and "killed the engine" in user.ui.statusLabel.text
    )
    assert "'Resume the last run'" in user.ui.statusLabel.text
    assert "sparsesegnet resume" not in user.ui.statusLabel.text
    assert "/errors/#killed" in user.ui.helpLabel.text and user.ui.helpLabel.visible
    user.picture("8-killed")
    press(user, "resumeButton")
    assert user.panel.controller.run.folder == folder
    user.until(lambda: training(user))
    assert not user.ui.helpLabel.visible
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    assert user.panel.parameters.result is not None


def test_the_scene_is_saved_opened_and_the_run_resumed(user, tmp_path):
    begun(user)
    folder = user.panel.controller.run.folder
    user.until(lambda: (folder / "checkpoint" / "state.safetensors").is_file())
    slices = dict(user.panel.session.slices)
    user.panel.parameters.seed = 7
    bundle = str(tmp_path / "session.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear(0)
    assert user.panel.parameters.volume is None
    assert slicer.mrmlScene.ReadFromMRB(bundle, True)
    user.until(lambda: user.panel.session is not None, 5)
    parameters = user.panel.parameters
    assert parameters.volume.GetName() == "MR" and parameters.seed == 7
    assert parameters.timeBudget == 120.0 and user.ui.seedSpin.value == 7
    assert user.panel.session.slices == slices and user.ui.sliceTable.rowCount == 5
    assert parameters.runFolder == str(folder)
    assert user.ui.segmentEditor.segmentationNode() is parameters.segmentation
    assert parameters.preview is None, "a preview is not saved"
    user.until(lambda: user.ui.resumeButton.visible, 10)
    user.picture("9-resume-offered")
    user.until(lambda: not user.panel.controller._leaving, 15)
    press(user, "resumeButton")
    user.until(lambda: training(user))
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text


def test_a_run_of_the_console_is_shown(user):
    import SparseSegNet

    annotated(user, 60.0)
    volume, drawn = user.panel.parameters.volume, user.panel.parameters.segmentation
    user.panel.parameters.volume = None
    run = SparseSegNet.densify(volume, drawn, timeBudget=60)
    assert SparseSegNet.currentRun() is run
    user.until(lambda: user.panel.controller.run is run, 5)
    assert user.panel.parameters.volume is volume
    user.until(lambda: training(user))
    user.click("stopButton")
    assert run.wait(60) == "done"
    user.until(lambda: user.panel.parameters.result is not None, 10)
    assert user.panel.parameters.result is run.result
    assert logic.currentRun() is run


def test_a_volume_under_a_transform_is_refused_in_words(user):
    annotated(user)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    user.panel.parameters.volume.SetAndObserveTransformNodeID(transform.GetID())
    user.panel.parameters.segmentation = None
    user.click("newSegmentationButton")
    assert "under the transform 'Shift'" in user.ui.dataInfoLabel.text
    assert not user.ui.trainButton.enabled
    user.panel.parameters.volume.SetAndObserveTransformNodeID(None)
    user.until(lambda: user.panel.session is not None, 5)
    user.panel.parameters.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    user.until(lambda: user.panel.session is None, 5)
    assert "the segmentation 'MR drawn_1' is under" in user.ui.dataInfoLabel.text


def test_no_main_window_and_keys_with_one(user, makeUser, slicerApplication, monkeypatch):
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    assert not user.panel.annotate._shortcuts, "without a main window there are no keys"
    user.widget.exit()
    user.widget.cleanup()
    user.window.objectName = "qSlicerMainWindow"
    slicerApplication._windows.append(user.window)
    second = makeUser()
    annotated(second)
    user.window.show()
    user.window.activateWindow()
    second.until(lambda: user.window.isActiveWindow, 5)
    both = Qt.ControlModifier | Qt.ShiftModifier
    QTest.keyClick(user.window, Qt.Key_Right, both)
    first = second.panel.annotate.table.current
    assert first is not None
    QTest.keyClick(user.window, Qt.Key_Right, both)
    assert second.panel.annotate.table.current != first
    QTest.keyClick(user.window, Qt.Key_Left, both)
    assert second.panel.annotate.table.current == first
    marked, mark = [], second.panel.session.mark
    monkeypatch.setattr(
        second.panel.session, "mark", lambda plane: marked.append(plane) or mark(plane)
    )
    QTest.keyClick(user.window, Qt.Key_M, both)
    assert len(marked) == 1 and marked[0] in second.panel.session.slices
    second.widget.exit()
    assert not second.panel.annotate._shortcuts


@pytest.mark.parametrize("keyword", ["loadFileType", "loadFileTypes"])
def test_sample_data_is_offered_and_loads_offline(
    slicerApplication, monkeypatch, tmp_path, keyword
):
    import hashlib
    import sys
    import types
    import urllib.request

    from SparseSegNetLib.scene.annotations import annotationOf

    offered = {}
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = types.SimpleNamespace(
        registerCustomSampleDataSource={
            "loadFileType": lambda *, loadFileType, **about: offered.update(
                about, loadFileType=loadFileType
            ),
            "loadFileTypes": lambda *, loadFileTypes, loadFileType=None, **about: offered.update(
                about, loadFileTypes=loadFileTypes
            ),
        }[keyword]
    )
    monkeypatch.setitem(sys.modules, "SampleData", module)
    import SparseSegNet

    path = Path(SparseSegNet.__file__)
    SparseSegNet.SparseSegNet(types.SimpleNamespace(path=str(path)))
    for act in slicerApplication._signals["startupCompleted()"]:
        act()
    assert offered["category"] == "SparseSegNet" and offered["sampleName"] == "SparseSegNetKidney"
    assert Path(offered["thumbnailFileName"]).is_file()
    assert "customDownloader" not in offered, "scripts do not ask it"
    # What SampleData does with it, in the panel and in `downloadSample`: each URI is retrieved to
    # its name in the cache, checked, and loaded as its type under its node's name.
    kinds = {
        "VolumeFile": ("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
        "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    }
    nodes = []
    for uri, name, node, kind, checksum in zip(
        *(offered[key] for key in ("uris", "fileNames", "nodeNames", keyword, "checksums")),
        strict=True,
    ):
        path, _ = urllib.request.urlretrieve(uri, tmp_path / name)
        algorithm, digest = checksum.split(":")
        assert hashlib.new(algorithm.lower(), Path(path).read_bytes()).hexdigest() == digest
        nodes.append(slicer.mrmlScene.AddNewNodeByClass(kinds[kind][0], node))
        storage = slicer.mrmlScene.CreateNodeByClass(kinds[kind][1])
        storage.UnRegister(None)
        storage.SetFileName(str(path))
        assert storage.ReadData(nodes[-1])
    volume, drawn = nodes
    assert volume.GetImageData().GetDimensions() == (104, 96, 60)
    assert drawn.GetSegmentation().GetNumberOfSegments() == 2
    annotation = annotationOf(drawn, volume, None)
    assert len(annotation.slices) == 8 and not annotation.warnings


def test_a_sample_that_is_missing_is_named(slicerApplication, tmp_path):
    with pytest.raises(RuntimeError, match="install SparseSegNet again"):
        loadSample(tmp_path)
    shutil.copy(Path(logic.__file__).parents[2] / "Resources/Sample/kidney-labels.nrrd", tmp_path)
    assert set(np.unique(sampleTruth(tmp_path))) == {0, 1, 2}


def test_strokes_are_looked_at_in_little_time(user):
    """The heartbeat's share of the GUI thread on a volume of ordinary size."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(node, np.zeros((128, 128, 128), np.int16))
    user.panel.parameters.volume = node
    user.click("newSegmentationButton")
    ids = list(user.panel.parameters.segmentation.GetSegmentation().GetSegmentIDs())
    for index in (20, 60, 100):
        user.paint(ids[0], planeOf("k", index))
        user.until(lambda: user.panel.session.dirtySince is None, 10)
    assert len(user.panel.session.slices) == 3
    paintSlices(user, np.zeros((24, 28, 30)), ())

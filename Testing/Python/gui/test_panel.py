"""The panel, driven as a user would: the whole way, and what goes on meanwhile."""

import numpy as np
import slicer
import slicer.util
import vtk
from phantom import iou
from scenes import SHAPE, addVolume, annotated, paintSlices, planeOf, press, training

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.slice_list import listedSlices
from SparseSegNetLib.scene.volumes import volumeGeometry


def dense(node, volume):
    segmentation = node.GetSegmentation()
    return mergedSegments(segmentation, list(segmentation.GetSegmentIDs())[:2], volume)


def test_the_whole_way_from_an_empty_scene(user):
    assert "Sample Data" in user.ui.dataInfoLabel.text and not user.ui.trainButton.enabled
    user.until(lambda: user.panel.torchCard.state == "ready")
    user.picture("1-empty")
    volume, truth = addVolume()
    user.ui.volumeSelector.setCurrentNode(volume)
    assert "24" in user.ui.dataInfoLabel.text and user.panel.parameters.volume is volume
    user.click("newSegmentationButton")
    drawn = user.panel.parameters.segmentation
    assert [
        drawn.GetSegmentation().GetSegment(i).GetName()
        for i in drawn.GetSegmentation().GetSegmentIDs()
    ] == ["Structure 1", "Structure 2"]
    assert user.ui.segmentEditor.segmentationNode() is drawn
    assert user.ui.segmentEditor.sourceVolumeNode() is volume
    user.picture("2-nothing-drawn")
    # Training on nothing is refused in words.
    press(user, "trainButton")
    assert "No voxel is labelled" in user.ui.statusLabel.text
    paintSlices(user, truth)
    assert set(listedSlices(drawn, volumeGeometry(volume)).slices) == {
        AnnotatedSlice(*s) for s in (("k", 8), ("k", 16), ("j", 10), ("j", 18), ("i", 15))
    }
    assert user.ui.sliceTable.rowCount == 5 and "5 slices" in user.ui.countLabel.text
    user.picture("3-annotated")
    before = dense(drawn, volume).copy()
    user.panel.parameters.timeBudget = 120.0
    press(user, "trainButton")
    assert user.panel.controller.active and not user.ui.trainButton.enabled
    user.until(
        lambda: (
            training(user)
            and user.panel.parameters.preview is not None
            and user.panel.learn.curve.points
        )
    )
    assert "left" in user.ui.progressBar.format
    user.picture("4-training")
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    result = user.panel.parameters.result
    assert result is not drawn and (dense(drawn, volume) == before).all()
    assert user.panel.parameters.preview is None, "the preview is taken away"
    known = before > 0
    for item in listedSlices(drawn, volumeGeometry(volume)).slices:
        known[item.selector()] = True
    found = dense(result, volume)
    assert (found[known] == truth[known]).all(), "what was drawn is in the result as drawn"
    assert iou(found, truth, known) > 0.6
    user.click("uncertaintyButton")
    shown = user.panel.parameters.uncertainty
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert all(c.GetForegroundVolumeID() == shown.GetID() for c in composites)
    user.picture("5-result")
    user.click("uncertaintyButton")
    assert not any(c.GetForegroundVolumeID() for c in composites)
    # Corrections of the result become annotation, and training continues.
    user.click("correctButton")
    assert user.ui.segmentEditor.segmentationNode() is result
    ids = list(result.GetSegmentation().GetSegmentIDs())
    # Four voxels in a slice that was not drawn: the kind of correction that users make.
    index, patch = 12, np.s_[12, 2:4, 2:4]
    assert not known[patch].any() and not found[patch].any()
    corrected = slicer.util.arrayFromSegmentBinaryLabelmap(result, ids[0], volume).copy()
    corrected[patch] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, result, ids[0], volume)
    listed = listedSlices(drawn, volumeGeometry(volume))
    user.panel.parameters.timeBudget = 6.0
    press(user, "continueButton")
    assert "4 corrected voxels" in user.ui.statusLabel.text
    assert user.ui.segmentEditor.segmentationNode() is drawn
    assert user.ui.segmentEditor._saved is drawn, "it can be undone"
    assert listedSlices(drawn, volumeGeometry(volume)) == listed, "corrections are voxels, no slice"
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    assert listedSlices(drawn, volumeGeometry(volume)) == listed
    labels = user.panel.controller.run.folder / "inputs" / "1" / "labels.npy"
    labelled = known.copy()
    labelled[patch] = True
    assert ((np.load(labels)[index] != 255) == labelled[index]).all()
    second = user.panel.parameters.result
    assert second is not result and result.GetScene() is not None, "nothing is lost"
    again = mergedSegments(second.GetSegmentation(), ids, volume)
    assert (again[patch] == 1).all()
    whole = (found[index] > 0).sum()
    assert (again[index] > 0).sum() > 0.5 * whole > 0, "the rest of the slice stays"


def test_correct_pause_rename_and_stop_while_training(user):
    truth = annotated(user, 120.0)
    drawn = user.panel.parameters.segmentation
    events = []
    press(user, "trainButton")
    user.panel.controller.run.observe(events.append)
    user.until(lambda: training(user))
    segment = drawn.GetSegmentation().GetNthSegment(0)
    segment.SetName("Renamed")
    segment.SetColor(0.9, 0.1, 0.2)
    # One more slice is painted: noticed, listed, and taken to the engine by itself.
    inPlane = np.zeros(SHAPE, bool)
    inPlane[planeOf("k", 12)] = True
    ids = list(drawn.GetSegmentation().GetSegmentIDs())
    for segmentId, value in zip(ids, (1, 2), strict=True):
        user.paint(segmentId, inPlane & (truth == value))
    user.until(lambda: any(e["event"] == "labels" for e in events), 20)
    assert AnnotatedSlice("k", 12) in user.panel.controller.run.slices
    assert "Renamed" in user.ui.sliceTable.item(0, 1).text()
    user.click("pauseButton")
    user.until(lambda: user.panel.controller.state == "paused")
    assert user.ui.pauseButton.text == "Resume"
    user.picture("6-paused")
    user.click("pauseButton")
    user.until(lambda: user.panel.controller.state == "training")
    user.ui.timeSlider.value = 2
    assert user.panel.parameters.timeBudget == 60.0
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    first = user.panel.parameters.result.GetSegmentation().GetNthSegment(0)
    assert first.GetName() == "Renamed" and first.GetColor() == (0.9, 0.1, 0.2)


def test_the_only_segmentation_of_a_volume_is_chosen_with_it(user):
    volume, _ = addVolume()
    other, _ = addVolume("another")
    other.SetOrigin(500, 0, 0)

    def segmentation(name, reference=None, drawn=None):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.GetSegmentation().AddEmptySegment("A", "A")
        if reference is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        if drawn is not None:  # as a file is loaded: on the grid, without a reference
            mask = np.zeros(SHAPE, np.uint8)
            mask[8, 4:9, 4:9] = 1
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "A", drawn)
            node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
        return node

    elsewhere = segmentation("elsewhere", other)
    segmentation("empty, of nothing")
    loaded = segmentation("loaded", drawn=volume)
    user.ui.volumeSelector.setCurrentNode(volume)
    user.turn()
    assert user.panel.parameters.segmentation is loaded
    user.panel.parameters.segmentation = None
    user.turn()
    assert user.panel.parameters.segmentation is None, "what is emptied stays empty"
    user.ui.volumeSelector.setCurrentNode(other)
    user.turn()
    assert user.panel.parameters.segmentation is elsewhere
    user.panel.parameters.segmentation = None
    segmentation("a second one", volume)
    user.ui.volumeSelector.setCurrentNode(volume)
    user.turn()
    assert user.panel.parameters.segmentation is None, "two belong to it: the user says which"


def test_cancel_changes_nothing(user):
    annotated(user, 120.0)
    press(user, "trainButton")
    user.until(lambda: training(user) and user.panel.parameters.preview is not None)
    run, nodes = user.panel.controller.run, user.panel.parameters.segmentation
    user.click("cancelButton")
    assert user.panel.controller.state == "cancelled" and user.panel.parameters.result is None
    assert user.panel.parameters.preview is None and nodes.GetScene() is not None
    assert user.ui.trainButton.enabled
    user.until(lambda: run.state == "cancelled", 10)


def test_slices_by_hand(user):
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    views = {n.GetName(): n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    user.until(lambda: user.ui.viewCombo.count == 3, 5)
    assert [user.ui.viewCombo.itemText(n)[:3] for n in range(3)] == ["Red", "Yel", "Gre"]
    user.ui.viewCombo.currentIndex = 0
    user.click("markButton")
    slices = list(user.panel.session.slices.items())
    assert len(slices) == 1 and slices[0][0].axis == "k" and slices[0][1] is True
    assert user.ui.sliceTable.item(0, 1).text() == "empty"
    # Only the visible part: first the view shows all of it.
    item = slices[0][0]
    views["Red"].SetFieldOfView(500, 500, 1)
    user.click("boxButton")
    assert "zoom in" in user.ui.statusLabel.text and not user.ui.boxButton.checked
    ijk = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(ijk)
    views["Red"].JumpSliceByCentering(*ijk.MultiplyPoint((15, 14, item.index, 1))[:3])
    views["Red"].SetFieldOfView(8, 8, 1)
    user.click("boxButton")
    boxed = next(iter(user.panel.session.slices))
    assert boxed.box is not None and user.ui.boxButton.checked
    assert user.ui.sliceTable.item(0, 2).text() == "part"
    user.click("boxButton")
    assert next(iter(user.panel.session.slices)).box is None
    paintSlices(user, truth, (("j", 10),))
    user.click("nextButton")
    user.click("nextButton")
    assert user.panel.annotate.table.current is not None
    shown = user.panel.annotate.table.current
    user.click("unmarkButton")
    assert shown not in user.panel.session.slices
    # A 3D brush and a turned view are warned of.
    user.panel.annotate.editor.node.SetAttribute("BrushSphere", "1")
    user.until(lambda: user.ui.viewWarning.visible, 5)
    assert "3D sphere" in user.ui.viewWarningLabel.text
    user.panel.annotate.editor.node.SetAttribute("BrushSphere", "0")
    views["Red"].SetOrientation("Axial")
    views["Green"].SetOrientation("Coronal")
    user.until(lambda: "Green" in user.ui.viewWarningLabel.text, 5)
    user.picture("7-turned-view")
    user.click("alignButton")
    user.until(lambda: not user.ui.viewWarning.visible, 5)
    ids = list(user.panel.parameters.segmentation.GetSegmentation().GetSegmentIDs())
    user.paint(ids[0], np.s_[3:8, 4:9, 5:11])
    user.until(lambda: user.ui.viewWarning.visible, 5)
    assert "several voxels thick" in user.ui.viewWarningLabel.text


def test_slices_in_a_cropped_volume_and_back(user):
    annotated(user)
    panel, volume = user.panel, user.panel.parameters.volume
    whole, drawn = dict(panel.session.slices), panel.parameters.segmentation
    crop, _ = addVolume("cropped")
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    crop.SetIJKToRASMatrix(matrix)
    crop.SetOrigin(*matrix.MultiplyPoint((4, 6, 10, 1))[:3])
    slicer.util.updateVolumeFromArray(
        crop, slicer.util.arrayFromVolume(volume)[10:, 6:, 4:20].copy()
    )
    panel.parameters.volume, panel.parameters.segmentation = crop, drawn
    user.turn()
    assert {(s.axis, s.index) for s in panel.session.slices} == {
        *(("k", 6), ("j", 4), ("j", 12), ("i", 11))
    }
    assert "1 of 5 annotated slices lies outside" in user.ui.annotateHint.text
    assert user.ui.sliceTable.rowCount == 4
    # The other way round in the same node.
    matrix.DeepCopy((-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))
    flip = vtk.vtkMatrix4x4()
    crop.GetIJKToRASMatrix(flip)
    ends = flip.MultiplyPoint((15, 21, 0, 1))[:3]
    vtk.vtkMatrix4x4.Multiply4x4(flip, matrix, flip)
    crop.SetIJKToRASMatrix(flip)
    crop.SetOrigin(*ends)
    user.until(lambda: ("j", 17) in {(s.axis, s.index) for s in panel.session.slices}, 5)
    assert {(s.axis, s.index) for s in panel.session.slices} == {
        *(("k", 6), ("j", 17), ("j", 9), ("i", 4))
    }
    panel.parameters.volume, panel.parameters.segmentation = volume, drawn
    user.turn()
    assert panel.session.slices == whole and not user.ui.annotateHint.visible


def test_what_can_be_chosen(user):
    """Scalar and colour volumes, no label maps."""
    for kind in ("Scalar", "Vector", "LabelMap"):
        slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}VolumeNode", kind)
    texts = [user.ui.volumeSelector.itemText(n) for n in range(user.ui.volumeSelector.count)]
    assert texts == ["(choose a volume)", "Scalar", "Vector"]


def test_copy_as_python(user):
    from PySide6.QtWidgets import QApplication

    annotated(user)
    user.ui.advancedGroup.collapsed = False
    user.click("copyScriptButton")
    script = QApplication.clipboard().text()
    assert (
        "SparseSegNet.densify(volume, drawn, timeBudget=15, device='cpu', slices='i:15 j:10"
        in script
    )
    compile(script, "script", "exec")
    user.ui.largestCheck.checked = True
    user.click("copyScriptButton")
    assert ", largestComponent=True, slices=" in QApplication.clipboard().text()
    user.ui.scanNamesCheck.checked = False
    user.click("copyScriptButton")
    assert ", largestComponent=True, scanNames=False, slices=" in QApplication.clipboard().text()


def test_the_names_of_scans_are_not_stored_if_asked_so(user):
    annotated(user)
    user.panel.parameters.volume.SetName("Mustermann")
    user.ui.advancedGroup.collapsed = False
    user.ui.scanNamesCheck.checked = False
    user.until(lambda: user.panel.torchCard.state == "ready")
    press(user, "trainButton")
    folder = user.panel.controller.run.folder
    assert "Mustermann" not in (folder / "run.json").read_text(encoding="utf-8") + folder.name
    assert not user.ui.scanNamesCheck.enabled
    user.click("cancelButton")

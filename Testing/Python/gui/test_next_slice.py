"""The next slice to draw in the panel, and the prediction there as a start to correct."""

import numpy as np
import pytest
import slicer
import slicer.util
from scenes import SHAPE, addVolume, annotated, paintSlices, planeOf, press

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.client import engine_run
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.next_slices import suggestions
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.views import shownPlanes


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


def rows(user):
    table = user.ui.suggestionTable
    return [tuple(table.item(n, c).text() for c in (0, 1)) for n in range(table.rowCount)]


def settled(user):
    """Suggestions for the present annotation and run are shown."""
    following = user.panel.annotate.next
    following._lookedAt = 0.0  # what the engine wrote last is looked for first
    user.until(
        lambda: (
            following._lookedAt and following._madeOf and following._madeOf == following._state()
        ),
        20,
    )


def found(user):
    return [one.slice for one in user.panel.annotate.next._found]


def shown(user):
    return {(p.axis, p.index) for p in shownPlanes(user.panel.parameters.volume).values() if p}


def only(user, *sections):
    """The other sections folded, for a picture."""
    for name in ("data", "annotate", "learn", "result", "model"):
        getattr(user.ui, f"{name}Section").collapsed = name not in sections


def drawn(user):
    parameters = user.panel.parameters
    segmentation = parameters.segmentation.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    return mergedSegments(segmentation, ids, parameters.volume)


def labels(user):
    parameters = user.panel.parameters
    return annotationOf(parameters.segmentation, parameters.volume, None).labels


def trained(user):
    truth = annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    press(user, "trainButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done", user.ui.statusLabel.text
    settled(user)
    return truth


def test_before_anything_is_trained(user):
    assert not user.ui.nextSliceButton.enabled
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth, (("k", 8),))
    settled(user)
    assert len(rows(user)) == 3 and not user.ui.takeOverButton.enabled
    first = found(user)
    expected = suggestions(volume, user.panel.parameters.segmentation, None)
    assert user.panel.annotate.next._found == expected, "as from the console"
    assert all(s.axis != "k" or s.index != 8 for s in first)
    only(user, "annotate")
    user.picture("30-next-slice")
    for place in (0, 1, 2, 0):
        user.click("nextSliceButton")
        item = first[place]
        assert (item.axis, item.index) in shown(user)
        assert user.ui.suggestionTable.selectedItems()[0].row() == place
        assert user.ui.viewCombo.currentText.endswith(f"{item.axis} {item.index}")
    # The slice that is shown is marked, and the next suggestions are others.
    user.click("markButton")
    assert first[0] in user.panel.session.slices
    user.click("nextSliceButton")
    settled(user)
    user.turn()
    assert first[0] not in found(user)
    assert (found(user)[0].axis, found(user)[0].index) in shown(user), "shown once it was there"
    user.ui.annotateSection.collapsed = True
    made = user.panel.annotate.next._madeOf
    paintSlices(user, truth, (("j", 9),))
    for _ in range(40):
        user.turn()
    following = user.panel.annotate.next
    assert following._madeOf == made != following._state() and following._task is None, "folded"
    user.ui.annotateSection.collapsed = False
    settled(user)


def test_a_layout_that_shows_one_view_only(user):
    annotated(user)
    views = {n.GetName(): n for n in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    for name in ("Yellow", "Green"):
        views[name].SetMappedInLayout(0)
    settled(user)
    for item in found(user):
        user.click("nextSliceButton")
        assert shown(user) == {(item.axis, item.index)}


def test_the_shortcut(user, slicerApplication, monkeypatch):
    from PySide6.QtWidgets import QMainWindow

    window = QMainWindow()
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: window)
    user.panel.annotate.exit()
    user.panel.annotate.enter()
    annotated(user)
    settled(user)
    (keys,) = [s for s in user.panel.annotate._shortcuts if s.key.toString() == "Ctrl+Shift+N"]
    assert "Ctrl+Shift+N" in user.ui.nextSliceButton.toolTip
    keys.activated.emit()
    assert user.panel.annotate.next._shown == found(user)[0]
    user.panel.annotate.exit()


def test_a_prediction_is_taken_over_corrected_and_counts(user):
    trained(user)
    panel, before, known = user.panel, drawn(user), labels(user)
    user.click("nextSliceButton")
    item = panel.annotate.next._shown
    listed = dict(panel.session.slices)
    user.ui.segmentEditor._saved = None
    user.click("takeOverButton")
    assert user.ui.segmentEditor._saved is panel.parameters.segmentation, "it can be undone"
    now, result = drawn(user), panel.controller.run.result
    predicted = mergedSegments(
        result.GetSegmentation(),
        list(result.GetSegmentation().GetSegmentIDs()),
        panel.parameters.volume,
    )
    free = known[item.selector()] == 255
    assert (now[item.selector()][free] == predicted[item.selector()][free]).all() and free.any()
    assert (now[before > 0] == before[before > 0]).all()
    user.until(lambda: panel.session.dirtySince is None, 5)
    assert panel.session.slices == listed and (labels(user) == known).all()
    assert f"{item.axis} {item.index}: it does not count" in user.ui.takenOverLabel.text
    only(user, "annotate")
    user.picture("31-taken-over")
    # Training does not use it, and says so.
    press(user, "trainButton")
    assert "does not count" in user.ui.statusLabel.text
    only(user, "learn")
    user.picture("32-trained-without")
    user.until(lambda: not panel.controller.active)
    read = np.load(panel.controller.run.folder / "inputs" / "1" / "labels.npy")
    assert (read == known).all()
    # Taken back; then taken over again and confirmed.
    only(user, "annotate")
    user.click("undoTakeOverButton")
    assert (drawn(user) == before).all() and not user.ui.takenOverLabel.visible
    assert not user.ui.undoTakeOverButton.enabled
    user.until(lambda: user.ui.takeOverButton.enabled, 5)
    user.click("takeOverButton")
    user.click("markButton")
    assert panel.session.prefilled == [item] and not user.ui.takenOverLabel.visible
    assert (labels(user)[item.selector()] == now[item.selector()]).all()
    assert not user.ui.takeOverButton.enabled and not user.ui.undoTakeOverButton.enabled
    press(user, "trainButton")
    assert "does not count" not in user.ui.statusLabel.text
    user.until(lambda: not panel.controller.active)
    assert {str(s) for s in panel.controller.run.slices if s.prefilled} == {str(item)}


def test_a_correction_confirms_and_another_segmentation_has_no_prediction(user):
    trained(user)
    panel = user.panel
    user.click("nextSliceButton")
    item = panel.annotate.next._shown
    user.click("takeOverButton")
    segmentId = panel.parameters.segmentation.GetSegmentation().GetNthSegmentID(0)
    erased = np.zeros(SHAPE, bool)
    plane = np.zeros_like(drawn(user)[item.selector()])
    plane[2:5, 3:9] = 1
    erased[planeOf(item.axis, item.index)] = plane > 0
    user.paint(segmentId, erased)
    user.until(lambda: item in panel.session.slices, 5)
    assert panel.session.prefilled == [item] and panel.session.slices[item] is False
    user.click("newSegmentationButton")
    user.turn()
    user.until(lambda: not user.ui.takeOverButton.enabled, 5)
    assert panel.annotate.next._findSource() is None


def test_it_waits_in_a_saved_scene(user, tmp_path):
    trained(user)
    user.click("nextSliceButton")
    item = user.panel.annotate.next._shown
    user.click("takeOverButton")
    before, known = drawn(user), labels(user)
    bundle = str(tmp_path / "session.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear(0)
    assert not user.ui.nextSliceButton.enabled and not user.ui.takeOverButton.enabled
    assert slicer.mrmlScene.ReadFromMRB(bundle, True)
    user.until(lambda: user.panel.session is not None, 5)
    assert user.panel.session.unconfirmed == [item]
    assert (drawn(user) == before).all() and (labels(user) == known).all()
    user.panel.annotate.next.show(item)
    user.until(lambda: user.panel.annotate.next._source is not None, 5)
    user.click("undoTakeOverButton")
    assert (labels(user) == known).all() and not user.panel.session.unconfirmed
    user.click("takeOverButton")
    assert (drawn(user) == before).all()


def test_what_cannot_be_taken_over_is_said(user):
    trained(user)
    segmentation = user.panel.parameters.segmentation.GetSegmentation()
    result = user.panel.controller.run.folder / "result" / "1.npy"
    predicted = np.load(result)
    predicted[0] = 0
    np.save(result, predicted)
    user.panel.annotate.next.show(AnnotatedSlice("k", 0))
    user.click("takeOverButton")
    assert "Nothing is predicted in axial k 0" in user.ui.statusLabel.text
    user.panel.annotate.next.show(AnnotatedSlice("k", 12))
    segmentation.RemoveSegment(segmentation.GetNthSegmentID(1))
    user.until(lambda: user.panel.session.dirtySince is None, 5)
    before = drawn(user)
    user.click("takeOverButton")
    assert "restore it there" in user.ui.statusLabel.text and (drawn(user) == before).all()


def test_the_place_of_the_score(user):
    assert not user.ui.scoreLabel.visible
    user.panel.controller.showScore("Tubule 0.86 (0.81 to 0.90); lumen: draw it in one more slice")
    assert user.ui.scoreLabel.visible and "0.86" in user.ui.scoreLabel.text
    only(user, "learn")
    user.picture("33-score")
    annotated(user)
    user.until(lambda: user.panel.torchCard.state == "ready")
    press(user, "trainButton")
    assert not user.ui.scoreLabel.visible, "it was of another run"
    user.until(lambda: not user.panel.controller.active)

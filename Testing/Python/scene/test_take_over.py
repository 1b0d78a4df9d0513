"""A prediction taken over as a start to correct: it does not count before its slice does."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from test_annotation_session import J8, K5, SHAPE, empty, paint  # noqa: F401  a fixture

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.prediction_start import annotationFrom
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.slice_list import listedSlices
from SparseSegNetLib.scene.taken_over import ATTRIBUTE
from SparseSegNetLib.scene.volumes import volumeGeometry

IDS = ["A", "B"]
K8 = AnnotatedSlice("k", 8)


def truth():
    """A block of A with a block of B in it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 3:13, 4:16] = 1
    labels[3:9, 6:10, 8:12] = 2
    return labels


def drawSlices(node, volume, *slices):
    for name, value in (("A", 1), ("B", 2)):
        drawn = np.zeros(SHAPE, bool)
        for item in slices:
            drawn[item.selector()] = truth()[item.selector()] == value
        paint(node, name, volume, drawn)


def taken(session, item=K8):
    return session.takeOver(item, truth()[item.selector()], IDS)


def merged(node, volume):
    return mergedSegments(node.GetSegmentation(), IDS, volume)


def labelled(node, volume):
    return annotationOf(node, volume, None)


def stateOf(node):
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(node.GetSegmentation())
    return copy


def restore(node, state, session, shown=()):
    """As the editor's undo and redo do."""
    for name in IDS:
        node.GetSegmentation().GetSegment(name).DeepCopy(state.GetSegment(name))
    node.Modified()
    session._watch._onEvent(None, None)
    return session.look(shown)


@pytest.fixture
def annotated(empty):  # noqa: F811
    """Two crossing slices, drawn and listed."""
    volume, node = empty
    drawSlices(node, volume, K5, J8)
    return volume, node, AnnotationSession(volume, node)


def test_it_is_drawn_but_neither_listed_nor_labelled(annotated):
    volume, node, session = annotated
    before, known, share = merged(node, volume), labelled(node, volume), session.share()
    listed = listedSlices(node, volumeGeometry(volume))
    paint(node, "A", volume, np.s_[8, 3, 4])  # a voxel of the user's, before the list looked at it
    count = taken(session)
    now = merged(node, volume)
    plane = truth()[8].copy()
    assert count == np.count_nonzero(plane) - 12 - 1, "neither the line of j:8 nor the user's voxel"
    assert (now[8] == plane).all() and (np.delete(now, 8, 0) == np.delete(before, 8, 0)).all()
    session.look([K5])
    assert set(session.slices) == {K5, J8} and session.unconfirmed == [K8]
    assert listedSlices(node, volumeGeometry(volume)) == listed
    found = labelled(node, volume)
    known.labels[8, 3, 4] = 1
    assert (found.labels == known.labels).all() and found.slices == known.slices
    assert any(f"{count} voxels of 'Drawn' were taken over" in text for text in found.warnings)
    assert session.share() == pytest.approx(share + 1 / before.size)


def test_nothing_is_drawn_where_something_was(annotated):
    """Not over drawn voxels, and not over what a complete slice shows as background."""
    volume, node, session = annotated
    paint(node, "B", volume, np.s_[8, 3:5, 4:16])
    session.look()
    session.unmark(K8)
    paint(node, "A", volume, np.s_[2:10, 8, 4:8], False)  # in j:8 they are background now
    session.look([J8])
    before = merged(node, volume)
    taken(session)
    now = merged(node, volume)
    assert (now[before > 0] == before[before > 0]).all()
    assert (now[8, 8, 4:8] == 0).all() and (labelled(node, volume).labels[8, 8, 4:8] == 0).all()


def test_marking_the_slice_confirms_it(annotated, tmp_path):
    volume, node, session = annotated
    taken(session)
    session.mark(K8)
    assert session.unconfirmed == [] and session.prefilled == [K8] and session.slices[K8]
    found = labelled(node, volume)
    assert (found.labels[8] == truth()[8]).all() and not any("taken" in w for w in found.warnings)
    assert [s.prefilled for s in found.slices] == [s == K8 for s in found.slices]
    # The node's list and a run folder know it, the slice being the same one otherwise.
    again = AnnotationSession(volume, node)
    assert again.prefilled == [K8] and again.slices == session.slices
    run = logic.densify(volume, node, maxSteps=1, runFolder=tmp_path / "run")
    run.cancel()
    slices = RunFolder.open(tmp_path / "run").read_slices()
    assert {str(s): s.prefilled for s in slices} == {"j:8": False, "k:5": False, "k:8": True}
    # Taken from the list it waits again; a part of it that counts is confirmed alone.
    session.unmark(K8)
    assert session.unconfirmed == [K8] and (labelled(node, volume).labels[8, 0] == UNLABELLED).all()
    session.mark(K8)
    session.restrict(K8, ((3, 8), (0, 20)))
    assert session.prefilled == [AnnotatedSlice("k", 8, ((3, 8), (0, 20)))]
    labels = labelled(node, volume).labels
    assert (labels[8, 3:8] == truth()[8, 3:8]).all() and (labels[8, 9:] == UNLABELLED).all()


@pytest.mark.parametrize("value", [True, False])
def test_correcting_the_slice_confirms_it_and_undo_takes_that_back(annotated, value):
    volume, node, session = annotated
    taken(session)
    before = stateOf(node)
    paint(node, "A", volume, np.s_[8, 2:4, 4:9], value)
    assert session.look([K8]).added == [K8] and session.prefilled == [K8]
    assert not session.slices[K8] and session.unconfirmed == []
    labels = labelled(node, volume).labels[8]
    assert (labels[2, 4:9] == value).all() and (labels[3, 4:9] == value).all()
    assert (labels[4:] == truth()[8, 4:]).all()
    after = stateOf(node)
    assert restore(node, before, session, [K8]).dropped == [K8]
    assert session.unconfirmed == [K8] and set(session.slices) == {K5, J8}
    assert restore(node, after, session, [K8]).added == [K8] and session.prefilled == [K8]


def test_a_line_that_two_shown_slices_hold_confirms_neither(annotated):
    volume, node, session = annotated
    taken(session)
    paint(node, "A", volume, np.s_[8, 5, 4:9], False)
    shown = [K8, AnnotatedSlice("j", 5)]
    assert session.look(shown).added == [] and session.unconfirmed == [K8]


def test_undo_and_redo_of_the_editor_list_nothing(annotated):
    volume, node, session = annotated
    drawn = merged(node, volume)
    before = stateOf(node)
    taken(session)
    after = stateOf(node)
    session.undoTakeOver(K8)
    assert (merged(node, volume) == drawn).all() and session.unconfirmed == []
    for state, open_ in ((after, [K8]), (before, []), (after, [K8])):
        noticed = restore(node, state, session, [K8])
        assert noticed.changed and not noticed.added and not noticed.warning
        assert set(session.slices) == {K5, J8} and session.unconfirmed == open_
        assert (labelled(node, volume).labels[8, 0] == UNLABELLED).all()
    # Drawn by hand after it was undone the slice did not begin from the prediction.
    restore(node, before, session, [K8])
    paint(node, "A", volume, np.s_[8, 3:13, 4:16])
    assert session.look([K8]).added == [K8] and session.prefilled == []


def test_undoing_leaves_what_was_drawn_since(annotated):
    volume, node, session = annotated
    drawn = merged(node, volume)
    taken(session)
    j4 = AnnotatedSlice("j", 4)
    for value, name in ((1, "A"), (2, "B")):  # a slice across: the line of k:8 is drawn already
        where = np.zeros(SHAPE, bool)
        where[j4.selector()] = truth()[j4.selector()] == value
        paint(node, name, volume, where)
    assert session.look([j4]).added == [j4]
    assert session.unconfirmed == [K8]
    assert (labelled(node, volume).labels[8, 4] == truth()[8, 4]).all(), "part of j:4, as shown"
    session.undoTakeOver(K8)
    now = merged(node, volume)
    assert (now[j4.selector()] == truth()[j4.selector()]).all()
    now[j4.selector()] = drawn[j4.selector()]
    assert (now == drawn).all() and session.unconfirmed == []
    assert (labelled(node, volume).labels[j4.selector()] == truth()[j4.selector()]).all()


def test_a_slice_drawn_and_undone_across_is_not_kept_by_what_was_taken_over(annotated):
    volume, node, session = annotated
    taken(session)
    before = stateOf(node)
    paint(node, "A", volume, np.s_[2:8, 4, 4:16])
    assert session.look().added == [AnnotatedSlice("j", 4)]
    assert restore(node, before, session).dropped == [AnnotatedSlice("j", 4)]


def test_overlapping_segments_keep_what_they_hold(annotated):
    volume, node, session = annotated
    b = np.zeros(SHAPE, np.uint8)
    b[8, 6:10, 8:12] = 1
    segmentation = node.GetSegmentation()
    segmentation.SeparateSegmentLabelmap("B")
    slicer.util.updateSegmentBinaryLabelmapFromArray(b, node, "B", volume)
    session.look()
    session.unmark(K8)
    taken(session)
    a = slicer.util.arrayFromSegmentBinaryLabelmap(node, "A", volume)[8]
    assert not a[6:8, 8:12].any(), "A is predicted around B alone"
    # Painted over in a layer of its own (overlap is allowed), B survives the undoing.
    where = np.zeros(SHAPE, np.uint8)
    where[8, 3:10, 4:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(where, node, "B", volume)
    session.look()
    session.unmark(K8)
    session.undoTakeOver(K8)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, "B", volume)
    assert (found == where).all()


def onGrid(volume, node, factors):
    """A volume on the same place with voxels `factors` (i, j, k) times as large, for its grid."""
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "grid")
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    shift = [(f - 1) / 2 for f in factors]
    corner = matrix.MultiplyPoint((*shift, 1))
    for column, factor in enumerate(factors):
        for row in range(3):
            matrix.SetElement(row, column, matrix.GetElement(row, column) * factor)
    for row in range(3):
        matrix.SetElement(row, 3, corner[row])
    other.SetIJKToRASMatrix(matrix)
    shape = [round(n / f) for n, f in zip(SHAPE, factors[::-1], strict=True)]
    slicer.util.updateVolumeFromArray(other, np.zeros(shape, np.uint8))
    return other, shape


@pytest.mark.parametrize("factors", [(2, 2, 1), (0.5, 0.5, 1), (2, 1, 2)])
def test_on_a_coarser_and_on_a_finer_grid(empty, factors):  # noqa: F811
    volume, node = empty
    other, shape = onGrid(volume, node, factors)
    mask = np.zeros(shape, np.uint8)
    k = round(4 / factors[2])
    mask[k, : shape[1] // 2, : shape[2] // 2] = 1
    if factors[0] < 1:
        mask[8, 7, 9] = 1  # a quarter of a voxel of the slice
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "A", other)
    session = AnnotationSession(volume, node)
    session.unmark(K8)
    before, listed = merged(node, volume), dict(session.slices)
    known = labelled(node, volume).labels if listed else None
    count = taken(session)
    now = merged(node, volume)
    assert count and session.unconfirmed == [K8] and session.slices == listed
    assert (now[before > 0] == before[before > 0]).all()
    free = before[8] == 0
    if factors[0] < 1:
        assert now[8, 3, 4] == before[8, 3, 4], "a voxel drawn in part is the user's"
        own = slicer.util.arrayFromSegmentBinaryLabelmap(node, "A", other)
        assert (own[8, 6:8, 8:10] == mask[8, 6:8, 8:10]).all()
        free[3, 4] = False
    assert (now[8][free] == truth()[8][free]).all()
    if known is not None:
        assert (labelled(node, volume).labels == known).all()
    session.undoTakeOver(K8)
    assert (merged(node, volume) == before).all()
    taken(session)
    session.mark(K8)
    assert (labelled(node, volume).labels[8][free] == truth()[8][free]).all()


def test_saved_and_loaded(annotated, tmp_path):
    volume, node, session = annotated
    taken(session)
    before, drawn = labelled(node, volume), merged(node, volume)
    path = tmp_path / "drawn.seg.nrrd"
    assert write(node, path)
    attributes = {n: node.GetAttribute(n) for n in node.GetAttributeNames()}
    loaded = read(path)
    for name, text in attributes.items():
        loaded.SetAttribute(name, text)
    assert (merged(loaded, volume) == drawn).all()
    again = AnnotationSession(volume, loaded)
    assert again.unconfirmed == [K8] and again.slices == session.slices
    assert (labelled(loaded, volume).labels == before.labels).all()
    again.undoTakeOver(K8)
    assert (labelled(loaded, volume).labels == before.labels).all()
    again.takeOver(K8, truth()[8], IDS)
    again.mark(K8)
    assert (labelled(loaded, volume).labels[8] == truth()[8]).all()


def write(node, path):
    storage = slicer.vtkMRMLSegmentationStorageNode()
    slicer.mrmlScene.AddNode(storage)
    storage.SetFileName(str(path))
    return storage.WriteData(node)


def read(path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    slicer.mrmlScene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def test_it_waits_on_other_grids_of_the_volume_too(annotated):
    volume, node, session = annotated
    taken(session)
    for factors in ((0.5, 0.5, 0.5), (1, 1, 0.5), (1, 1, 2)):
        other, _ = onGrid(volume, node, factors)
        found = annotationOf(node, other, None)
        index = round((8 + 0.5) / factors[2] - 0.5)
        away = found.labels[index]
        assert set(np.unique(found.labels)) >= {0, 1, UNLABELLED}
        line = round(8 / factors[1])
        away = np.delete(away, [line - 1, line, line + 1], 0)
        assert (away == UNLABELLED).all()


def test_what_cannot_be_taken_over_changes_nothing(annotated):
    volume, node, session = annotated
    plane = truth()[8]
    before = merged(node, volume)
    for item, predicted, ids, message in (
        (K5, truth()[5], IDS, "is listed as annotated"),
        (AnnotatedSlice("k", 40), plane, IDS, "outside the volume"),
        (K8, plane, ["A", ""], "class 2"),
        (K8, plane, ["A", "gone"], "gone"),
    ):
        with pytest.raises(InputError, match=message):
            session.takeOver(item, predicted, ids)
    assert session.takeOver(K8, np.full_like(plane, UNLABELLED), IDS) == 0
    assert session.takeOver(K8, np.zeros_like(plane), ["", ""]) == 0
    assert (merged(node, volume) == before).all() and node.GetAttribute(ATTRIBUTE) is None
    prediction = annotationFrom(node, volume, "corrected")
    with pytest.raises(InputError, match="holds a prediction already"):
        AnnotationSession(volume, prediction).takeOver(K8, plane, IDS)
    node.SetAttribute(ATTRIBUTE, '[{"slice": 1}]')
    for read in (labelled, lambda node, volume: AnnotationSession(volume, node)):
        with pytest.raises(InputError, match=ATTRIBUTE):
            read(node, volume)

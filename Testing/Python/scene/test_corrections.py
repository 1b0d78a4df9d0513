"""Corrections of a result are voxels: they never make the slice that they lie in a complete one."""

import json

import numpy as np
import pytest
import slicer
import slicer.util
from test_annotation_session import I9, J8, K5, SHAPE, empty, paint  # noqa: F401  a fixture

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.changes import Changes
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.corrected_voxels import ATTRIBUTE, correctedVoxels
from SparseSegNetLib.scene.corrections import takeCorrections
from SparseSegNetLib.scene.results import createResultNode
from SparseSegNetLib.scene.slice_list import listedSlices
from SparseSegNetLib.scene.volumes import volumeGeometry

IDS = ["A", "B"]
CORRECTED = np.s_[8, 6:8, 5:7]  # four voxels in a slice that nobody drew


def shapes():
    """A block of A with a block of B in it: the truth."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:10, 3:13, 4:16] = 1
    truth[3:9, 6:10, 8:12] = 2
    return truth


@pytest.fixture
def annotated(empty):  # noqa: F811
    """Two slices drawn, and a dense result in which A is missing where it is corrected."""
    volume, node = empty
    truth = shapes()
    for name, value in (("A", 1), ("B", 2)):
        drawn = np.zeros(SHAPE, bool)
        for item in (K5, I9):
            drawn[item.selector()] = truth[item.selector()] == value
        paint(node, name, volume, drawn)
    delivered = truth.copy()
    delivered[CORRECTED] = 2
    return volume, node, delivered


def correct(volume, node, delivered, where=CORRECTED):
    """The user repaints four voxels of the result as A; they are taken over."""
    result = createResultNode(delivered, IDS, node, volume, "dense")
    paint(result, "B", volume, where, False)
    paint(result, "A", volume, where)
    return takeCorrections(result, delivered, IDS, node, volume, volumeGeometry(volume))


def expected(volume, node):
    labels = annotationOf(node, volume, None).labels.copy()
    labels[CORRECTED] = 1
    return labels


def test_a_correction_labels_its_voxels_alone_while_the_panel_looks_on(annotated):
    volume, node, delivered = annotated
    session = AnnotationSession(volume, node)
    assert set(session.slices) == {K5, I9}
    wanted = expected(volume, node)
    assert (wanted[8] != UNLABELLED).sum() == 4 + SHAPE[1], "its voxels and the line of i:9"
    assert correct(volume, node, delivered) == 4
    assert session.dirtySince is None, "our own writes are no painting"
    assert session.look().added == [] and set(session.slices) == {K5, I9}
    found = annotationOf(node, volume, None)
    assert found.slices == [I9, K5] and (found.labels == wanted).all()


def test_a_correction_labels_its_voxels_alone_where_no_slice_is_listed(annotated):
    """From the console: the cover is found again, but not over corrections."""
    volume, node, delivered = annotated
    wanted = expected(volume, node)
    correct(volume, node, delivered)
    assert listedSlices(node, volumeGeometry(volume)) is None
    found = annotationOf(node, volume, None)
    assert found.slices == [I9, K5] and (found.labels == wanted).all()
    # The panel that opens now finds the same.
    assert set(AnnotationSession(volume, node).slices) == {K5, I9}


def test_what_was_painted_just_before_is_still_noticed(annotated):
    volume, node, delivered = annotated
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, np.s_[3:9, 8, 4:12])
    correct(volume, node, delivered)
    assert session.dirtySince is not None
    assert session.look().added == [J8]


def test_undo_and_redo_of_a_correction_are_no_strokes(annotated):
    volume, node, delivered = annotated
    session = AnnotationSession(volume, node)
    before = slicer.vtkSegmentation()
    before.DeepCopy(node.GetSegmentation())
    correct(volume, node, delivered)
    after = slicer.vtkSegmentation()
    after.DeepCopy(node.GetSegmentation())
    for state in (before, after):
        for name in IDS:
            node.GetSegmentation().GetSegment(name).DeepCopy(state.GetSegment(name))
        node.Modified()
        session._watch._onEvent(None, None)
        noticed = session.look()
        assert noticed.changed and noticed.added == [] and set(session.slices) == {K5, I9}


def test_a_slice_that_is_painted_after_its_correction_is_complete(annotated):
    volume, node, delivered = annotated
    session = AnnotationSession(volume, node)
    correct(volume, node, delivered)
    session.look()
    paint(node, "A", volume, np.s_[8, 3:13, 4:16])
    assert session.look().added == [AnnotatedSlice("k", 8)]


def test_corrections_in_a_complete_slice_and_erased_ones(annotated):
    volume, node, delivered = annotated
    session = AnnotationSession(volume, node)
    result = createResultNode(delivered, IDS, node, volume, "dense")
    paint(result, "A", volume, np.s_[5, 3:5, 4:6], False)  # in k:5, which is complete
    paint(result, "A", volume, np.s_[8, 3:5, 4:6], False)  # where nothing was drawn
    assert takeCorrections(result, delivered, IDS, node, volume, volumeGeometry(volume)) == 8
    assert set(session.slices) == {K5, I9} and session.look().added == []
    found = annotationOf(node, volume, None)
    assert (found.labels[5, 3:5, 4:6] == 0).all() and (found.labels[8, 3:5, 4:6] == 0).all()
    assert (found.labels[8] != UNLABELLED).sum() == 4 + SHAPE[1]
    # Taken over twice they are what they were.
    again = takeCorrections(result, delivered, IDS, node, volume, volumeGeometry(volume))
    assert again == 8 and (annotationOf(node, volume, None).labels == found.labels).all()


def test_corrections_are_kept_with_the_scene(annotated, tmp_path):
    volume, node, delivered = annotated
    wanted = expected(volume, node)
    correct(volume, node, delivered)
    kept = node.GetAttribute(ATTRIBUTE)
    assert len(json.loads(kept)[0]["voxels"]) < 60, "compressed"
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "reloaded")
    copy.GetSegmentation().DeepCopy(node.GetSegmentation())
    copy.SetAttribute(ATTRIBUTE, kept)
    assert (annotationOf(copy, volume, None).labels == wanted).all()
    assert (
        correctedVoxels(copy, volumeGeometry(volume)).voxels.tolist()
        == np.flatnonzero(
            np.isin(
                np.arange(np.prod(SHAPE)).reshape(SHAPE),
                np.arange(np.prod(SHAPE)).reshape(SHAPE)[CORRECTED],
            )
        ).tolist()
    )
    for broken in (
        "{}",
        "[1]",
        kept.replace("voxels", "voxel"),
        kept[:40],
        '{"shape": [1, 1, 1], "voxels": "eJxjYIAAAAAIAAE="}',
    ):
        copy.SetAttribute(ATTRIBUTE, broken)
        try:
            assert correctedVoxels(copy, volumeGeometry(volume)).voxels.size == 0
        except InputError as error:
            assert ATTRIBUTE in str(error)


def test_named_slices_stay_named_when_a_run_goes_on(annotated, tmp_path, monkeypatch):
    """A slice without a trace of drawing is in no cover; the run folder has kept it."""
    volume, node, delivered = annotated
    empty_slice = AnnotatedSlice("k", 11)
    monkeypatch.setattr(logic, "EngineRun", _NoEngine)
    run = logic.densify(volume, node, slices="k:5,11 i:9", runFolder=tmp_path / "run")
    assert RunFolder.open(run.folder).named_slices
    correct(volume, node, delivered)
    again = logic.resume(tmp_path / "run", volume, node)
    assert set(again.slices) == {K5, I9, empty_slice}
    labels = RunFolder.open(tmp_path / "run").read_labels()
    assert (labels[11] == 0).all() and (labels[8] != UNLABELLED).sum() == 4 + SHAPE[1]
    found = logic.densify(volume, node, runFolder=tmp_path / "found")
    assert not RunFolder.open(found.folder).named_slices and set(found.slices) == {K5, I9}
    for each in (run, again, found):
        each.poll()  # ended: nobody holds it any more


class _NoEngine:
    """A run whose engine does nothing but take in what has changed."""

    ended = True

    def poll(self):
        return "done"

    def __init__(self, folder, changes=None, patience=0.0):
        self.folder = folder
        if changes is not None:
            handed = Changes.read(changes.name)
            folder.write_labels(1, handed.labels, handed.slices)


def test_another_segmentation_object_is_noticed(empty):  # noqa: F811
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    assert session.look().added == [K5]
    other = slicer.vtkSegmentation()
    other.DeepCopy(node.GetSegmentation())
    node.SetAndObserveSegmentation(other)
    assert session.dirtySince is not None
    session.look()
    assert session.dirtySince is None
    paint(node, "A", volume, np.s_[2:9, 8, 4:12])
    assert session.dirtySince is not None
    assert session.look().added == [J8]
    session.close()
    paint(node, "A", volume, np.s_[2:9, 8, 4:14])
    assert session.dirtySince is None


def test_more_segments_than_labels(empty):  # noqa: F811
    volume, node = empty
    for number in range(260):
        node.GetSegmentation().AddEmptySegment(f"S{number}", f"S{number}")
    with pytest.raises(InputError, match="262 segments: at most 254"):
        AnnotationSession(volume, node)
    with pytest.raises(InputError, match="262 segments: at most 254"):
        annotationOf(node, volume, None)

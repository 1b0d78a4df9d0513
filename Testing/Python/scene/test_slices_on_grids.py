"""The list of annotated slices stays at its places when the volume's grid changes."""

import json

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from test_annotation_session import SHAPE, paint
from test_corrections import _NoEngine

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.slice_list import ATTRIBUTE, listedSlices, listSlices
from SparseSegNetLib.scene.volumes import volumeGeometry

K5, J8, I9 = AnnotatedSlice("k", 5), AnnotatedSlice("j", 8), AnnotatedSlice("i", 9)
BOXED = AnnotatedSlice("k", 2, ((4, 12), (6, 18)))


def block():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 3:13, 4:16] = 1
    return labels


@pytest.fixture
def drawn(makeVolume, makeSegmentation):
    """Three whole slices and one in a box, as the panel lists them."""
    volume = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    mask = np.zeros(SHAPE, bool)
    for item in (K5, J8, I9, BOXED):
        mask[item.selector()] = block()[item.selector()] > 0
    node = makeSegmentation(volume, {"A": mask})
    listSlices(node, {K5: True, J8: False, I9: False, BOXED: True}, volumeGeometry(volume))
    return volume, node


def regrid(volume, turn=None, low=(0, 0, 0)):
    """The volume's matrix for voxels that are turned, and counted from voxel `low` (i, j, k)."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    change = np.eye(4)
    change[:3, :3] = np.eye(3) if turn is None else turn
    change[:3, 3] = low
    return slicer.util.vtkMatrixFromArray(slicer.util.arrayFromVTKMatrix(matrix) @ change)


def another(makeVolume, volume, shape, turn=None, low=(0, 0, 0), name="other"):
    node = makeVolume(np.zeros(shape, np.int16), name=name)
    node.SetIJKToRASMatrix(regrid(volume, turn, low))
    return node


def slicesOn(node, volume):
    return listedSlices(node, volumeGeometry(volume)).slices


def test_a_cropped_volume_and_back(drawn, makeVolume):
    volume, node = drawn
    crop = another(makeVolume, volume, (6, 10, 8), low=(4, 5, 4))
    found = annotationOf(node, crop, None)
    assert found.slices == [AnnotatedSlice("i", 5), AnnotatedSlice("j", 3), AnnotatedSlice("k", 1)]
    assert found.warnings == [
        "1 of 4 annotated slices lies outside the volume. It does not count, and is kept for the "
        "volume that it was annotated in."
    ]
    wanted = np.full((6, 10, 8), 255, np.uint8)
    for item in found.slices:
        inside = block()[4:10, 5:15, 4:12]
        wanted[item.selector()] = inside[item.selector()]
    assert (found.labels == wanted).all()
    # The panel lists them, and what it stores loses nothing.
    session = AnnotationSession(crop, node)
    assert set(session.slices) == set(found.slices) and "1 of 4" in session.warning
    session.mark(AnnotatedSlice("k", 3))
    session.close()
    assert slicesOn(node, volume) == {
        K5: True,
        J8: False,
        I9: False,
        BOXED: True,
        AnnotatedSlice("k", 7, ((5, 15), (4, 12))): True,
    }
    assert listedSlices(node, volumeGeometry(volume)).warning == ""
    # A slice that is removed in the cropped volume is removed.
    session = AnnotationSession(crop, node)
    session.unmark(AnnotatedSlice("j", 3))
    session.mark(AnnotatedSlice("i", 5))
    session.close()
    assert slicesOn(node, volume) == {
        K5: True,
        I9: True,
        BOXED: True,
        AnnotatedSlice("k", 7, ((5, 15), (4, 12))): True,
    }


def test_a_restricted_slice_of_the_cropped_volume(drawn, makeVolume):
    volume, node = drawn
    crop = another(makeVolume, volume, (6, 10, 8), low=(4, 5, 4))
    session = AnnotationSession(crop, node)
    session.restrict(AnnotatedSlice("k", 1), ((0, 4), (2, 8)))
    assert slicesOn(node, volume) == {
        J8: False,
        I9: False,
        BOXED: True,
        AnnotatedSlice("k", 5, ((5, 9), (6, 12))): True,
    }


def test_a_volume_that_is_flipped_in_place(drawn):
    """Same node, same size, voxels in reverse: what the panel holds is not valid any more."""
    volume, node = drawn
    session = AnnotationSession(volume, node)
    stored = node.GetAttribute(ATTRIBUTE)
    volume.SetIJKToRASMatrix(regrid(volume, np.diag([1, -1, -1]), (0, 15, 11)))
    assert not session.fits()
    paint(node, "A", volume, np.s_[3, 3:9, 4:12])
    noticed = session.look()
    assert not noticed.changed and not noticed.added and node.GetAttribute(ATTRIBUTE) == stored
    session.close()
    session = AnnotationSession(volume, node)
    assert session.slices == {
        I9: False,
        AnnotatedSlice("j", 7): False,
        AnnotatedSlice("k", 6): True,
        AnnotatedSlice("k", 9, ((4, 12), (6, 18))): True,
    }
    assert session.warning == ""
    paint(node, "A", volume, np.s_[1, 3:9, 4:12])
    assert session.look().added == [AnnotatedSlice("k", 1)]
    session.close()
    volume.SetIJKToRASMatrix(regrid(volume, np.diag([1, -1, -1]), (0, 15, 11)))
    assert slicesOn(node, volume) == {
        K5: True,
        J8: False,
        I9: False,
        BOXED: True,
        AnnotatedSlice("k", 10): False,
    }


def test_the_observer_reports_no_change_of_grid(drawn):
    volume, node = drawn
    session = AnnotationSession(volume, node)
    volume.SetIJKToRASMatrix(regrid(volume, low=(0, 0, 1)))
    assert session._watch.look() is None, "all voxels have moved, none was painted"


def test_other_spacings(drawn, makeVolume):
    volume, node = drawn
    fine = another(makeVolume, volume, (24, 16, 20), np.diag([1, 1, 0.5]), (0, 0, -0.25))
    assert set(slicesOn(node, fine)) == {
        *(AnnotatedSlice("k", n) for n in (10, 11)),
        AnnotatedSlice("j", 8),
        AnnotatedSlice("i", 9),
        *(AnnotatedSlice("k", n, BOXED.box) for n in (4, 5)),
    }
    # One of two removed: the other stays, also in the old volume.
    session = AnnotationSession(fine, node)
    session.unmark(AnnotatedSlice("k", 11))
    session.close()
    assert set(slicesOn(node, fine)) == {
        AnnotatedSlice("k", 10),
        AnnotatedSlice("j", 8),
        AnnotatedSlice("i", 9),
        *(AnnotatedSlice("k", n, BOXED.box) for n in (4, 5)),
    }
    assert set(slicesOn(node, volume)) == {K5, J8, I9, BOXED}
    session = AnnotationSession(fine, node)
    session.unmark(AnnotatedSlice("k", 10))
    session.close()
    assert set(slicesOn(node, volume)) == {J8, I9, BOXED}


def test_a_volume_that_is_turned(drawn, makeVolume):
    volume, node = drawn
    turn = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    turned = another(makeVolume, volume, SHAPE, turn, (4, 0, 0))
    found = listedSlices(node, volumeGeometry(turned))
    assert found.slices == {} and found.warning.startswith(
        "4 of 4 annotated slices lie in a volume whose axes are not parallel"
    )
    session = AnnotationSession(turned, node)
    assert session.slices == {} and session.warning == found.warning
    session.mark(AnnotatedSlice("j", 2))
    session.close()
    assert set(slicesOn(node, volume)) == {K5, J8, I9, BOXED}
    both = listedSlices(node, volumeGeometry(turned))
    assert both.slices == {AnnotatedSlice("j", 2): True} and both.warning.startswith("4 of 5")


def test_two_boxes_at_one_place(drawn, makeVolume):
    """Marked in two cropped volumes: the larger one counts in the whole volume, none is lost."""
    volume, node = drawn
    listSlices(node, {}, volumeGeometry(volume))
    left = another(makeVolume, volume, (12, 16, 12))
    right = another(makeVolume, volume, (12, 16, 10), low=(10, 0, 0))
    for crop in (left, right):
        session = AnnotationSession(crop, node)
        session.mark(K5)
        session.close()
    assert slicesOn(node, volume) == {AnnotatedSlice("k", 5, ((0, 16), (0, 12))): True}
    assert annotationOf(node, volume, None).labels[5, :, :12].max() == 1
    assert slicesOn(node, left) == slicesOn(node, right) == {K5: True}


def test_lists_of_earlier_versions_belong_to_the_present_volume(drawn, makeVolume):
    volume, node = drawn
    old = [{"axis": "k", "index": 5, "stated": True}, {"axis": "j", "index": 8}]
    node.SetAttribute(ATTRIBUTE, json.dumps(old))
    assert slicesOn(node, volume) == {J8: False, K5: True}
    crop = another(makeVolume, volume, (6, 10, 8), low=(4, 5, 4))
    assert slicesOn(node, crop) == {J8: False, K5: True}, "there is nothing that tells"
    AnnotationSession(volume, node).close()
    assert set(slicesOn(node, crop)) == {AnnotatedSlice("j", 3), AnnotatedSlice("k", 1)}
    node.SetAttribute(ATTRIBUTE, json.dumps([{"axis": "k", "index": 12}]))
    with pytest.raises(InputError, match="slice k:12 lies outside the volume"):
        annotationOf(node, volume, None)


def test_labels_of_another_grid_are_not_sent_to_a_run(drawn, tmp_path, monkeypatch):
    volume, node = drawn
    monkeypatch.setattr(logic, "EngineRun", _NoEngine)
    run = logic.densify(volume, node, runFolder=tmp_path / "run")
    volume.SetIJKToRASMatrix(regrid(volume, np.diag([1, -1, -1]), (0, 15, 11)))
    with pytest.raises(InputError, match="'CT' was changed during training"):
        run.updateLabels()
    with pytest.raises(InputError, match="was begun with another volume"):
        logic.resume(tmp_path / "run", volume, node)
    run.poll()  # ended: nobody holds it any more


def _change(text, **changes):
    return json.dumps({**json.loads(text), **changes})


def test_a_list_with_a_damaged_grid_is_named(drawn):
    volume, node = drawn
    kept = node.GetAttribute(ATTRIBUTE)
    (grid,) = json.loads(kept)["grids"]
    slices = json.loads(kept)["slices"]
    for broken, reason in (
        (_change(kept, grids=[]), r"slices\[0\].grid"),
        (_change(kept, grids=[{**grid, "frame": "RAS"}]), "LPS"),
        (_change(kept, grids=[{**grid, "size": [20, 16, 0]}]), "at least 1"),
        (_change(kept, grids=[{**grid, "spacing": [1, 1, -1]}]), "spacing"),
        (_change(kept, grids=[{**grid, "directions": [0] * 9}]), "directions"),
        (_change(kept, grids=[{**grid, "origin": ["0", 0, 0]}]), "origin"),
        (_change(kept, slices=[{**slices[0], "index": 20}]), "outside the volume"),
        (_change(kept, slices=[{**slices[0], "grid": 1}]), r"slices\[0\].grid"),
        (_change(kept, slices=[{"axis": "k", "index": 1}]), "grid is missing"),
        (_change(kept, slices={}), "slices"),
    ):
        node.SetAttribute(ATTRIBUTE, broken)
        with pytest.raises(InputError, match=f"(?s){reason}.*remove the node's attribute"):
            listedSlices(node, volumeGeometry(volume))
        with pytest.raises(InputError, match="remove the node's attribute"):
            listSlices(node, {K5: True}, volumeGeometry(volume))
    listSlices(node, None, volumeGeometry(volume))
    assert node.GetAttribute(ATTRIBUTE) is None


def test_a_stroke_in_a_coarser_segmentation(makeVolume, makeSegmentation):
    """Its voxels are four of the volume's slices thick: all four are annotated."""
    coarse = makeVolume(np.zeros((3, 16, 20), np.int16), spacing=(1, 1, 4), name="coarse")
    volume = makeVolume(np.zeros((12, 16, 20), np.int16), spacing=(1, 1, 1), name="fine")
    # The first coarse slice holds the volume's slices 0 to 3.
    x, y, z = coarse.GetOrigin()
    volume.SetOrigin(x, y, z - 1.5)
    node = makeSegmentation(coarse, {"A": np.zeros((3, 16, 20), bool)})
    session = AnnotationSession(volume, node)
    drawn = np.zeros((3, 16, 20), np.uint8)
    drawn[1, 4:10, 5:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "A", coarse)
    changes = session.look()
    assert not changes.warning
    assert changes.added == [AnnotatedSlice("k", n) for n in (4, 5, 6, 7)]
    found = annotationOf(node, volume, None)
    assert (found.labels[4:8] == drawn[1]).all() and (found.labels[[3, 8]] == 255).all()
    drawn[:, 10:15, 12:18] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "A", coarse)
    assert session.look().warning, "a 3D brush"

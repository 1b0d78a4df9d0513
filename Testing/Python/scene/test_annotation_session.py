"""What painting does to the list of annotated slices, on the real scene."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from mrml_scene import rotation
from vtk.util.numpy_support import vtk_to_numpy

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.slice_list import ATTRIBUTE, listedSlices, listSlices
from SparseSegNetLib.scene.views import (
    alignViews,
    axisNames,
    jumpToSlice,
    jumpToVoxel,
    sameSlices,
    shownPlane,
    visibleBox,
)
from SparseSegNetLib.scene.volumes import volumeGeometry

SHAPE = (12, 16, 20)
K5, J8, I9 = AnnotatedSlice("k", 5), AnnotatedSlice("j", 8), AnnotatedSlice("i", 9)


def paint(node, segmentId, volume, where, value=True):
    """As a brush does: into what is there."""
    drawn = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
    drawn = np.zeros(SHAPE, bool) if drawn is None else drawn > 0
    drawn[where] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        drawn.astype(np.uint8), node, segmentId, volume
    )


@pytest.fixture
def empty(makeVolume, makeSegmentation):
    volume = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    node = makeSegmentation(volume, {})
    for name in ("A", "B"):
        node.GetSegmentation().AddEmptySegment(name, name)
    return volume, node


def test_a_stroke_registers_its_slice(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    assert not session.slices and node.GetAttribute(ATTRIBUTE) is None
    assert session.dirtySince is None and not session.look().changed
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    assert session.dirtySince is not None
    noticed = session.look()
    assert noticed.changed and noticed.added == [K5] and not noticed.warning
    assert session.dirtySince is None
    paint(node, "B", volume, np.s_[5, 9:12, 4:12])
    assert session.look().added == [], "the same slice is registered once"
    paint(node, "A", volume, np.s_[2:9, 8, 4:12])
    assert session.look().added == [J8]
    assert listedSlices(node, volumeGeometry(volume)).slices == {J8: False, K5: False}
    rows = session.rows()
    assert [r.slice for r in rows] == [J8, K5]
    assert rows[1].voxels == {"A": 6 * 8, "B": 3 * 8}
    labelled = annotationOf(node, volume, None)
    assert session.share() == pytest.approx(np.mean(labelled.labels != 255))
    assert sorted(labelled.slices) == [J8, K5]


def test_two_strokes_between_two_looks(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    paint(node, "A", volume, np.s_[9, 3:9, 4:12])
    assert session.look().added == [K5, AnnotatedSlice("k", 9)]


def test_a_dot_belongs_to_the_slice_that_is_shown(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, np.s_[5, 8, 9])
    noticed = session.look(shown=[J8, AnnotatedSlice("i", 2)])
    assert noticed.added == [J8]
    paint(node, "A", volume, np.s_[5, 2:4, 9])
    assert session.look().added == [], "nothing tells i from k"
    paint(node, "A", volume, np.s_[4, 8, 11])
    assert session.look(shown=[AnnotatedSlice("k", 4)]).added == [], "j:8 is annotated already"


@pytest.mark.parametrize("where", [np.s_[3:8, 4:9, 5:11], np.s_[3:5, 4:9, 5:11]])
def test_a_3d_brush_registers_nothing(empty, where):
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, where)
    noticed = session.look()
    assert noticed.changed and not session.slices and "3D sphere brush off" in noticed.warning


def test_a_view_that_is_no_voxel_plane_registers_nothing(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    k, j, _ = np.indices(SHAPE)
    paint(node, "A", volume, np.abs(k - j / 2 - 1) < 0.6)
    assert session.look().warning and not session.slices


def test_erasing(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    session.look()
    paint(node, "A", volume, np.s_[5, 3:4, 4:6], False)
    noticed = session.look()
    assert noticed.changed and not noticed.dropped and K5 in session.slices
    paint(node, "A", volume, np.s_[5], False)
    assert session.look().dropped == [K5]
    session.mark(K5)
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    session.look()
    paint(node, "A", volume, np.s_[5], False)
    assert not session.look().dropped, "what the user stated stays"
    # Erasing where the slice was never annotated does not make it annotated.
    paint(node, "B", volume, np.s_[2:9, 8, 4:12])
    session.look()
    paint(node, "B", volume, np.s_[7, 8, 5:9], False)
    noticed = session.look(shown=[AnnotatedSlice("k", 7)])
    assert noticed.changed and not noticed.added and J8 in session.slices


def test_segments_that_come_and_go_are_no_painting(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    paint(node, "B", volume, np.s_[5, 3:9, 4:12])
    session.look()
    node.GetSegmentation().RemoveSegment("A")
    node.GetSegmentation().AddEmptySegment("C", "C")
    noticed = session.look()
    assert noticed.changed and not noticed.added and not noticed.dropped
    assert session.rows()[0].voxels == {"B": 48}
    node.GetSegmentation().GetSegment("B").SetName("Renamed")
    assert not session.look().changed


def test_background_scribbles_do_not_complete_a_slice(empty):
    volume, node = empty
    node.GetSegmentation().AddEmptySegment("bg", "Background")
    session = AnnotationSession(volume, node)
    paint(node, "bg", volume, np.s_[5, 3:9, 4:12])
    noticed = session.look()
    assert noticed.changed and not noticed.added
    assert session.share() == pytest.approx(48 / np.prod(SHAPE))


def test_by_hand(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    session.mark(K5)
    assert session.rows()[0].stated and session.rows()[0].voxels == {}
    assert session.share() == pytest.approx(1 / 12)
    boxed = session.restrict(K5, ((2, 6), (3, 9)))
    assert list(session.slices) == [boxed] and "in box" in str(boxed)
    assert session.share() == pytest.approx(24 / np.prod(SHAPE))
    session.mark(K5)
    assert list(session.slices) == [K5], "marking takes the restriction away"
    session.mark(I9)
    assert session.next(None, 1) == I9 and session.next(I9, 1) == K5
    assert session.next(K5, 1) == I9 and session.next(I9, -1) == K5
    session.unmark(K5)
    session.unmark(I9)
    assert session.next(None, 1) is None
    assert listedSlices(node, volumeGeometry(volume)).slices == {}, (
        "that none is complete is known, and not found again"
    )
    with pytest.raises(InputError, match="outside the volume"):
        session.mark(AnnotatedSlice("k", 12))
    with pytest.raises(InputError, match="k:5"):
        session.restrict(K5, ((0, 99), (0, 2)))


def test_what_was_drawn_before_is_found_and_what_is_listed_is_kept(empty):
    volume, node = empty
    paint(node, "A", volume, np.s_[5, 3:9, 4:12])
    paint(node, "A", volume, np.s_[2:9, 8, 4:12])
    session = AnnotationSession(volume, node)
    assert listedSlices(node, volumeGeometry(volume)).slices == {J8: False, K5: False}
    session.unmark(J8)
    session.close()
    paint(node, "B", volume, np.s_[9, 3:9, 4:12])
    assert session.dirtySince is None, "it was closed"
    assert list(AnnotationSession(volume, node).slices) == [K5]
    solid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Solid")
    solid.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    solid.GetSegmentation().AddEmptySegment("A", "A")
    paint(solid, "A", volume, np.s_[2:9, 3:9, 4:12])
    session = AnnotationSession(volume, solid)
    assert set(session.slices) == set(annotationOf(solid, volume, None).slices)
    assert "are solid" in session.warning


def test_a_broken_list_is_named(empty):
    volume, node = empty
    node.SetAttribute(ATTRIBUTE, '[{"axis": "k"}]')
    with pytest.raises(InputError, match=ATTRIBUTE):
        AnnotationSession(volume, node)
    grid = volumeGeometry(volume)
    listSlices(node, None, grid)
    assert listedSlices(node, grid) is None
    listSlices(node, {AnnotatedSlice("k", 99): True}, grid)
    with pytest.raises(InputError, match="outside the volume"):
        AnnotationSession(volume, node)


def mergedBySlicer(segmentation, ids, volume):
    """Label n for the n-th ID, merged by Slicer on the volume's grid."""
    node = slicer.vtkMRMLSegmentationNode()
    node.GetSegmentation().DeepCopy(segmentation)
    grid, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    grid.SetExtent(volume.GetImageData().GetExtent())
    grid.SetImageToWorldMatrix(matrix)
    order, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for number, segmentId in enumerate(ids, start=1):
        order.InsertNextValue(segmentId)
        values.InsertNextValue(number)
    found = slicer.vtkOrientedImageData()
    assert node.GenerateMergedLabelmapForAllSegments(
        found, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, grid, order, values
    )
    return vtk_to_numpy(found.GetPointData().GetScalars()).reshape(SHAPE)


@pytest.mark.parametrize("spread", [False, True])
def test_layers_are_read_as_slicer_resamples_them(empty, spread):
    """Ours against Slicer's own: overlapping segments, shared and separate layers."""
    volume, node = empty
    paint(node, "A", volume, np.s_[2:9, 3:9, 4:12])
    paint(node, "B", volume, np.s_[4:7, 5:14, 8:20])
    if spread:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    ids = ["A", "B"]
    ours = mergedSegments(node.GetSegmentation(), ids, volume)
    theirs = mergedBySlicer(node.GetSegmentation(), ids, volume)
    assert ours.dtype == np.uint8 and (ours == theirs).all() and ours.max() == 2
    assert (mergedSegments(node.GetSegmentation(), ["B", "A"], volume)[5, 6, 9]) == 2


def test_another_grid_is_resampled(empty, makeVolume):
    volume, node = empty
    paint(node, "A", volume, np.s_[2:9, 3:9, 4:12])
    other = makeVolume(np.zeros((24, 32, 40), np.int16), seed=3, spacing=(0.35, 0.55, 1.65))
    # Twice as fine: the voxels that the coarse ones hold, half a voxel beside the volume's.
    drawn = mergedSegments(node.GetSegmentation(), ["A"], other)
    assert drawn.sum() == 8 * 7 * 6 * 8
    shifted = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    step = rotation(3)[:, 2] * 3.3
    shifted.SetOrigin(*(np.array(volume.GetOrigin()) + 4 * step))
    cut = mergedSegments(node.GetSegmentation(), ["A"], shifted)
    assert cut[:5, 3:9, 4:12].all() and cut.sum() == 5 * 6 * 8, "clipped and moved by four slices"


def test_views(empty, scene):
    volume, _ = empty
    views = {}
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name in ("Red", "Yellow", "Green"):
        views[name] = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        views[name].SetLayoutName(name)
    for name, orientation in zip(views, ("Axial", "Sagittal", "Coronal"), strict=True):
        views[name].SetOrientation(orientation)
    assert [shownPlane(v, volume) for v in views.values()] == [None] * 3, "the volume is oblique"
    alignViews(volume)
    planes = [shownPlane(v, volume) for v in views.values()]
    assert None not in planes and {p.axis for p in planes} == set("ijk")
    jumpToSlice(volume, K5)
    assert K5 in [shownPlane(v, volume) for v in views.values()]
    jumpToVoxel(volume, (5, 8, 9))
    assert {shownPlane(v, volume) for v in views.values()} == {K5, J8, I9}
    with sameSlices(volume):  # as fitting them to the volume moves them
        jumpToVoxel(volume, (1, 2, 3))
    assert {shownPlane(v, volume) for v in views.values()} == {K5, J8, I9}
    across = next(v for v in views.values() if shownPlane(v, volume) == K5)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    across.JumpSliceByCentering(*(matrix.MultiplyPoint((9, 8, 5, 1))[:3]))
    across.SetFieldOfView(5.0, 5.0, 1.0)
    # 2.5 mm on each side are two voxels of 1.1 mm along j, three of 0.7 mm along i, or turned.
    assert visibleBox(across, volume) == ((6, 11), (6, 13))
    across.SetFieldOfView(500.0, 500.0, 1.0)
    assert visibleBox(across, volume) is None
    for view in views.values():  # as after a layout of three axial views
        view.SetOrientation("Axial")
    views["Green"].SetOrientation("Coronal")
    alignViews(volume)
    assert shownPlane(views["Red"], volume).axis == shownPlane(views["Yellow"], volume).axis
    assert shownPlane(views["Red"], volume).axis != shownPlane(views["Green"], volume).axis
    assert set(axisNames(volume).values()) == {"axial", "coronal", "sagittal"}


def test_more_segments_than_labels(empty):
    volume, node = empty
    session = AnnotationSession(volume, node)
    for n in range(2, 256):
        node.GetSegmentation().AddEmptySegment(f"S{n}", f"S{n}")
    with pytest.raises(InputError, match=r"256 segments: at most 254"):
        session.look()
    with pytest.raises(InputError, match=r"256 segments: at most 254"):
        AnnotationSession(volume, node)
    node.GetSegmentation().RemoveSegment("S255")
    assert not session.look().added
    with pytest.raises(InputError, match=r"255 segments: at most 254"):
        annotationOf(node, volume, [K5])


@pytest.mark.parametrize(
    "text",
    [
        '[{"axis": "k"}]',
        '[{"axis": "k", "index": 1e999}]',
        "[" * 9000,
        '[{"axis": "k", "index": 1.5}]',
        '{"k": 1}',
        "3",
    ],
)
def test_a_list_of_slices_of_another_form(empty, text):
    volume, node = empty
    node.SetAttribute(ATTRIBUTE, text)
    with pytest.raises(InputError, match=f"remove the node's attribute {ATTRIBUTE}"):
        listedSlices(node, volumeGeometry(volume))

"""Corrections change their own voxels alone, on whatever grid the annotation lies."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from test_annotation_session import SHAPE
from vtk.util.numpy_support import vtk_to_numpy

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene import layer_edit, voxel_edit
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.corrected_voxels import ATTRIBUTE, correctedVoxels
from SparseSegNetLib.scene.corrections import takeCorrections
from SparseSegNetLib.scene.results import createResultNode
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.volumes import volumeGeometry

LABELMAP, SURFACE = "Binary labelmap", "Closed surface"
A_TO_B, TO_A, ERASED = (5, 6, 10), (8, 2, 3), (5, 5, 12)  # (k, j, i) of corrected voxels


def truth():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:7, 3:13, 4:16] = 1
    labels[5:7, 7:10, 8:12] = 2
    return labels


def own(node, segmentId):
    """World positions of a segment's voxels on its own grid."""
    segment = node.GetSegmentation().GetSegment(segmentId)
    layer = segment.GetRepresentation(LABELMAP)
    if layer is None or layer.IsEmpty():
        return set()
    low = np.array(layer.GetExtent())[::2]
    shape = np.diff(np.array(layer.GetExtent()).reshape(3, 2)).ravel() + 1
    values = vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(shape[::-1])
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    index = np.argwhere(values == segment.GetLabelValue())[:, ::-1] + low
    world = slicer.util.arrayFromVTKMatrix(matrix)
    return {tuple(p) for p in np.round(index @ world[:3, :3].T + world[:3, 3], 4)}


def content(node):
    return {i: own(node, i) for i in node.GetSegmentation().GetSegmentIDs()}


def lyingIn(voxels, volume, positions):
    """Those of the positions that lie in voxels (k, j, i) of the volume."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    world = slicer.util.arrayFromVTKMatrix(matrix)
    wanted = {tuple(v[::-1]) for v in voxels}
    return {
        p
        for p in positions
        if tuple(np.floor(world[:3, :3] @ p + world[:3, 3] + 0.5 + 1e-2).astype(int)) in wanted
    }


def asArray(node, volume):
    """The labels on the volume's grid, n for the n-th segment."""
    segmentation = node.GetSegmentation()
    return mergedSegments(segmentation, list(segmentation.GetSegmentIDs()), volume)


def correct(volume, node, changes, delivered=None):
    """Takes over a result in which voxels were changed: {(k, j, i): label}."""
    delivered = truth() if delivered is None else delivered
    result = createResultNode(delivered, ["A", "B"], node, volume, "dense")
    corrected = delivered.copy()
    for voxel, label in changes.items():
        corrected[voxel] = label
    for n, segmentId in enumerate(["A", "B"], start=1):
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            (corrected == n).astype(np.uint8), result, segmentId, volume
        )
    return takeCorrections(result, delivered, ["A", "B"], node, volume, volumeGeometry(volume))


CHANGES = {A_TO_B: 2, TO_A: 1, ERASED: 0}


def gridOf(volume, makeVolume, parts=(1, 1, 1), turn=None, low=(0, 0, 0), size=None, shift=0.0):
    """A volume node on a related grid.

    Voxels are divided by `parts` (i, j, k; below 1: joined), from voxel `low` on, axes turned.
    """
    grid = volumeGeometry(volume)
    parts = np.array(parts, float)
    first = np.array(low) + (1 / parts - 1) / 2 + shift
    size = size or tuple(int(n) for n in np.array(grid.size) * parts)
    other = makeVolume(np.zeros(size[::-1], np.uint8), seed=3, name="grid")
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    world = slicer.util.arrayFromVTKMatrix(matrix)
    change = np.eye(4)
    change[:3, :3] = np.diag(1 / parts) if turn is None else turn
    change[:3, 3] = first
    other.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(world @ change))
    return other


@pytest.fixture
def volume(makeVolume):
    return makeVolume(np.zeros(SHAPE, np.int16), seed=3)


def drawnOn(grid, labels, makeSegmentation):
    return makeSegmentation(grid, {"A": labels == 1, "B": labels == 2})


def test_what_lies_outside_a_cropped_volume_stays(volume, makeVolume, makeSegmentation):
    node = drawnOn(volume, truth(), makeSegmentation)
    low, size = (3, 1, 2), (10, 9, 8)
    crop = gridOf(volume, makeVolume, low=low, size=size)
    delivered = truth()[2:10, 1:10, 3:13]
    before = content(node)
    assert correct(crop, node, {(3, 5, 7): 2, (6, 1, 0): 1, (3, 4, 9): 0}, delivered) == 3
    after = content(node)
    places = [
        lyingIn([v], crop, before["A"] | after["A"] | after["Background"])
        for v in ((3, 5, 7), (6, 1, 0), (3, 4, 9))
    ]
    assert [len(p) for p in places] == [1, 1, 1]
    assert after["A"] == (before["A"] - places[0] - places[2]) | places[1]
    assert after["B"] == before["B"] | places[0] and after["Background"] == places[2]


@pytest.mark.parametrize("parts", [(2, 2, 2), (1, 1, 3), (3, 2, 1)])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_finer_grid_keeps_its_voxels(volume, makeVolume, makeSegmentation, parts, flipped):
    labels = truth().repeat(parts[2], 0).repeat(parts[1], 1).repeat(parts[0], 2)
    labels[parts[2] * 4, parts[1] * 4, parts[0] * 5] = 0  # smaller than a voxel of the volume
    if flipped:
        turn = np.diag([-1 / parts[0], 1 / parts[1], -1 / parts[2]])
        first = (np.array(SHAPE[::-1]) - 1) * [1, 0, 1]
        inset = (1 / np.array(parts) - 1) / 2
        shift = np.array([-1, 1, -1]) * inset - inset
        grid = gridOf(volume, makeVolume, parts, turn, low=first, shift=shift)
        labels = labels[::-1, :, ::-1]
    else:
        grid = gridOf(volume, makeVolume, parts)
    node = drawnOn(grid, labels, makeSegmentation)
    before = content(node)
    assert lyingIn([ERASED], volume, before["A"]), "the test's grid is right"
    assert correct(volume, node, CHANGES) == 3
    after = content(node)
    inB, inA, inBackground = (
        lyingIn([v], volume, set().union(*after.values())) for v in (A_TO_B, TO_A, ERASED)
    )
    assert len(inA) == len(inB) == len(inBackground) == np.prod(parts)
    assert after["A"] == (before["A"] - inB - inBackground) | inA
    assert after["B"] == before["B"] | inB and after["Background"] == inBackground
    assert asArray(node, volume)[A_TO_B] == 2 and asArray(node, volume)[ERASED] == 3


TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("parts", "turn", "shift"),
    [
        ((0.5, 0.5, 1), None, 0.0),
        ((0.25, 0.5, 0.5), None, 0.3),
        ((2, 2, 0.5), None, 0.0),  # finer in the plane, coarser across
        ((0.4, 0.7, 0.8), None, 0.1),
        ((1, 1, 1), TURN, 0.0),
        ((1, 1, 1), 1.3 * TURN, 0.2),
        ((1, 1, 1), 0.4 * TURN, 0.2),  # turned, and fine enough
    ],
)
def test_a_coarse_or_turned_grid(volume, makeVolume, makeSegmentation, parts, turn, shift):
    size = (30, 30, 14) if turn is None else (60, 60, 40)
    low = (0, 0, 0) if turn is None else (5, -14, -1)
    grid = gridOf(volume, makeVolume, parts, turn, low=low, size=size, shift=shift)
    # The same blocks on that grid, drawn in its own voxels.
    labels = np.zeros(size[::-1], np.uint8)
    whole = gridOf(volume, makeVolume)
    source = drawnOn(whole, truth(), makeSegmentation)
    for n, i in enumerate(["A", "B"], start=1):
        array = slicer.util.arrayFromSegmentBinaryLabelmap(source, i, grid)
        labels[array > 0] = n
    labels[-1, -1, -1] = 1  # far outside the volume
    node = drawnOn(grid, labels, makeSegmentation)
    before = asArray(node, volume)
    ids = list(node.GetSegmentation().GetSegmentIDs())
    fine = turn is not None and abs(turn[0, 0]) < 0.5
    spacing = node.GetSegmentation().GetSegment("A").GetRepresentation(LABELMAP).GetSpacing()
    inside = lyingIn(np.argwhere(truth() >= 0), volume, own(node, "A"))
    far = own(node, "A") - inside
    changes = {
        v: (label + 1 if label and before[v] == label else label) % 3
        for v, label in CHANGES.items()
    }
    assert correct(volume, node, changes) == 3
    after = asArray(node, volume)
    assert ids == ["A", "B"]
    for voxel, label in changes.items():
        assert after[voxel] == (label or 3), (voxel, label)
        after[voxel] = before[voxel] = 0
    assert (after == before).all(), "no other voxel of the volume"
    layer = node.GetSegmentation().GetSegment("A").GetRepresentation(LABELMAP)
    assert (layer.GetSpacing() == spacing) == fine
    if parts == (2, 2, 0.5):
        assert np.allclose(layer.GetSpacing(), (0.35, 0.55, 3.3)), "as fine as either"
    kept = own(node, "A")
    assert far and all(min(np.linalg.norm(np.subtract(p, q)) for q in kept) < 3.5 for p in far), (
        "what is drawn outside the volume"
    )


def test_corrections_that_would_need_a_huge_layer_are_refused(
    volume, makeVolume, makeSegmentation, monkeypatch
):
    grid = gridOf(volume, makeVolume, (0.5, 0.5, 0.5))
    node = drawnOn(grid, truth()[::2, ::2, ::2], makeSegmentation)
    before = content(node)
    monkeypatch.setattr(layer_edit, "MOST_VOXELS", 300)
    with pytest.raises(InputError, match=r"'Drawn' lies on a grid that is coarser.*Specify geom"):
        correct(volume, node, CHANGES)
    assert content(node) == before and node.GetAttribute(ATTRIBUTE) is None


def test_shared_and_overlapping_layers(volume, makeSegmentation):
    """Segments of one layer, one of another layer on top, and an empty one."""
    node = createResultNode(
        truth(), ["A", "B"], drawnOn(volume, truth(), makeSegmentation), volume, "Shared"
    )
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 1
    over = slicer.vtkSegment()
    over.SetName("Over")
    segmentation.AddSegment(over, "Over")
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 4:8, 9:14] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "Over", volume)
    segmentation.AddEmptySegment("Empty", "Empty")
    assert segmentation.GetNumberOfLayers() == 2
    before = content(node)
    assert correct(volume, node, CHANGES) == 3
    after = content(node)
    every = set().union(*after.values())
    inB, inA, inBackground = (lyingIn([v], volume, every) for v in (A_TO_B, TO_A, ERASED))
    assert after["A"] == (before["A"] - inB - inBackground) | inA and len(inA) == 1
    assert after["B"] == before["B"] | inB
    assert after["Over"] == before["Over"] - inB - inBackground
    assert len(before["Over"] - after["Over"]) == 2 and after["Background"] == inBackground
    assert after["Empty"] == set() and segmentation.GetNumberOfLayers() == 2


def test_empty_segments_and_one_that_was_called_background(volume, makeSegmentation):
    node = makeSegmentation(volume, {})
    for segmentId, name in (("A", "A"), ("B", "B"), ("Background", "Liver")):
        node.GetSegmentation().AddEmptySegment(segmentId, name)
    assert correct(volume, node, CHANGES) == 3
    labels = asArray(node, volume)
    assert np.count_nonzero(labels) == 3
    assert (labels[A_TO_B], labels[TO_A], labels[ERASED]) == (2, 1, 4)
    names = [node.GetSegmentation().GetNthSegment(n).GetName() for n in range(4)]
    assert names == ["A", "B", "Liver", "Background"]


def test_more_segments_than_a_layer_of_bytes_can_hold(volume, makeSegmentation):
    node = drawnOn(volume, truth(), makeSegmentation)
    segment = node.GetSegmentation().GetSegment("B")
    layer = segment.GetRepresentation(LABELMAP)
    assert layer.GetScalarTypeAsString() == "unsigned char"
    empty = slicer.vtkSegment()
    empty.SetName("C")
    empty.AddRepresentation(LABELMAP, layer)
    empty.SetLabelValue(300)
    node.GetSegmentation().AddSegment(empty, "Background")
    empty.SetName("Background")
    before = content(node)
    assert correct(volume, node, CHANGES) == 3
    assert len(own(node, "Background")) == 1
    assert before["B"] < own(node, "B") and len(own(node, "B")) == len(before["B"]) + 1


def surfaces(volume, labels, makeSegmentation):
    """A segmentation of closed surfaces alone, as from STL files."""
    node = drawnOn(volume, labels, makeSegmentation)
    segmentation = node.GetSegmentation()
    assert segmentation.CreateRepresentation(SURFACE)
    segmentation.SetSourceRepresentationName(SURFACE)
    segmentation.RemoveRepresentation(LABELMAP)
    for n in range(segmentation.GetNumberOfSegments()):
        if segmentation.GetNthSegment(n).GetRepresentation(SURFACE) is None:
            pytest.fail("no surface")
    return node


def test_closed_surfaces_become_labelmaps(volume, makeVolume, makeSegmentation):
    node = surfaces(volume, truth(), makeSegmentation)
    segmentation = node.GetSegmentation()
    assert not segmentation.ContainsRepresentation(LABELMAP)
    crop = gridOf(volume, makeVolume, low=(3, 1, 2), size=(10, 9, 8))
    before = asArray(node, volume)
    changed = {(5, 6, 10): 2, (8, 2, 3): 1}  # in the whole volume
    assert correct(crop, node, {(3, 5, 7): 2, (6, 1, 0): 1}, truth()[2:10, 1:10, 3:13]) == 2
    assert segmentation.GetSourceRepresentationName() == LABELMAP
    after = asArray(node, volume)
    assert before[4, 7, 14] == 1, "outside the cropped volume"
    for voxel, label in changed.items():
        assert after[voxel] == label != before[voxel]
        after[voxel] = before[voxel]
    assert (after == before).all()
    surface = segmentation.GetSegment("A").GetRepresentation(SURFACE)
    assert surface is not None and surface.GetNumberOfPoints() > 0


def test_surfaces_beside_a_labelmap_are_made_again(volume, makeSegmentation):
    node = drawnOn(volume, truth(), makeSegmentation)
    segmentation = node.GetSegmentation()
    segmentation.CreateRepresentation(SURFACE)
    points = segmentation.GetSegment("A").GetRepresentation(SURFACE).GetNumberOfPoints()
    correct(volume, node, {TO_A: 1})
    surface = segmentation.GetSegment("A").GetRepresentation(SURFACE)
    assert surface is not None and surface.GetNumberOfPoints() > points


@pytest.mark.parametrize(("source", "when"), [("labelmap", 1), ("labelmap", 2), ("surface", 1)])
def test_a_failure_half_way_changes_nothing(volume, makeSegmentation, monkeypatch, source, when):
    """An exception at the first or second layer that is written."""
    node = (drawnOn if source == "labelmap" else surfaces)(volume, truth(), makeSegmentation)
    segmentation = node.GetSegmentation()
    node.SetAttribute(ATTRIBUTE, None)
    session = AnnotationSession(volume, node)
    slices, listed = dict(session.slices), asArray(node, volume)
    before, calls = content(node), []
    representation = segmentation.GetSegment("A").GetRepresentation(
        LABELMAP if source == "labelmap" else SURFACE
    )

    def failing(lattice):
        calls.append(lattice)
        if len(calls) == when:
            raise MemoryError("no room")
        return layer_edit.imageOf(lattice)

    monkeypatch.setattr(voxel_edit, "imageOf", failing)
    with pytest.raises(MemoryError):
        correct(volume, node, CHANGES)
    assert content(node) == before and node.GetAttribute(ATTRIBUTE) is None
    assert list(segmentation.GetSegmentIDs()) == ["A", "B"]
    assert (asArray(node, volume) == listed).all()
    assert segmentation.GetSourceRepresentationName() == (
        LABELMAP if source == "labelmap" else SURFACE
    )
    assert representation is segmentation.GetSegment("A").GetRepresentation(
        LABELMAP if source == "labelmap" else SURFACE
    )
    assert session.dirtySince is None and session.slices == slices
    monkeypatch.undo()
    assert correct(volume, node, CHANGES) == 3


def test_undo_and_redo_in_the_editor(volume, makeVolume, makeSegmentation):
    """The Segment Editor's own history, on a grid that the correction resamples."""
    grid = gridOf(volume, makeVolume, (0.5, 0.5, 0.5))
    node = drawnOn(grid, truth()[::2, ::2, ::2], makeSegmentation)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    history.SaveState()
    session = AnnotationSession(volume, node)
    before, slices = content(node), dict(session.slices)
    assert correct(volume, node, CHANGES) == 3
    assert session.dirtySince is None
    corrected = asArray(node, volume)
    assert history.RestorePreviousState()
    assert {i: s for i, s in content(node).items() if s} == before
    assert session.look().added == [] and session.slices == slices
    assert history.RestoreNextState()
    assert (asArray(node, volume) == corrected).all()
    assert session.look().added == [] and session.slices == slices


def test_corrections_without_a_place_are_refused(volume, makeVolume, makeSegmentation):
    node = drawnOn(volume, truth(), makeSegmentation)
    result = createResultNode(truth(), ["A", "B"], node, volume, "dense")
    corrected = truth() == 2
    corrected[TO_A] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        corrected.astype(np.uint8), result, "B", volume
    )
    grid = volumeGeometry(volume)

    def take(volume=volume):
        return takeCorrections(result, truth(), ["A", "B"], node, volume, grid)

    # The same size, but voxels at other places.
    with pytest.raises(InputError, match="'grid' is not on the grid of the result 'dense'"):
        take(gridOf(volume, makeVolume, turn=np.diag([-1, 1, 1]), low=(19, 0, 0)))
    transform = volume.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="'Drawn' is under the transform 'shift'"):
        take()
    node.SetAndObserveTransformNodeID(None)
    before = content(node)
    node.GetSegmentation().RemoveSegment("B")
    with pytest.raises(InputError, match=r"segment 'Name of B', which was removed from .* 'Drawn'"):
        take()
    assert content(node) == {"A": before["A"]} and node.GetAttribute(ATTRIBUTE) is None


def test_corrected_voxels_are_found_again_in_a_cropped_and_a_flipped_volume(
    volume, makeVolume, makeSegmentation
):
    node = drawnOn(volume, truth(), makeSegmentation)
    correct(volume, node, {TO_A: 1, A_TO_B: 2})
    crop = volumeGeometry(gridOf(volume, makeVolume, low=(4, 3, 2), size=(12, 9, 8)))
    found = correctedVoxels(node, crop)
    assert found.warning == ""
    assert np.argwhere(np.isin(np.arange(8 * 9 * 12), found.voxels).reshape(8, 9, 12)).tolist() == [
        [A_TO_B[0] - 2, A_TO_B[1] - 3, A_TO_B[2] - 4]
    ]
    turned = gridOf(volume, makeVolume, turn=np.diag([-1, 1, -1]), low=(19, 0, 11))
    found = correctedVoxels(node, volumeGeometry(turned)).voxels
    mirrored = [(11 - k, j, 19 - i) for k, j, i in (TO_A, A_TO_B)]
    assert sorted(found) == sorted(np.ravel_multi_index(v, SHAPE) for v in mirrored)
    # Of other voxels: a warning; and what is corrected there is kept beside the others.
    shifted = gridOf(volume, makeVolume, shift=0.4)
    lost = correctedVoxels(node, volumeGeometry(shifted))
    assert not lost.voxels.size and lost.warning.startswith("2 voxels that were corrected")
    correct(shifted, node, {(1, 1, 1): 1})
    assert correctedVoxels(node, volumeGeometry(shifted)).voxels.size == 1
    again = correctedVoxels(node, volumeGeometry(volume))
    assert again.voxels.size == 2 and again.warning.startswith("1 voxels")


def test_corrected_voxels_of_earlier_versions(volume, makeVolume, makeSegmentation):
    node = drawnOn(volume, truth(), makeSegmentation)
    old = '{"shape": [12, 16, 20], "voxels": "eJxjYIAAAAAIAAE="}'  # voxel 0
    grid = volumeGeometry(volume)
    node.SetAttribute(ATTRIBUTE, old)
    assert correctedVoxels(node, grid).voxels.tolist() == [0]
    correct(volume, node, {TO_A: 1})
    assert correctedVoxels(node, grid).voxels.tolist() == [0, np.ravel_multi_index(TO_A, SHAPE)]
    crop = gridOf(volume, makeVolume, size=(12, 9, 8))
    assert correctedVoxels(node, volumeGeometry(crop)).voxels.tolist() == [0]
    assert isinstance(grid, Geometry)

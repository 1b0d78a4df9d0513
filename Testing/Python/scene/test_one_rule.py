"""The same drawing read from the scene, by the panel and from a file is the same label array."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from SparseSegNetLib.annotation.overlap import painting_order
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import read_annotation
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf

SHAPE = (12, 16, 20)


def masks(solid=False):
    """Two segments that overlap each other, and a Background that overlaps both."""
    drawn = {name: np.zeros(SHAPE, bool) for name in ("A", "Background", "B", "background ")}
    where = np.s_[2:9] if solid else 5
    drawn["A"][where, 3:9, 4:12] = True
    drawn["B"][where, 6:12, 8:16] = True
    drawn["Background"][where, 2:8, 2:10] = True
    drawn["background "][9, 2:4, 2:6] = True
    return drawn


def fromFile(volume, node, folder):
    for each, kind, name in (
        (volume, "vtkMRMLVolumeArchetypeStorageNode", "image.nrrd"),
        (node, "vtkMRMLSegmentationStorageNode", "drawn.seg.nrrd"),
    ):
        storage = slicer.mrmlScene.CreateNodeByClass(kind)
        storage.UnRegister(None)
        storage.SetFileName(str(folder / name))
        assert storage.WriteData(each)
    return read_annotation(folder / "drawn.seg.nrrd", read_volume([folder / "image.nrrd"]).geometry)


def segmentation(makeSegmentation, volume, drawn, order):
    node = makeSegmentation(volume, {name: drawn[name] for name in order})
    for name in order:
        node.GetSegmentation().GetSegment(name).SetName(name)
        # Overlapping segments in layers of their own: drawing one above must not cut another.
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume) > 0
        assert (found == drawn[name]).all()
    return node


@pytest.mark.parametrize("solid", [False, True])
@pytest.mark.parametrize(
    "order",
    [
        ("A", "Background", "B", "background "),
        ("Background", "background ", "B", "A"),
        ("B", "A", "background ", "Background"),
    ],
)
def test_overlapping_segments(makeVolume, makeSegmentation, tmp_path, order, solid):
    volume = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    drawn = masks(solid)
    node = segmentation(makeSegmentation, volume, drawn, order)
    scene = annotationOf(node, volume, None)
    file = fromFile(volume, node, tmp_path)
    assert (scene.labels == file.labels).all() and scene.slices == file.slices
    assert [s.name for s in scene.segments] == [s.name for s in file.segments]
    for found in (scene, file):
        notes = " ".join(found.warnings)
        assert ("'A' and 'B' share" in notes or "'B' and 'A' share" in notes) and "later" in notes
        # Background that is thick across the slices was not drawn in them.
        assert ("Background is drawn in" in notes) != solid and ("are solid" in notes) == solid
    panel = AnnotationSession(volume, node)
    assert sorted(panel.slices) == scene.slices and bool(panel.warning) == solid
    assert (annotationOf(node, volume, None).labels == scene.labels).all(), "as the panel lists"
    # A segment wins against Background, of two segments the later one.
    names = [name for name in order if len(name) == 1]
    for place, name in enumerate(names, start=1):
        others = np.logical_or.reduce([drawn[n] for n in names[place:]], initial=False)
        assert (scene.labels[drawn[name] & ~others] == place).all()
    behind = drawn["Background"] | drawn["background "]
    assert (scene.labels[behind & ~drawn["A"] & ~drawn["B"]] == 0).all()
    if not solid:
        assert scene.slices == [AnnotatedSlice("k", 5)]
        rows = panel.rows()[0].voxels
        assert rows[names[-1]] == drawn[names[-1]].sum(), "Background hides nothing in the table"


def test_drawn_on_another_grid(makeVolume, makeSegmentation, tmp_path):
    """On the grid of a volume that is shifted and turned by a half turn against ours."""
    volume = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    node = segmentation(makeSegmentation, volume, masks(), ("A", "Background", "B", "background "))
    other = makeVolume(np.zeros(SHAPE, np.int16), seed=3, name="turned")
    matrix, turn = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    for axis in (0, 1):
        turn.SetElement(axis, axis, -1)
        turn.SetElement(axis, 3, SHAPE[2 - axis] - 1)
    vtk.vtkMatrix4x4.Multiply4x4(matrix, turn, matrix)
    other.SetIJKToRASMatrix(matrix)
    scene = annotationOf(node, other, None)
    file = fromFile(other, node, tmp_path)
    assert (scene.labels == file.labels).all() and scene.slices == file.slices
    assert (scene.labels[:, ::-1, ::-1] == annotationOf(node, volume, None).labels).all()


def test_painting_order():
    assert painting_order(["a", " BackGround", "b", "background"], [0] * 4, {}) == [1, 3, 0, 2]
    assert painting_order([], [], {}) == []
    sizes = [10, 100, 50, 10]
    # Wholly within the second: laid over it at once, before what comes later in the list.
    assert painting_order(list("abcd"), sizes, {(0, 1): 10, (0, 2): 3}) == [1, 0, 2, 3]
    assert painting_order(list("abcd"), sizes, {(0, 1): 9}) == [0, 1, 2, 3], "a part of it only"
    assert painting_order(list("abcd"), sizes, {(0, 3): 10}) == [0, 1, 2, 3], "equal: the later"
    assert painting_order(list("abcd"), sizes, {(0, 2): 10, (1, 2): 50}) == [1, 2, 0, 3]


def strokes(background):
    """Strokes of two segments, and of Background if wanted, in three slices of a volume."""
    drawn = {name: np.zeros((12, 40, 44), bool) for name in ("A", "B", "Background")}
    for k in (3, 6, 9):
        drawn["A"][k, 10:12, 10:30] = True
        drawn["B"][k, 16:18, 14:26] = True
        drawn["Background"][k, 30:32, 4:40] = background
    return drawn


def strokesNode(makeVolume, makeSegmentation, background):
    volume = makeVolume(np.zeros((12, 40, 44), np.int16), seed=3)
    node = makeSegmentation(volume, strokes(background))
    for name in strokes(background):
        node.GetSegmentation().GetSegment(name).SetName(name)
    return volume, node


@pytest.mark.parametrize("listed", [False, True])
def test_strokes(makeVolume, makeSegmentation, listed):
    """In the console, and with the slices that the panel lists while somebody paints."""
    volume, node = strokesNode(makeVolume, makeSegmentation, True)
    if listed:
        assert set(AnnotationSession(volume, node).slices.values()) == {False}
    found = annotationOf(node, volume, None)
    assert [s.index for s in found.slices] == [3, 6, 9]
    drawn = strokes(True)
    wanted = np.where(drawn["A"], 1, np.where(drawn["B"], 2, np.where(drawn["Background"], 0, 255)))
    assert (found.labels == wanted).all() and "only what is drawn" in found.warnings[0]
    # A slice that was named is complete.
    named = annotationOf(node, volume, [AnnotatedSlice("k", 3)])
    assert (named.labels[3] != 255).all()


@pytest.mark.parametrize("listed", [False, True])
def test_strokes_without_background(makeVolume, makeSegmentation, listed):
    volume, node = strokesNode(makeVolume, makeSegmentation, False)
    session = AnnotationSession(volume, node) if listed else None
    with pytest.raises(InputError, match="strokes, not filled structures"):
        annotationOf(node, volume, None)
    found = annotationOf(node, volume, [])
    drawn = strokes(False)
    wanted = np.where(drawn["A"], 1, np.where(drawn["B"], 2, 255))
    assert (found.labels == wanted).all() and [s.index for s in found.slices] == [3, 6, 9]
    if session is not None:
        for item in list(session.slices):
            session.mark(item)
        assert (annotationOf(node, volume, None).labels[[3, 6, 9]] != 255).all()

"""Volumes and segmentations in and out of a real MRML scene."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

from SparseSegNetLib.annotation.drawn import BACKGROUND_DRAWN
from SparseSegNetLib.annotation.segments import PALETTE
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene.results import createResultNode, updateResultNode
from SparseSegNetLib.scene.segmentations import drawnSegments, mergedSegments
from SparseSegNetLib.scene.volumes import volumeArray, volumeGeometry

TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left"
    "~Anatomic codes - DICOM master list~^^~^^"
)


def tagOf(segment, name):
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else None


def masks(shape=(6, 7, 8)):
    a, b = np.zeros(shape, bool), np.zeros(shape, bool)
    a[2, 1:5, 1:5] = True
    b[2, 4:7, 4:8] = True
    return {"S1": a, "S2": b}


class TestVolumes:
    @pytest.mark.parametrize("leftHanded", [False, True])
    def test_geometry_is_the_nodes_in_LPS_to_the_last_bit(self, makeVolume, leftHanded):
        node = makeVolume(np.zeros((4, 5, 6), np.int16), seed=3, leftHanded=leftHanded)
        grid = volumeGeometry(node)
        assert grid.size == (6, 5, 4) and grid.spacing == (0.7, 1.1, 3.3)
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        for index in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (1, 2, 3)):
            ras = matrix.MultiplyPoint((*index, 1.0))[:3]
            assert np.allclose(grid.position(*index), [-ras[0], -ras[1], ras[2]], atol=1e-9)
        directions = [[0.0] * 3 for _ in range(3)]
        node.GetIJKToRASDirections(directions)
        assert np.array_equal(np.reshape(grid.directions, (3, 3)) * [[-1], [-1], [1]], directions)
        assert grid.origin == (-1 / 3, 200.7, 55.1)

    def test_channels_from_several_and_vector_volumes(self, makeVolume):
        one = makeVolume(np.full((4, 5, 6), 3, np.int16))
        color = makeVolume(
            np.zeros((4, 5, 6, 3), np.uint8) + np.uint8([7, 8, 9]),
            name="RGB",
            kind="vtkMRMLVectorVolumeNode",
        )
        found = volumeArray([one, color])
        assert found.shape == (4, 4, 5, 6) and found[:, 0, 0, 0].tolist() == [3, 7, 8, 9]
        found[:] = 0
        assert slicer.util.arrayFromVolume(one).min() == 3, "a copy, not the node's voxels"

    def test_what_is_refused(self, scene, makeVolume):
        with pytest.raises(InputError, match="no volume is chosen"):
            volumeGeometry(None)
        with pytest.raises(InputError, match="'Empty' has no voxels"):
            volumeGeometry(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"))
        moved = makeVolume(np.zeros((4, 5, 6), np.int16), name="Moved")
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
        moved.SetAndObserveTransformNodeID(transform.GetID())
        with pytest.raises(InputError, match=r"'Moved' is under the transform 'Shift'.*harden"):
            volumeGeometry(moved)
        one = makeVolume(np.zeros((4, 5, 6), np.int16), name="A")
        two = makeVolume(np.zeros((4, 5, 7), np.int16), name="B")
        with pytest.raises(InputError, match=r"'A' and 'B'.*6x5x4 against 7x5x4"):
            volumeArray([one, two])
        broken = makeVolume(np.full((4, 5, 6), np.nan, np.float32), name="NaN")
        with pytest.raises(InputError, match="120 voxels that are not finite"):
            volumeArray([broken])


class TestDrawn:
    @pytest.mark.parametrize("seed", [None, 5])
    def test_labels_follow_the_segments_order_and_later_ones_win(
        self, makeVolume, makeSegmentation, seed
    ):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16), seed)
        drawn = masks()
        node = makeSegmentation(volume, drawn)
        found = drawnSegments(node, volume)
        wanted = np.where(drawn["S2"], 2, np.where(drawn["S1"], 1, 0))
        assert (found.drawings[0].segments() == wanted).all() and len(found.drawings) == 1
        assert [s.id for s in found.segments] == ["S1", "S2"]
        assert found.segments[1].name == "Name of S2"
        assert found.segments[1].color == pytest.approx((0.1, 0.9, 0.5))
        assert found.drawings[0].numbers.max() == 2 and "share" in found.warnings[0]

    def test_shared_layers_with_odd_label_values(self, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16))
        drawn = masks()
        drawn["S2"] &= ~drawn["S1"]
        node = makeSegmentation(volume, drawn)
        segmentation = node.GetSegmentation()
        segmentation.CollapseBinaryLabelmaps(False)
        assert segmentation.GetNumberOfLayers() == 1
        segmentation.SetSegmentIndex("S2", 0)  # now label value and position disagree
        found = drawnSegments(node, volume)
        assert [s.id for s in found.segments] == ["S2", "S1"]
        wanted = np.where(drawn["S2"], 1, np.where(drawn["S1"], 2, 0))
        assert (found.drawings[0].segments() == wanted).all()

    def test_a_colour_that_is_none(self, makeVolume, makeSegmentation):
        """Other modules compute colours, and json knows no NaN."""
        volume = makeVolume(np.zeros((6, 7, 8), np.int16))
        node = makeSegmentation(volume, masks())
        node.GetSegmentation().GetSegment("S2").SetColor(float("nan"), 0.5, 2)
        found = drawnSegments(node, volume)
        assert found.segments[1].color == PALETTE[1]

    def test_another_grid_is_resampled(self, makeVolume, makeSegmentation):
        fine = makeVolume(np.zeros((12, 14, 16), np.int16), spacing=(0.5, 0.5, 0.5), name="fine")
        coarse = makeVolume(np.zeros((6, 7, 8), np.int16), spacing=(1, 1, 1), name="coarse")
        mask = np.zeros((6, 7, 8), bool)
        mask[2:4, 2:5, 2:6] = True
        node = makeSegmentation(coarse, {"S": mask})
        (drawing,) = drawnSegments(node, fine).drawings
        assert drawing.geometry.spacing == (1, 1, 1) and drawing.segments().sum() == mask.sum()
        found = mergedSegments(node.GetSegmentation(), ["S"], fine)
        # A coarse voxel n holds the fine ones whose centres lie in it: 2n - 1 (on its border) and
        # 2n.
        wanted = np.zeros((12, 14, 16), bool)
        wanted[3:7, 3:9, 3:11] = True
        assert ((found == 1) == wanted).all()

    def test_a_background_segment_is_no_class(self, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16))
        extra = np.zeros((6, 7, 8), bool)
        extra[5] = True
        node = makeSegmentation(volume, {"B": extra, **masks()})
        node.GetSegmentation().GetSegment("B").SetName("background")
        found = drawnSegments(node, volume)
        assert [s.id for s in found.segments] == ["S1", "S2"]
        (drawing,) = found.drawings
        assert ((drawing.numbers == BACKGROUND_DRAWN) == extra).all()
        assert (drawing.segments()[5] == 0).all() and drawing.segments().max() == 2

    def test_the_users_node_is_not_touched(self, scene, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16), 4)
        node = makeSegmentation(volume, masks())
        segmentation = node.GetSegmentation()

        def state():
            return (
                segmentation.GetMTime(),
                segmentation.GetNumberOfLayers(),
                segmentation.GetSourceRepresentationName(),
                scene.GetNumberOfNodes(),
                [segmentation.GetNthSegment(n).GetMTime() for n in range(2)],
                [segmentation.GetNthSegment(n).GetLabelValue() for n in range(2)],
            )

        before = state()
        drawnSegments(node, volume)
        assert state() == before

    def test_surfaces_are_converted_on_a_copy(self, scene, makeVolume):
        volume = makeVolume(np.zeros((30, 30, 30), np.int16), spacing=(1, 1, 1))
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Surface")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        ball = vtk.vtkSphereSource()
        ball.SetRadius(8)
        ball.SetThetaResolution(40)
        ball.SetPhiResolution(40)
        ball.SetCenter(1 / 3 + 15, -200.7 + 15, 55.1 + 15)
        ball.Update()
        node.GetSegmentation().SetSourceRepresentationName(
            slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        )
        node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "Ball", (1, 0, 0), "Ball")
        found = drawnSegments(node, volume)
        assert found.drawings[0].segments().sum() == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.15)
        names = []
        node.GetSegmentation().GetContainedRepresentationNames(names)
        assert "Binary labelmap" not in names

    def test_what_is_refused(self, scene, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16))
        with pytest.raises(InputError, match="no segmentation is chosen"):
            drawnSegments(None, volume)
        empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
        with pytest.raises(InputError, match="'Empty' has no segments"):
            drawnSegments(empty, volume)
        node = makeSegmentation(volume, masks())
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
        node.SetAndObserveTransformNodeID(transform.GetID())
        with pytest.raises(InputError, match="under the transform"):
            drawnSegments(node, volume)
        fine = makeSegmentation(volume, masks(), "Fine")
        before = scene.GetNumberOfNodes()
        with pytest.raises(InputError, match="no volume is chosen"):
            drawnSegments(fine, None)
        assert scene.GetNumberOfNodes() == before


class TestResult:
    def test_same_segments_other_content_own_node(self, scene, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16), seed=9)
        source = makeSegmentation(volume, masks())
        first = source.GetSegmentation().GetSegment("S1")
        first.SetTag(first.GetTerminologyEntryTagName(), TERMINOLOGY)
        first.SetTag("Segmentation.Status", "completed")
        first.SetTag("my own", "tag")
        before = slicer.util.arrayFromSegmentBinaryLabelmap(source, "S1", volume).copy()
        labels = np.random.default_rng(0).integers(0, 3, (6, 7, 8)).astype(np.uint8)
        node = createResultNode(labels, ["S1", "S2"], source, volume, "Drawn dense")
        assert node is not source and node.GetName() == "Drawn dense"
        segmentation = node.GetSegmentation()
        assert list(segmentation.GetSegmentIDs()) == ["S1", "S2"]
        assert segmentation.GetNumberOfLayers() == 1
        for segmentId in ("S1", "S2"):
            mine = segmentation.GetSegment(segmentId)
            theirs = source.GetSegmentation().GetSegment(segmentId)
            assert mine.GetName() == theirs.GetName() and mine.GetColor() == theirs.GetColor()
            for tag in (mine.GetTerminologyEntryTagName(), "Segmentation.Status", "my own"):
                assert tagOf(mine, tag) == tagOf(theirs, tag)
        assert tagOf(segmentation.GetSegment("S1"), "TerminologyEntry") == TERMINOLOGY
        for number, segmentId in enumerate(("S1", "S2"), start=1):
            found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
            assert (found.astype(bool) == (labels == number)).all()
        role = node.GetReferenceImageGeometryReferenceRole()
        assert node.GetNodeReference(role) is volume
        after = slicer.util.arrayFromSegmentBinaryLabelmap(source, "S1", volume)
        assert (before == after).all()

    def test_content_can_be_replaced_and_a_segment_can_be_empty(self, makeVolume, makeSegmentation):
        volume = makeVolume(np.zeros((6, 7, 8), np.int16))
        labels = np.ones((6, 7, 8), np.uint8)
        node = createResultNode(
            labels, ["S1", "S2"], makeSegmentation(volume, masks()), volume, "R"
        )
        labels[:] = 0  # the node has its own buffer
        assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "S1", volume).all()
        labels[3] = 2
        updateResultNode(node, labels, ["S1", "S2"], volume)
        assert not slicer.util.arrayFromSegmentBinaryLabelmap(node, "S1", volume).any()
        assert slicer.util.arrayFromSegmentBinaryLabelmap(node, "S2", volume).sum() == 56
        with pytest.raises(ValueError, match="shape"):
            updateResultNode(node, labels[1:], ["S1", "S2"], volume)

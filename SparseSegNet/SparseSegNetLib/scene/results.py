"""Results as MRML nodes: the dense segmentation and the uncertainty volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..annotation.segments import Segment
from .volumes import volumeGeometry

HEAT = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"


class LayerBuffer:
    """The memory of a layer, to be filled in any thread before it becomes part of a node, once.

    Args:
        shape: Of the labels, (k, j, i).

    Attributes:
        labels: uint8 (k, j, i), to be filled.
        scalars: The same memory as vtkDataArray.
    """

    def __init__(self, shape: Sequence[int]):
        self.scalars = vtk.vtkUnsignedCharArray()
        self.scalars.SetNumberOfTuples(math.prod(shape))
        self.labels = vtk_to_numpy(self.scalars).reshape(shape)

    @classmethod
    def of(cls, labels: np.ndarray) -> LayerBuffer:
        """A copy of labels (k, j, i)."""
        buffer = cls(labels.shape)
        buffer.labels[...] = labels
        return buffer


RESULT = "SparseSegNet.Result"  # the attribute of results, with the number of the run's input


def createResultNode(
    labels: np.ndarray | LayerBuffer,
    segmentIds: Sequence[str],
    source,
    volumeNode,
    name: str,
    number: int = 1,
):
    """Creates a segmentation node with the segments of another one and dense content.

    In the subject hierarchy it is put beside the volume.

    Args:
        labels: uint8 (k, j, i) on the volume's grid, n = the n-th of `segmentIds`; a buffer
            becomes the segmentation's own.
        segmentIds: IDs of segments of the source.
        source: The source of names, colours, terminology and other tags: a segmentation node, or
            annotation.segments.Segment values.
        volumeNode: The volume whose grid is used.
        name: The new node's name; a number is appended if it is in use.
        number: The run's input that it belongs to, from 1.

    Returns:
        The new node.

    Raises:
        ValueError: If the labels do not have the volume's shape.
        RuntimeError: If Slicer does not accept the labels.
    """
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    markResult(node, number)
    known = {s.id: s for s in source} if isinstance(source, Sequence) else None
    for segmentId in segmentIds:
        segment = slicer.vtkSegment()
        if known is None:
            segment.DeepCopyMetadata(source.GetSegmentation().GetSegment(segmentId))
        else:
            _describe(segment, known[segmentId])
        node.GetSegmentation().AddSegment(segment, segmentId)
    updateResultNode(node, labels, segmentIds, volumeNode)
    putBeside(node, volumeNode)
    return node


def _describe(segment, about: Segment) -> None:
    segment.SetName(about.name)
    segment.SetColor(*about.color)
    for key, value in about.tags.items():
        segment.SetTag(key, value)


def markResult(node, number: int = 1) -> None:
    """Marks a segmentation or volume as a result, of this input of its run."""
    node.SetAttribute(RESULT, str(number))


def isResult(node) -> bool:
    """True if a segmentation or volume was made by this module, and is no annotation."""
    return node.GetAttribute(RESULT) is not None


def resultNumber(node) -> int:
    """The input of its run, from 1, that a result belongs to."""
    text = node.GetAttribute(RESULT) or ""
    return max(1, int(text)) if text.isdecimal() else 1


def putBeside(node, volumeNode) -> None:
    """Puts a node into the folder (or study) of the subject hierarchy that holds a volume."""
    hierarchy = volumeNode.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    if hierarchy is None:
        return
    item = hierarchy.GetItemByDataNode(volumeNode)
    if item == hierarchy.GetInvalidItemID():
        return
    parent = hierarchy.GetItemParent(item)
    own = hierarchy.GetItemByDataNode(node)
    if own == hierarchy.GetInvalidItemID():
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(own, parent)


def updateResultNode(
    node, labels: np.ndarray | LayerBuffer, segmentIds: Sequence[str], volumeNode
) -> None:
    """Replaces the content of all segments at once, as one shared layer.

    Args:
        node: The segmentation node.
        labels: uint8 (k, j, i) on the volume's grid, n = the n-th of `segmentIds`; a buffer
            becomes the segmentation's own.
        segmentIds: IDs of the node's segments.
        volumeNode: The volume whose grid is used.

    Raises:
        ValueError: If the labels do not have the volume's shape.
        RuntimeError: If Slicer does not accept the labels.
    """
    shape = volumeGeometry(volumeNode).shape
    found = labels.shape if isinstance(labels, np.ndarray) else labels.labels.shape
    if found != shape:
        raise ValueError(f"labels of shape {found} for a volume of shape {shape} (k, j, i)")
    buffer = LayerBuffer.of(labels) if isinstance(labels, np.ndarray) else labels
    image = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetExtent(volumeNode.GetImageData().GetExtent())
    image.SetImageToWorldMatrix(matrix)
    # The segmentation keeps this buffer as its own.
    image.GetPointData().SetScalars(buffer.scalars)
    order = vtk.vtkStringArray()
    for segmentId in segmentIds:
        order.InsertNextValue(segmentId)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ImportLabelmapToSegmentationNode(image, node, order):
        raise RuntimeError(f"Slicer could not put the result into '{node.GetName()}'")


def createUncertaintyNode(uncertainty: np.ndarray, volumeNode, name: str):
    """Creates a scalar volume node with an uncertainty map, to be shown as an overlay.

    Args:
        uncertainty: uint8 (k, j, i) on the volume's grid, 0 certain, 255 undecided.
        volumeNode: The volume whose grid is used.
        name: The new node's name; a number is appended if it is in use.

    Returns:
        The new node.
    """
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    slicer.util.updateVolumeFromArray(node, uncertainty)
    markResult(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if scene.GetNodeByID(HEAT) is not None:
        display.SetAndObserveColorNodeID(HEAT)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0, 255)
    # Voxels of low uncertainty are transparent.
    display.SetApplyThreshold(True)
    display.SetAutoThreshold(False)
    display.SetThreshold(26, 255)
    return node

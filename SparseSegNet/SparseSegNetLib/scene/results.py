"""MRML segmentations out: the dense result as a node of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .volumes import volumeGeometry

HEAT = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"


def createResultNode(
    labels: np.ndarray, segmentIds: Sequence[str], sourceSegmentationNode, volumeNode, name: str
):
    """A new segmentation node with the segments of `sourceSegmentationNode` (same IDs, names,
    colours, terminology and other tags) and dense content.

    labels: uint8 (k, j, i) on the volume's grid, n = the n-th of `segmentIds`.
    """
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    source = sourceSegmentationNode.GetSegmentation()
    for segmentId in segmentIds:
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(source.GetSegment(segmentId))
        node.GetSegmentation().AddSegment(segment, segmentId)
    updateResultNode(node, labels, segmentIds, volumeNode)
    return node


def updateResultNode(node, labels: np.ndarray, segmentIds: Sequence[str], volumeNode) -> None:
    """Replace the content of all segments at once, as one shared layer.

    labels: uint8 (k, j, i) on the volume's grid.
    Raises ValueError when the labels do not have the volume's shape.
    """
    shape = volumeGeometry(volumeNode).shape
    if labels.shape != shape:
        raise ValueError(f"labels of shape {labels.shape} for a volume of shape {shape} (k, j, i)")
    image = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetExtent(volumeNode.GetImageData().GetExtent())
    image.SetImageToWorldMatrix(matrix)
    # A deep copy: the segmentation keeps this buffer as its own.
    scalars = numpy_to_vtk(
        np.ascontiguousarray(labels, np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR
    )
    image.GetPointData().SetScalars(scalars)
    order = vtk.vtkStringArray()
    for segmentId in segmentIds:
        order.InsertNextValue(segmentId)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ImportLabelmapToSegmentationNode(image, node, order):
        raise RuntimeError(f"Slicer could not put the result into '{node.GetName()}'")


def createUncertaintyNode(uncertainty: np.ndarray, volumeNode, name: str):
    """A scalar volume node on the volume's grid, to be laid over it.

    uncertainty: uint8 (k, j, i), 0 certain, 255 undecided.
    """
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    slicer.util.updateVolumeFromArray(node, uncertainty)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if scene.GetNodeByID(HEAT) is not None:
        display.SetAndObserveColorNodeID(HEAT)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0, 255)
    # What is certain stays clear.
    display.SetApplyThreshold(True)
    display.SetAutoThreshold(False)
    display.SetThreshold(26, 255)
    return node

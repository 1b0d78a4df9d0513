"""Annotation that starts from a prediction: what is not corrected there does not count."""

from __future__ import annotations

import slicer

from .results import RESULT, putBeside
from .slice_list import listSlices
from .volumes import volumeGeometry

ATTRIBUTE = "SparseSegNet.StartedFromPrediction"


def annotationFrom(resultNode, volumeNode, name: str):
    """Creates a segmentation to annotate a volume in, with a result as a start.

    Only slices that the user corrects or marks as complete are annotated; elsewhere the segments
    are a prediction and do not count.

    Args:
        resultNode: The result, which is not changed.
        volumeNode: The volume that it belongs to.
        name: The new node's name; a number is appended if it is in use.

    Returns:
        The new node.
    """
    scene = volumeNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().DeepCopy(resultNode.GetSegmentation())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAttribute(ATTRIBUTE, "1")
    node.RemoveAttribute(RESULT)
    listSlices(node, {}, volumeGeometry(volumeNode))
    putBeside(node, volumeNode)
    return node


def startedFromPrediction(segmentationNode) -> bool:
    """True if a segmentation was made by `annotationFrom`."""
    return isinstance(segmentationNode, slicer.vtkMRMLSegmentationNode) and (
        segmentationNode.GetAttribute(ATTRIBUTE) is not None
    )

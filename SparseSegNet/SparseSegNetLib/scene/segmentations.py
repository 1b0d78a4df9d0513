"""Label arrays of MRML segmentation nodes on a volume's grid; the nodes are never changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.drawn import is_background, painting_order
from ..annotation.segments import Segment, usable_color
from ..errors import InputError
from .layers import mergedLayers, onGrid
from .volumes import refuseTransformed, volumeGeometry


@dataclass
class Drawn:
    """The content of a segmentation node on a volume's grid.

    Attributes:
        labelmap: uint8 (k, j, i), 0 where nothing was drawn, n for the n-th of `segments`; where
            segments overlap the later one wins.
        segments: The segments, without Background.
        background: Boolean (k, j, i), voxels that a segment called 'Background' covers and no
            other; None without such a segment.
    """

    labelmap: np.ndarray
    segments: list[Segment]
    background: np.ndarray | None


def drawnSegments(segmentationNode, volumeNode) -> Drawn:
    """Reads the content of a segmentation node on a volume's grid.

    Args:
        segmentationNode: The segmentation, or None.
        volumeNode: The volume whose grid is used; nearest neighbour where the grids differ.

    Returns:
        Label map, segments and background.

    Raises:
        InputError: If there is no node, or it has no segments, more than 254, or only Background,
            or if a node is under a transform or cannot be used otherwise.
    """
    if segmentationNode is None:
        raise InputError("no segmentation is chosen: choose or create one.")
    if not segmentationNode.IsA("vtkMRMLSegmentationNode"):
        raise InputError(
            f"'{segmentationNode.GetName()}' is no segmentation "
            f"({segmentationNode.GetClassName()}): choose or create one."
        )
    refuseTransformed(segmentationNode, "segmentation")
    volumeGeometry(volumeNode)
    segmentation = segmentationNode.GetSegmentation()
    ids = orderedSegments(segmentation) if segmentation is not None else []
    if not ids:
        raise InputError(
            f"the segmentation '{segmentationNode.GetName()}' has no segments: add "
            "one and draw it in a few slices."
        )
    merged = mergedSegments(segmentation, ids, volumeNode)
    behind = [n for n, i in enumerate(ids, start=1) if isBackground(segmentation, i)]
    background = np.isin(merged, behind) if behind else None
    # Labels 1..K for the real segments, in their order.
    table = np.zeros(len(ids) + 1, np.uint8)
    real = [n for n in range(1, len(ids) + 1) if n not in behind]
    if len(real) > MAX_SEGMENTS:
        raise InputError(
            f"the segmentation '{segmentationNode.GetName()}' has {len(real)} "
            f"segments: at most {MAX_SEGMENTS} can be used. Remove some, or move "
            "them to another segmentation."
        )
    table[real] = np.arange(1, len(real) + 1)
    if not real:
        raise InputError(
            f"the segmentation '{segmentationNode.GetName()}' has only a Background "
            "segment: add one for the structure."
        )
    segments = [
        _described(segmentation.GetSegment(ids[n - 1]), ids[n - 1], place)
        for place, n in enumerate(real, start=1)
    ]
    return Drawn(table[merged], segments, background)


def segmentationsOf(volumeNode) -> list:
    """The segmentation nodes that belong to a volume.

    Those that refer to it as their reference geometry and, of those without a reference, the ones
    that are drawn on its grid.
    """
    role, found = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole(), []
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        reference = node.GetNodeReference(role)
        if reference is volumeNode or (reference is None and _drawnOn(node, volumeNode)):
            found.append(node)
    return found


def _drawnOn(segmentationNode, volumeNode) -> bool:
    segmentation = segmentationNode.GetSegmentation()
    ids = [] if segmentation is None else list(segmentation.GetSegmentIDs())
    return (
        bool(ids)
        and volumeNode.GetImageData() is not None
        and onGrid(segmentation, ids, volumeNode)
    )


def isBackground(segmentation, segmentId: str) -> bool:
    """True if a segment marks background, by its name."""
    return is_background(_nameOf(segmentation, segmentId))


def orderedSegments(segmentation) -> list[str]:
    """Segment IDs in painting order: where two overlap the later counts (see `painting_order`)."""
    ids = list(segmentation.GetSegmentIDs())
    return [ids[n] for n in painting_order([_nameOf(segmentation, i) for i in ids])]


def _nameOf(segmentation, segmentId: str) -> str:
    return segmentation.GetSegment(segmentId).GetName() or segmentId


def mergedSegments(segmentation, ids: list[str], volumeNode) -> np.ndarray:
    """Merges segments into one label array on the volume's grid, resampling where necessary.

    Args:
        segmentation: The vtkSegmentation.
        ids: Segment IDs; where segments overlap the later one counts.
        volumeNode: The volume whose grid is used.

    Returns:
        uint8 (k, j, i): n where the n-th of `ids` covers, 0 where none does.

    Raises:
        InputError: If the segments cannot be resampled to that grid, or are more than a label
            array can distinguish.
    """
    if len(ids) > MAX_SEGMENTS + 1:
        raise InputError(
            f"the segmentation has {len(ids)} segments: at most {MAX_SEGMENTS} and "
            "one called Background can be used. Remove some, or move them to another "
            "segmentation."
        )
    merged = mergedLayers(segmentation, ids, volumeNode)
    if merged is None:
        merged = _resampled(segmentation, ids, volumeNode)
        merged = merged.reshape(volumeGeometry(volumeNode).shape)
    return merged


def _resampled(segmentation, ids: list[str], volumeNode) -> np.ndarray:
    """Label n for the n-th ID, flat, resampled to the volume's grid.

    Works on a copy outside the scene, so that the user's node keeps its representations and
    layers, and does not rely on label values of shared layers.
    """
    copy = slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().DeepCopy(segmentation)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if not copy.GetSegmentation().ContainsRepresentation(name):
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        if not copy.GetSegmentation().CreateRepresentation(name):
            raise InputError(
                "the segmentation cannot be converted to a binary labelmap: do it in "
                "the Segmentations module (Representations, Create)."
            )
    grid = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetExtent(volumeNode.GetImageData().GetExtent())
    grid.SetImageToWorldMatrix(matrix)
    order, values = vtk.vtkStringArray(), vtk.vtkIntArray()
    for number, segmentId in enumerate(ids, start=1):
        order.InsertNextValue(segmentId)
        values.InsertNextValue(number)
    found = slicer.vtkOrientedImageData()
    if not copy.GenerateMergedLabelmapForAllSegments(
        found, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, grid, order, values
    ):
        raise InputError(
            "the segments cannot be put on the volume's grid: check that the "
            "segmentation and the volume belong together."
        )
    return vtk_to_numpy(found.GetPointData().GetScalars()).astype(np.uint8)


def _described(segment, segmentId: str, place: int) -> Segment:
    tag = segment.GetTerminologyEntryTagName()
    terminology = vtk.reference("")
    tags = {tag: str(terminology)} if segment.GetTag(tag, terminology) else {}
    name = segment.GetName() or segmentId
    color = usable_color(segment.GetColor(), place - 1)
    return Segment(segmentId, name, color, place, tags)

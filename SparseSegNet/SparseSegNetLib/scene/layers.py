"""The layers of a segmentation as one array, read in place.

Neither copies the node nor resamples: for segmentations drawn on the volume's own grid, which is
nearly all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

NEAR = 1e-3  # voxels by which a layer's corners may be off the volume's grid


def mergedLayers(segmentation, ids: Sequence[str], volumeNode) -> np.ndarray | None:
    """Merges segments into one label array on the volume's grid.

    Args:
        segmentation: The vtkSegmentation.
        ids: Segment IDs, at most 255; where segments overlap the later one counts.
        volumeNode: The volume whose grid is used.

    Returns:
        uint8 (k, j, i): n where the n-th of `ids` covers, 0 where none does. None if a layer lies
        on another grid, or if a segment has no binary labelmap.
    """
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    columns, rows, planes = volumeNode.GetImageData().GetDimensions()
    merged = np.zeros((planes, rows, columns), np.uint8)
    layers: dict = {}
    for number, segmentId in enumerate(ids, start=1):
        segment = segmentation.GetSegment(segmentId)
        layer = segment.GetRepresentation(name)
        if layer is None:
            return None
        layers.setdefault(layer, {})[segment.GetLabelValue()] = number
    for layer, numbers in layers.items():
        if layer.GetPointData().GetScalars() is None or layer.IsEmpty():
            continue
        start = _offset(layer, volumeNode)
        if start is None:
            return None
        _paste(merged, layer, start, numbers)
    return merged


def onGrid(segmentation, ids: Sequence[str], volumeNode) -> bool:
    """True if the segments are not all empty and all their layers lie on the volume's grid."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    layers = {segmentation.GetSegment(i).GetRepresentation(name) for i in ids} - {None}
    drawn = [layer for layer in layers if not layer.IsEmpty()]
    return bool(drawn) and all(_offset(layer, volumeNode) is not None for layer in drawn)


def _offset(layer, volumeNode) -> tuple[int, int, int] | None:
    """The (i, j, k) of a layer's voxel (0, 0, 0) on the volume's grid; None on another grid."""
    ours, theirs, inverse = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetRASToIJKMatrix(inverse)
    layer.GetImageToWorldMatrix(theirs)
    vtk.vtkMatrix4x4.Multiply4x4(inverse, theirs, ours)
    found = slicer.util.arrayFromVTKMatrix(ours)[:3]
    start = np.round(found[:, 3])
    # The far corner of the layer: an error of the directions grows with the distance.
    extent = np.array(layer.GetExtent()).reshape(3, 2)
    for corner in (extent[:, 0], extent[:, 1]):
        if np.abs(found[:, :3] @ corner + found[:, 3] - corner - start).max() > NEAR:
            return None
    return tuple(int(x) for x in start)


def _paste(merged: np.ndarray, layer, start: tuple[int, int, int], numbers: dict[int, int]) -> None:
    """Writes a layer into the merged array, clipped to it."""
    extent = layer.GetExtent()
    low = [start[axis] + extent[2 * axis] for axis in (2, 1, 0)]
    shape = [extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0)]
    values = vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(shape)
    into, of = [], []
    for lo, size, whole in zip(low, shape, merged.shape, strict=True):
        begin, end = max(0, lo), min(whole, lo + size)
        if begin >= end:
            return
        into.append(slice(begin, end))
        of.append(slice(begin - lo, end - lo))
    part, target = values[tuple(of)], merged[tuple(into)]
    # Numbers rise with the order of the segments: the later one wins. Comparing once per segment
    # is faster than a table of all values, which numpy widens to eight bytes per voxel.
    for value, number in numbers.items():
        found = (part == value).view(np.uint8)
        np.multiply(found, np.uint8(number), out=found)
        np.maximum(target, found, out=target)

"""The layers of a segmentation node, as arrays on grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layers import Layer
from ..annotation.pieces import memory, pieces
from ..errors import InputError
from ..steps import Overtaken, Steps
from .volumes import FLIP, volumeGeometry


def layersOf(segmentation, ids: Sequence[str], volumeNode) -> list[Layer]:
    """The layers of segments, read in place; empty layers are left out.

    Args:
        segmentation: The vtkSegmentation; it is not changed.
        ids: Segment IDs; the n-th gets the number n.
        volumeNode: The volume on whose grid segments are drawn that have no binary labelmap.

    Raises:
        InputError: If segments cannot be converted to binary labelmaps, or two share a layer and
            its label value.
    """
    return _layers(_withLabelmaps(segmentation, ids, volumeNode), ids)


def layersInSteps(segmentation, ids: Sequence[str], volumeNode) -> Callable[[], list[Layer]]:
    """A function that reads layers as `layersOf` does, for work in steps.

    Between two steps Slicer may give a layer other memory: call the function in each step and keep
    nothing of what it returns. It raises Overtaken once the segmentation has changed.
    """
    source = _withLabelmaps(segmentation, ids, volumeNode)
    if source is not segmentation:
        found = _layers(source, ids)
        return lambda: found  # a copy, which nobody changes
    begun = _version(source, ids)

    def read() -> list[Layer]:
        if _version(source, ids) != begun:
            raise Overtaken
        return _layers(source, ids)

    return read


def copiedLayers(read: Callable[[], list[Layer]]) -> Steps[list[Layer]]:
    """Copies layers piece by piece, see `steps`.

    Args:
        read: See `layersInSteps`.
    """
    copies = []
    for n in range(len(read())):
        values = read()[n].values
        copy = yield from memory(values.shape, values.dtype)
        for part in pieces(copy):
            copy[part] = read()[n].values[part]
            yield None
        copies.append(replace(read()[n], values=copy))
    read()  # refuses what changed after the last step
    return copies


def _version(segmentation, ids: Sequence[str]) -> tuple:
    """Differs once segments or their voxels were changed."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    found = [segmentation.GetMTime()]
    for segmentId in ids:
        segment = segmentation.GetSegment(segmentId)
        layer = None if segment is None else segment.GetRepresentation(name)
        if layer is None:
            return ()
        scalars = layer.GetPointData().GetScalars()
        times = (segment.GetMTime(), layer.GetMTime(), 0 if scalars is None else scalars.GetMTime())
        found += times
    return tuple(found)


def _withLabelmaps(segmentation, ids: Sequence[str], volumeNode):
    """The segmentation, or a copy with binary labelmaps if it has others."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if any(segmentation.GetSegment(i).GetRepresentation(name) is None for i in ids):
        return _converted(segmentation, name, volumeNode)
    return segmentation


def _layers(segmentation, ids: Sequence[str]) -> list[Layer]:
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    found: dict = {}
    for number, segmentId in enumerate(ids, start=1):
        segment = segmentation.GetSegment(segmentId)
        layer, value = segment.GetRepresentation(name), segment.GetLabelValue()
        numbers = found.setdefault(layer, {})
        if value in numbers and not isEmptyLayer(layer):
            raise InputError(
                f"the segments '{segmentation.GetSegment(ids[numbers[value] - 1]).GetName()}' and "
                f"'{segment.GetName()}' share the label value {value} in one layer, so they cannot "
                "be told apart: remove one of them."
            )
        numbers[value] = number
    return [
        Layer(layerArray(layer), layerGeometry(layer), numbers)
        for layer, numbers in found.items()
        if not isEmptyLayer(layer)
    ]


def onGrid(segmentation, ids: Sequence[str], volumeNode) -> bool:
    """True if the segments are not all empty and all their layers lie on the volume's grid."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    layers = {segmentation.GetSegment(i).GetRepresentation(name) for i in ids} - {None}
    drawn = [layerGeometry(layer) for layer in layers if not isEmptyLayer(layer)]
    grid = volumeGeometry(volumeNode)
    return bool(drawn) and all(GridMap.between(own, grid).whole() is not None for own in drawn)


def layerGeometry(layer) -> Geometry:
    """The grid of a vtkOrientedImageData, in LPS, from the first voxel of its extent."""
    matrix = vtk.vtkMatrix4x4()
    layer.GetImageToWorldMatrix(matrix)
    steps = slicer.util.arrayFromVTKMatrix(matrix)
    extent = layer.GetExtent()
    origin = (steps @ [extent[0], extent[2], extent[4], 1])[:3]
    spacing = np.linalg.norm(steps[:3, :3], axis=0)
    flip = np.array(FLIP)
    directions = flip[:, None] * steps[:3, :3] / spacing
    i, j, k = (extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in range(3))
    x, y, z = (float(mm) for mm in spacing)
    a, b, c = (float(mm) for mm in flip * origin)
    return Geometry((i, j, k), (x, y, z), (a, b, c), tuple(map(float, directions.ravel())))


def layerArray(layer) -> np.ndarray:
    """The labels of a vtkOrientedImageData that is not empty, (k, j, i), not copied."""
    i, j, k = layer.GetDimensions()
    return vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(k, j, i)


def isEmptyLayer(layer) -> bool:
    """True if a vtkOrientedImageData holds no voxels."""
    return layer.GetPointData().GetScalars() is None or layer.IsEmpty()


def _converted(segmentation, name: str, volumeNode):
    """A copy outside the scene with binary labelmaps, so that the user's node stays as it is."""
    copy = slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().DeepCopy(segmentation)
    copy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    if not copy.GetSegmentation().CreateRepresentation(name):
        raise InputError(
            "the segmentation cannot be converted to a binary labelmap: do it in "
            "the Segmentations module (Representations, Create)."
        )
    return copy.GetSegmentation()

"""Changes voxels of the segments of a node, each on the segment's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer.util
import vtk

from ..errors import InputError
from .layer_edit import Lattice, drawnVoxels, editedLayer, imageOf, latticeOf, resolves
from .segmentation_backup import representationNames


class VoxelEdit:
    """Changes voxels of a volume in a segmentation that may lie on other grids.

    On a finer grid those voxels change whose centres lie in one that is to be changed; a layer that
    is too coarse for that, or turned against the volume, is resampled (see `layer_edit`). Nothing
    else changes. Each call changes all layers, or none if one of them cannot be changed.

    Makes binary labelmaps the segmentation's source, as painting does.

    Args:
        segmentationNode: The segmentation.
        volumeNode: The volume.

    Raises:
        InputError: If the segments cannot be converted to binary labelmaps.
    """

    def __init__(self, segmentationNode, volumeNode):
        self._name = segmentationNode.GetName() or ""
        self._segmentation = segmentationNode.GetSegmentation()
        self._others = _labelmapsOnly(self._segmentation, volumeNode)
        world = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(world)
        self._world = slicer.util.arrayFromVTKMatrix(world)

    def numbersOf(self, segmentIds: Sequence[str | None]) -> np.ndarray:
        """The numbers by which the methods know segments, uint16, from 1 as they are listed.

        Args:
            segmentIds: Segment IDs; None, and one that is missing, has the number 0.
        """
        ids = list(self._segmentation.GetSegmentIDs())
        numbers = [ids.index(i) + 1 if i is not None and i in ids else 0 for i in segmentIds]
        return np.array(numbers, np.uint16)

    def draw(self, numbers: np.ndarray) -> None:
        """Draws segments over what is there: other segments are removed from the voxels.

        Args:
            numbers: Unsigned (k, j, i) on the volume's grid, see `numbersOf`; 0 changes nothing.
        """
        self._edit(numbers)

    def fill(self, numbers: np.ndarray) -> np.ndarray:
        """Draws segments in voxels in which nothing at all is drawn.

        Args:
            numbers: As for `draw`.

        Returns:
            As given, 0 where something was drawn already.
        """
        volume, wanted = self._wanted(numbers)
        if wanted is None:
            return numbers
        for layer in self._layers():
            if (lattice := latticeOf(layer)) is not None:
                wanted.values[drawnVoxels(lattice, wanted)] = 0
        self._edit(volume.values, dict.fromkeys(range(1, int(numbers.max()) + 1), 0))
        return volume.values

    def clear(self, numbers: np.ndarray) -> None:
        """Removes segments from voxels, each from those with its number alone.

        Args:
            numbers: As for `draw`.
        """
        self._edit(numbers, clear=True)

    def _wanted(self, numbers: np.ndarray) -> tuple[Lattice, Lattice | None]:
        """A copy of the numbers on the volume's grid, and a view of the box of those above 0."""
        volume = Lattice(numbers.copy(), np.zeros(3, int), self._world)
        box = volume.drawn()
        return volume, None if box is None else Lattice(volume.part(*box), box[0], volume.world)

    def _edit(
        self, numbers: np.ndarray, replaced: dict[int, int] | None = None, clear: bool = False
    ) -> None:
        volume, wanted = self._wanted(numbers)
        if wanted is not None:
            layers, edits = self._layers(), []
            spare = _spareGrid(layers, volume)
            for layer, values in layers.items():
                new = dict.fromkeys(values, 0) if clear else values
                old = values if clear else replaced
                edited = editedLayer(layer, new, wanted, volume, spare, self._name, old)
                if edited is not None:
                    edits.append((layer, edited))
            # Only now, when none can be refused any more.
            for layer, edited in edits:
                layer.DeepCopy(imageOf(edited))
        for name in self._others:
            self._segmentation.CreateRepresentation(name, True)

    def _layers(self) -> dict:
        """The layers, each with its label values by segment number (the n-th ID has number n)."""
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        layers: dict = {}
        for number, segmentId in enumerate(self._segmentation.GetSegmentIDs(), start=1):
            segment = self._segmentation.GetSegment(segmentId)
            values = layers.setdefault(segment.GetRepresentation(name), {})
            values[number] = segment.GetLabelValue()
        return layers


def _labelmapsOnly(segmentation, volumeNode) -> list[str]:
    """Makes binary labelmaps the segmentation's source, as painting does.

    Returns:
        Names of the other representations, which are to be made from it again.

    Raises:
        InputError: If they cannot be made from the present source.
    """
    converter = slicer.vtkSegmentationConverter
    name = converter.GetSegmentationBinaryLabelmapRepresentationName()
    others = [other for other in representationNames(segmentation) if other != name]
    if segmentation.GetSourceRepresentationName() != name:
        if not segmentation.ContainsRepresentation(name):
            key = converter.GetReferenceImageGeometryParameterName()
            before = segmentation.GetConversionParameter(key)
            matrix = vtk.vtkMatrix4x4()
            volumeNode.GetIJKToRASMatrix(matrix)
            grid = converter.SerializeImageGeometry(matrix, volumeNode.GetImageData())
            segmentation.SetConversionParameter(key, grid)
            made = segmentation.CreateRepresentation(name)
            segmentation.SetConversionParameter(key, before)
            if not made:
                raise InputError(
                    "the annotation cannot be converted to a binary labelmap: do it in the "
                    "Segmentations module (Representations, Create)."
                )
        segmentation.SetSourceRepresentationName(name)
    for segmentId in segmentation.GetSegmentIDs():
        if segmentation.GetSegment(segmentId).GetRepresentation(name) is None:
            segmentation.GetSegment(segmentId).AddRepresentation(
                name, slicer.vtkOrientedImageData()
            )
    return others


def _spareGrid(layers: dict, volume: Lattice) -> np.ndarray:
    """The grid for empty segments: that of what is drawn, or else the volume's."""
    for layer in layers:
        lattice = latticeOf(layer)
        if lattice is not None and resolves(lattice, volume):
            return lattice.world
    return volume.world

"""Label arrays of MRML segmentation nodes on a volume's grid; the nodes are never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk

from ..annotation.carry import carry
from ..annotation.composition import MAX_SEGMENTS
from ..annotation.drawn import BACKGROUND_DRAWN, Drawing, is_background
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layers import Layer, Overlaps, merge_layers, overlaps_of
from ..annotation.overlap import overlap_note, painting_order
from ..annotation.segments import Segment, usable_color
from ..errors import InputError
from ..steps import Overtaken, Steps, finished
from .layers import copiedLayers, layersInSteps, layersOf, onGrid
from .volumes import refuseOthers, refuseTransformed, volumeGeometry

KnownLayers = Callable[..., list[Layer] | None] | None


@dataclass
class Drawn:
    """The content of a segmentation node.

    Attributes:
        drawings: What is drawn, one item per grid; numbers count `segments` from 1.
        segments: The segments, without Background.
        warnings: Warnings for the user.
    """

    drawings: list[Drawing]
    segments: list[Segment]
    warnings: list[str]


@dataclass
class Layers:
    """The segments of a segmentation node, and its layers, of which nothing is in the scene.

    Attributes:
        name: The node's name.
        names: The segments' names in the order of `orderedSegments`.
        segments: The segments, without Background.
        behind: The numbers (from 1) of Background segments.
        layers: The layers, in numbers of `names`.
        grid: The grid of the volume.
    """

    name: str
    names: list[str]
    segments: list[Segment]
    behind: list[int]
    layers: list[Layer]
    grid: Geometry

    def drawn(self) -> Drawn:
        """Merges the layers, on the grids that they were drawn on; in any thread."""
        overlaps = overlaps_of(self.layers, len(self.names))
        order = painting_order(self.names, overlaps.sizes, overlaps.shared)
        merged = merge_layers(self.layers, order, self.grid)
        # Labels 1..K for the real segments, in their order.
        real = [n for n in range(1, len(self.names) + 1) if n not in self.behind]
        table = np.zeros(len(self.names) + 1, np.uint16)
        table[real] = np.arange(1, len(real) + 1)
        table[self.behind] = BACKGROUND_DRAWN
        note = overlap_note(self.names, overlaps.sizes, overlaps.shared)
        return Drawn(
            [Drawing(_looked_up(table, part.numbers), part.geometry) for part in merged],
            self.segments,
            [] if note is None else [note],
        )


def _looked_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`table[numbers]`; several times faster, since no number is beyond the table."""
    found = np.empty(numbers.shape, table.dtype)
    return np.take(table, numbers, out=found, mode="clip")


def drawnSegments(segmentationNode, volumeNode) -> Drawn:
    """Reads the content of a segmentation node at once, see `readLayers`."""
    return finished(readLayers(segmentationNode, volumeNode)).drawn()


def readLayers(segmentationNode, volumeNode, known: KnownLayers = None) -> Steps[Layers]:
    """Reads the content of a segmentation node in steps.

    Args:
        segmentationNode: The segmentation, or None.
        volumeNode: The volume; layers that have its voxels are read on its grid.
        known: Returns the layers, given node, volume and segment IDs, if they were read already,
            else None.

    Returns:
        Segments and layers.

    Raises:
        InputError: If there is no node, or it has no segments, more than 254, or only Background,
            or if a node is under a transform or cannot be used otherwise.
    """
    if segmentationNode is None:
        raise InputError("no segmentation is chosen: choose or create one.")
    refuseOthers(
        segmentationNode, "segmentation", "vtkMRMLSegmentationNode", "choose or create one"
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
    behind = [n for n, i in enumerate(ids, start=1) if isBackground(segmentation, i)]
    real = [n for n in range(1, len(ids) + 1) if n not in behind]
    if len(real) > MAX_SEGMENTS:
        raise InputError(
            f"the segmentation '{segmentationNode.GetName()}' has {len(real)} "
            f"segments: at most {MAX_SEGMENTS} can be used. Remove some, or move "
            "them to another segmentation."
        )
    if not real:
        raise InputError(
            f"the segmentation '{segmentationNode.GetName()}' has only a Background "
            "segment: add one for the structure."
        )
    layers = None if known is None else known(segmentationNode, volumeNode, ids)
    if layers is None:
        try:
            layers = yield from copiedLayers(layersInSteps(segmentation, ids, volumeNode))
        except Overtaken:
            layers = finished(copiedLayers(layersInSteps(segmentation, ids, volumeNode)))
    segments = [
        _described(segmentation.GetSegment(ids[n - 1]), ids[n - 1], place)
        for place, n in enumerate(real, start=1)
    ]
    names = [_nameOf(segmentation, i) for i in ids]
    grid = volumeGeometry(volumeNode)
    return Layers(segmentationNode.GetName() or "", names, segments, behind, layers, grid)


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
    """Segment IDs in the order in which they are numbered: Background first, then as listed."""
    ids = list(segmentation.GetSegmentIDs())
    return sorted(ids, key=lambda i: not isBackground(segmentation, i))


def segmentsOf(segmentation) -> list[Segment]:
    """The segments of a vtkSegmentation in order, without Background."""
    ids = [i for i in segmentation.GetSegmentIDs() if not isBackground(segmentation, i)]
    return [_described(segmentation.GetSegment(i), i, n) for n, i in enumerate(ids, start=1)]


def _nameOf(segmentation, segmentId: str) -> str:
    return segmentation.GetSegment(segmentId).GetName() or segmentId


def mergedSegments(segmentation, ids: list[str], volumeNode) -> np.ndarray:
    """Merges segments into one label array on the volume's grid.

    Args:
        segmentation: The vtkSegmentation.
        ids: Segment IDs; see `painting_order` for segments that overlap.
        volumeNode: The volume whose grid is used; voxels of another grid are carried as `carry`
            does.

    Returns:
        uint8 (k, j, i): n where the n-th of `ids` covers, 0 where none does.

    Raises:
        InputError: If the segments cannot be read, or are more than a label array can
            distinguish.
    """
    refuseTooMany(ids)
    layers, _overlaps, order = layersOnGrid(segmentation, ids, volumeNode)
    return mergedLayers(layers, order, volumeGeometry(volumeNode))


def layersOnGrid(
    segmentation, ids: list[str], volumeNode
) -> tuple[list[Layer], Overlaps, list[int]]:
    """The layers of segments, the voxels that these share, and the order of painting.

    Raises:
        InputError: See `layersOf`.
    """
    layers = layersOf(segmentation, ids, volumeNode)
    overlaps = overlaps_of(layers, len(ids))
    return layers, overlaps, paintingOrder(segmentation, ids, overlaps)


def refuseTooMany(ids: list[str]) -> None:
    """Raises InputError if segments are more than a label array can distinguish."""
    if len(ids) > MAX_SEGMENTS + 1:
        raise InputError(
            f"the segmentation has {len(ids)} segments: at most {MAX_SEGMENTS} and "
            "one called Background can be used. Remove some, or move them to another "
            "segmentation."
        )


def paintingOrder(segmentation, ids: list[str], overlaps: Overlaps) -> list[int]:
    """The order in which segments are laid over each other, see `painting_order`."""
    names = [_nameOf(segmentation, i) for i in ids]
    return painting_order(names, overlaps.sizes, overlaps.shared)


def mergedLayers(layers: Sequence[Layer], order: Sequence[int], grid: Geometry) -> np.ndarray:
    """Layers merged on a volume's grid, uint8 (k, j, i), see `mergedSegments`."""
    parts = [
        carry(part.numbers, GridMap.between(part.geometry, grid), 0)
        if part.geometry != grid
        else part.numbers
        for part in merge_layers(layers, order, grid)
    ]
    found = parts[0] if parts else np.zeros(grid.shape, np.uint8)
    for part in parts[1:]:
        np.copyto(found, part, where=part > 0)
    return found.astype(np.uint8, copy=False)


def _described(segment, segmentId: str, place: int) -> Segment:
    tag = segment.GetTerminologyEntryTagName()
    terminology = vtk.reference("")
    tags = {tag: str(terminology)} if segment.GetTag(tag, terminology) else {}
    name = segment.GetName() or segmentId
    color = usable_color(segment.GetColor(), place - 1)
    return Segment(segmentId, name, color, place, tags)

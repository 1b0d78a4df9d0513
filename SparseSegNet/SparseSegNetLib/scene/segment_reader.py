"""Reads the segments of a node again and again, of a large one only what changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..annotation.layer_memory import Box, LayerMemory
from ..annotation.layers import Layer, overlaps_of
from ..annotation.pieces import PIECE
from ..errors import InputError
from ..steps import Steps
from .layers import copiedLayers, layersInSteps, layersOf
from .segmentations import mergedLayers, paintingOrder, refuseTooMany
from .volumes import volumeGeometry

MUCH = 2 * PIECE  # voxels that are read again at once


@dataclass
class Reread:
    """A part of a label array that was read again.

    Attributes:
        box: Its place (k, j, i); of size 0 if nothing changed.
        labels: uint8 of the box's shape, as they are now.
    """

    box: Box
    labels: np.ndarray


class SegmentReader:
    """Label arrays of a segmentation on a volume's grid, as `mergedSegments` makes them.

    It reads in steps (see `steps`). Nothing of the scene is held from one step to the next.
    """

    def __init__(self):
        self._memory: LayerMemory | None = None
        self._ids: list[str] = []
        self._order: list[int] = []

    def reading(self, segmentation, ids: list[str], volumeNode) -> Steps[np.ndarray]:
        """Reads all segments, see `mergedSegments`."""
        self._memory = None
        refuseTooMany(ids)
        grid = volumeGeometry(volumeNode)
        layers = yield from copiedLayers(layersInSteps(segmentation, ids, volumeNode))
        overlaps = yield partial(overlaps_of, layers, len(ids))
        order = paintingOrder(segmentation, ids, overlaps)

        def merged() -> tuple[np.ndarray, LayerMemory]:
            return mergedLayers(layers, order, grid), LayerMemory(layers, overlaps, grid)

        labels, memory = yield merged
        self._ids, self._order, self._memory = list(ids), order, memory
        return labels

    def forget(self) -> None:
        """Has everything read the next time."""
        self._memory = None

    def lend(self, ids: list[str]) -> list[Layer] | None:
        """The layers of these segments as they were read last, see `LayerMemory.lend`."""
        return None if self._memory is None or ids != self._ids else self._memory.lend()

    def comparing(self, segmentation, ids: list[str], volumeNode) -> Steps[Box | None]:
        """Finds what changed since the last call of `reading` or `reread`.

        Returns:
            Its place (k, j, i), of size 0 if nothing changed; None if everything must be read,
            since segments or layers are others, or much has changed.
        """
        memory = self._memory
        try:
            if memory is None or ids != self._ids or memory.geometry != volumeGeometry(volumeNode):
                return None
            box = yield from memory.comparing(layersInSteps(segmentation, ids, volumeNode))
        except InputError:
            return None  # which `reading` explains
        return None if box is None or math.prod(s.stop - s.start for s in box) > MUCH else box

    def reread(self, segmentation, ids: list[str], volumeNode, box: Box) -> Reread | None:
        """Reads what changed.

        Args:
            segmentation: The vtkSegmentation.
            ids: Segment IDs.
            volumeNode: The volume.
            box: As `comparing` gave it; nothing has changed since.

        Returns:
            The part that changed; None if everything must be read, since layers overlap for the
            first time or are laid over each other in another order.
        """
        memory = self._memory
        assert memory is not None
        overlaps = memory.update(layersOf(segmentation, ids, volumeNode), box)
        if overlaps is None or paintingOrder(segmentation, ids, overlaps) != self._order:
            self._memory = None  # it holds what the labels do not
            return None
        return Reread(box, memory.merged(self._order, box))

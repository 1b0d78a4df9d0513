"""Reads the segments of a node again and again, of a large one only what changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..annotation.layer_memory import Box, LayerMemory
from ..errors import InputError
from .layers import layersOf
from .segmentations import layersOnGrid, mergedLayers, paintingOrder, refuseTooMany
from .volumes import volumeGeometry


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
    """Label arrays of a segmentation on a volume's grid, as `mergedSegments` makes them."""

    def __init__(self):
        self._memory: LayerMemory | None = None
        self._ids: list[str] = []
        self._order: list[int] = []

    def read(self, segmentation, ids: list[str], volumeNode) -> np.ndarray:
        """Reads all segments, see `mergedSegments`."""
        self._memory = None
        refuseTooMany(ids)
        grid = volumeGeometry(volumeNode)
        layers, overlaps, order = layersOnGrid(segmentation, ids, volumeNode)
        labels = mergedLayers(layers, order, grid)
        self._ids, self._order = list(ids), order
        self._memory = LayerMemory(layers, overlaps, grid)
        return labels

    def forget(self) -> None:
        """Has everything read the next time."""
        self._memory = None

    def reread(self, segmentation, ids: list[str], volumeNode) -> Reread | None:
        """Reads what changed since the last call of this or of `read`.

        Returns:
            The part that changed; None if everything must be read, since segments, layers or the
            order in which they are laid over each other are others.
        """
        memory = self._memory
        try:
            if memory is None or ids != self._ids or memory.geometry != volumeGeometry(volumeNode):
                return None
            layers = layersOf(segmentation, ids, volumeNode)
        except InputError:
            return None  # which `read` explains
        box = memory.changed(layers)
        if box is None:
            return None
        overlaps = memory.update(layers, box)
        if overlaps is None or paintingOrder(segmentation, ids, overlaps) != self._order:
            return None
        return Reread(box, memory.merged(self._order, box))

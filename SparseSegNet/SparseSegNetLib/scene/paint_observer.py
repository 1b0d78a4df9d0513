"""Detection of painting: observes a segmentation node and compares its label arrays."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from ..annotation.carry import carry, carry_slices
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.slices import AnnotatedSlice
from ..annotation.strokes import box_of, painted_slices
from ..errors import InputError
from .layers import layersOf
from .node_reference import NodeReference
from .segment_reader import Reread, SegmentReader
from .segmentations import isBackground, mergedSegments, orderedSegments
from .volumes import volumeGeometry

COARSER = 1.5  # voxels of the volume along one of the segmentation's

_watches: weakref.WeakSet[PaintObserver] = weakref.WeakSet()


@dataclass
class Change:
    """The change between two calls of `PaintObserver.look`, cropped to its bounding box.

    Attributes:
        offset: First voxel (k, j, i) of the box.
        changed: Boolean (k, j, i) of the box, all voxels that changed.
        added: Boolean (k, j, i) of the box, changed voxels that a segment other than Background
            covers now.
    """

    offset: tuple[int, int, int]
    changed: np.ndarray
    added: np.ndarray

    def without(self, voxels: np.ndarray, shape: tuple[int, int, int]) -> Change | None:
        """The change without some voxels; None when there are no others.

        Args:
            voxels: Flat indices into an array (k, j, i) of the volume's shape.
            shape: The volume's shape.
        """
        if not voxels.size:
            return self
        place = np.stack(np.unravel_index(voxels, shape), axis=1) - self.offset
        place = place[((place >= 0) & (place < self.changed.shape)).all(axis=1)]
        left = self.changed.copy()
        left[tuple(place.T)] = False
        box = box_of(left)
        if box is None:
            return None
        k, j, i = (s.start + o for s, o in zip(box, self.offset, strict=True))
        return Change((k, j, i), left[box], (self.added & left)[box])


class PaintObserver:
    """The labels of a segmentation on a volume's grid, and their changes between calls of `look`.

    Args:
        segmentationNode: The segmentation that is observed.
        volumeNode: The volume whose grid is used.

    Attributes:
        ids: Segment IDs as of the last call of `look`.
        labels: uint8 (k, j, i), n where the n-th of `ids` covers, as of the last call of `look`,
            which changes it in place.
        reordered: True if segments were added, removed or moved before the last call of `look`.

    Raises:
        InputError: If the segments cannot be read on the volume's grid.
    """

    def __init__(self, segmentationNode, volumeNode):
        self._node, self._volume = NodeReference(segmentationNode, "segmentation"), volumeNode
        self.ids: list[str] = []
        self.labels = np.zeros(0, np.uint8)
        self._dirtySince: float | None = None
        self._reader = SegmentReader()
        self.reordered = False
        self._observe(segmentationNode.GetSegmentation())
        try:
            self._read()
        except InputError:
            self.close()
            raise
        _watches.add(self)

    def _observe(self, segmentation) -> None:
        self._segmentation = segmentation
        self._tags = [
            segmentation.AddObserver(event, self._onEvent)
            for event in (
                slicer.vtkSegmentation.SourceRepresentationModified,
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
                slicer.vtkSegmentation.SegmentsOrderModified,
            )
        ]

    def close(self) -> None:
        """Stops observing."""
        self._release()
        _watches.discard(self)

    def _release(self) -> None:
        for tag in self._tags:
            self._segmentation.RemoveObserver(tag)
        self._tags = []

    @property
    def dirtySince(self) -> float | None:
        """Time (time.monotonic()) of the newest change, None without one since the last `look`."""
        self._followNode()
        return self._dirtySince

    def _followNode(self) -> None:
        """Observes the node's present segmentation: a node may be given another one."""
        if not self._tags or not self._node.alive:
            return
        now = self._node.get().GetSegmentation()
        if now is not None and now is not self._segmentation:
            self._release()
            self._observe(now)
            self._dirtySince = time.monotonic()

    def watches(self, segmentationNode) -> bool:
        """True if this node is the one that is observed."""
        return bool(self._tags) and self._node.alive and self._node.get() is segmentationNode

    def background(self) -> np.ndarray:
        """Boolean mask over the numbers of `labels`, from 0: True for Background segments."""
        return np.array([False] + [isBackground(self._segmentation, i) for i in self.ids])

    def look(self) -> Change | None:
        """Reads the labels as they are now; returns their change, None without one."""
        self._followNode()
        before, old, grid = self.labels, self.ids, self._grid
        ids = orderedSegments(self._segmentation)
        part = self._reader.reread(self._segmentation, ids, self._volume)
        if part is not None:
            return self._takePart(part)
        self._read()
        self.reordered = old != self.ids
        before = self._renumbered(before, old)
        if not _same(grid, self._grid):
            return None  # the same voxels at other places are no painting
        different = before != self.labels
        return self._changeOf(different, self.labels, (0, 0, 0))

    def _takePart(self, part: Reread) -> Change | None:
        self._dirtySince, self.reordered = None, False
        different = self.labels[part.box] != part.labels
        self.labels[part.box] = part.labels
        k, j, i = (s.start for s in part.box)
        return self._changeOf(different, part.labels, (k, j, i))

    def _changeOf(
        self, different: np.ndarray, labels: np.ndarray, offset: tuple[int, int, int]
    ) -> Change | None:
        """The change of a part of the labels, whose first voxel is `offset`."""
        box = box_of(different)
        if box is None:
            return None
        drawn = ~self.background()
        drawn[0] = False
        changed = different[box]
        k, j, i = (s.start + o for s, o in zip(box, offset, strict=True))
        return Change((k, j, i), changed, changed & drawn[labels[box]])

    def takeIn(self, before: np.ndarray, ids: list[str], dirtySince: float | None) -> None:
        """Accepts the changes since `before` as not painted: the next `look` does not report them.

        Earlier changes that `look` has not read yet are still reported.

        Args:
            before: uint8 (k, j, i), the labels before, n where the n-th of `ids` covered.
            ids: Segment IDs before.
            dirtySince: The value of `dirtySince` before.
        """
        seen, old, grid = self.labels, self.ids, self._grid
        self._followNode()
        self._read()
        if _same(grid, self._grid) and before.shape == seen.shape:
            seen, before = self._renumbered(seen, old), self._renumbered(before, ids)
            self.labels = np.where(before != self.labels, self.labels, seen)
            self._reader.forget()  # what it has read is not all in these labels
        self._dirtySince = dirtySince

    def drawn(self) -> tuple[np.ndarray, list[str]]:
        """The labels, uint8 (k, j, i), and segment IDs as they are in the node now."""
        self._followNode()
        ids = orderedSegments(self._segmentation)
        return mergedSegments(self._segmentation, ids, self._volume), ids

    def planesOfCoarserGrid(self, change: Change) -> list[AnnotatedSlice] | None:
        """The slices of a stroke in a segmentation whose voxels hold several of the volume's.

        Args:
            change: The change as `look` returned it, or a part of it.

        Returns:
            The slices on the volume's grid; None if the segmentation has no such grid, or the
            stroke is no flat one there either.
        """
        own = self._coarserGrid()
        if own is None:
            return None
        changed = np.zeros(self.labels.shape, np.uint8)
        ends = zip(change.offset, change.changed.shape, strict=True)
        changed[tuple(slice(start, start + n) for start, n in ends)] = change.changed
        grid = volumeGeometry(self._volume)
        drawn = carry(changed, GridMap.between(grid, own), 0) > 0
        box = box_of(drawn)
        if box is None:
            return None
        k, j, i = (each.start for each in box)
        planes = painted_slices(drawn[box], (k, j, i))
        return carry_slices(planes, GridMap.between(own, grid)) if planes else None

    def _coarserGrid(self) -> Geometry | None:
        """The grid of the first layer that is coarser than the volume along an axis, or None."""
        grid = volumeGeometry(self._volume)
        for layer in layersOf(self._segmentation, self.ids, self._volume):
            steps = GridMap.between(layer.geometry, grid)
            if steps.order() is not None and np.abs(steps.matrix).max() > COARSER:
                return layer.geometry
        return None

    def _renumbered(self, labels: np.ndarray, ids: list[str]) -> np.ndarray:
        """Labels renumbered to the present segments.

        A segment that was added, removed or moved is not painting.
        """
        if ids == self.ids:
            return labels
        table = np.zeros(len(ids) + 1, np.uint8)
        for number, segmentId in enumerate(ids, start=1):
            if segmentId in self.ids:
                table[number] = self.ids.index(segmentId) + 1
        return table[labels]

    def _read(self) -> None:
        self._dirtySince = None
        self._grid = _gridOf(self._volume)
        ids = orderedSegments(self._segmentation)
        self.labels = self._reader.read(self._segmentation, ids, self._volume)
        self.ids = ids

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onEvent(self, caller, event, segmentId=None) -> None:
        self._dirtySince = time.monotonic()


def _gridOf(volumeNode) -> Geometry | None:
    try:
        return volumeGeometry(volumeNode)
    except InputError:  # it was put under a transform, say: no change of labels to report
        return None


def _same(one: Geometry | None, other: Geometry | None) -> bool:
    return one is not None and other is not None and one.difference(other) is None


@contextmanager
def ownWrites(segmentationNode) -> Iterator[None]:
    """Context in which changes of the segmentation are not reported as painting.

    For writes by the program. What the user painted just before is still reported.

    Args:
        segmentationNode: The segmentation that is written to.
    """
    watching = [w for w in list(_watches) if w.watches(segmentationNode)]
    before = [(*w.drawn(), w.dirtySince) for w in watching]
    try:
        yield
    finally:
        for watch, was in zip(watching, before, strict=True):
            watch.takeIn(*was)

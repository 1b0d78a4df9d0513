"""Detection of painting: observes a segmentation node and compares its label arrays."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import slicer
import vtk

from ..annotation.carry import carry, carry_slices
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layer_memory import Box
from ..annotation.layers import Layer
from ..annotation.lent import Lent
from ..annotation.slices import AnnotatedSlice
from ..annotation.strokes import box_of, painted_slices
from ..errors import InputError
from ..steps import Steps, finished, unless
from .layers import layersOf
from .node_reference import NodeReference
from .paint_change import Change
from .segment_reader import Reread, SegmentReader
from .segmentations import isBackground, mergedSegments, orderedSegments
from .volumes import volumeGeometry

COARSER = 1.5  # voxels of the volume along one of the segmentation's

_watches: weakref.WeakSet[PaintObserver] = weakref.WeakSet()


class PaintObserver:
    """The labels of a segmentation on a volume's grid, and their changes between calls of `look`.

    Args:
        segmentationNode: The segmentation that is observed.
        volumeNode: The volume whose grid is used.

    Attributes:
        ids: Segment IDs as of the last call of `look`.
        labels: uint8 (k, j, i), n where the n-th of `ids` covers, as of the last call of `look`,
            which changes it in place unless it was lent.
        version: A number that rises with each change, and when it was read.
        count: Number of voxels that are not zero in `labels`.
        reordered: True if segments were added, removed or moved before the last call of `look`.

    Raises:
        InputError: If the segments cannot be read on the volume's grid.
    """

    def __init__(self, segmentationNode, volumeNode):
        self._node, self._volume = NodeReference(segmentationNode, "segmentation"), volumeNode
        self.ids: list[str] = []
        self.labels = np.zeros(0, np.uint8)
        self.count = 0
        self._dirtySince: float | None = None
        self.version = 0
        self._lent = Lent()
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
            self.version += 1

    def watches(self, segmentationNode) -> bool:
        """True if this node is the one that is observed."""
        return bool(self._tags) and self._node.alive and self._node.get() is segmentationNode

    def observes(self, segmentationNode, volumeNode) -> bool:
        """True if it watches this node on the grid of this volume."""
        return self._volume is volumeNode and self.watches(segmentationNode)

    def background(self) -> np.ndarray:
        """Boolean mask over the numbers of `labels`, from 0: True for Background segments."""
        return np.array([False] + [isBackground(self._segmentation, i) for i in self.ids])

    def look(self) -> Change | None:
        """Reads the labels as they are now; returns their change, None without one."""
        return finished(self.looking())

    def looking(self) -> Steps[Change | None]:
        """Reads the labels in steps, as `look` does at once.

        Before the last step nothing is known of a change.

        Raises:
            Overtaken: The segmentation was changed, or read otherwise, between two steps.
        """
        self._followNode()
        begun = self.version
        return unless(lambda: self.version != begun, self._looking())

    def _looking(self) -> Steps[Change | None]:
        ids = orderedSegments(self._segmentation)
        source = self._segmentation, ids, self._volume
        box = yield from self._reader.comparing(*source)
        if box is not None:
            if self._lent.holds(self.labels):
                self.labels = yield self.labels.copy
            part = self._reader.reread(*source, box)
            if part is not None:
                return self._takePart(part)
        before, old, grid, now = self.labels, self.ids, self._grid, _gridOf(self._volume)
        labels = yield from self._reader.reading(*source)

        def compared() -> tuple[np.ndarray, Box | None, int]:
            drawn = int(np.count_nonzero(labels))
            if not _same(grid, now):  # the same voxels at other places are no painting
                return np.zeros((0, 0, 0), bool), None, drawn
            different = _renumbered(before, old, ids) != labels
            return different, box_of(different), drawn

        different, box, drawn = yield compared
        self._take(labels, ids, now, drawn)
        self.reordered = old != ids
        return None if box is None else self._changeOf(different[box], labels[box], box)

    def lend(self) -> list[Layer] | None:
        """The layers as they were read last, None if they have changed since.

        See `LayerMemory.lend`.
        """
        if self.dirtySince is not None:
            return None
        return self._reader.lend(self.ids)

    def lendLabels(self) -> np.ndarray:
        """The labels as of the last call of `look`, which do not change while they are held."""
        return self._lent.view(self.labels)

    def _takePart(self, part: Reread) -> Change | None:
        old = self.labels[part.box]
        different = old != part.labels
        box = box_of(different)
        drawn = self.count + int(np.count_nonzero(part.labels)) - int(np.count_nonzero(old))
        if self._lent.holds(self.labels):
            self.labels = self.labels.copy()
        self.labels[part.box] = part.labels
        self._take(self.labels, self.ids, self._grid, drawn)
        self.reordered = False
        if box is None:
            return None
        k, j, i = (
            slice(b.start + p.start, b.stop + p.start) for b, p in zip(box, part.box, strict=True)
        )
        return self._changeOf(different[box], part.labels[box], (k, j, i))

    def _take(self, labels: np.ndarray, ids: list[str], grid: Geometry | None, drawn: int) -> None:
        """Accepts labels that were just read; what else reads them begins again."""
        self.labels, self.ids, self._grid, self.count = labels, ids, grid, drawn
        self.version += 1
        self._dirtySince = None

    def _changeOf(self, changed: np.ndarray, labels: np.ndarray, box: Box) -> Change:
        """The change in a box, with the labels there."""
        drawn = ~self.background()
        drawn[0] = False
        k, j, i = (s.start for s in box)
        return Change((k, j, i), changed, changed & drawn[labels])

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
            seen, before = _renumbered(seen, old, self.ids), _renumbered(before, ids, self.ids)
            self.labels = np.where(before != self.labels, self.labels, seen)
            self.count = int(np.count_nonzero(self.labels))
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

    def _read(self) -> None:
        ids, grid = orderedSegments(self._segmentation), _gridOf(self._volume)
        labels = finished(self._reader.reading(self._segmentation, ids, self._volume))
        self._take(labels, ids, grid, int(np.count_nonzero(labels)))

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onEvent(self, caller, event, segmentId=None) -> None:
        self._dirtySince = time.monotonic()
        self.version += 1


def _renumbered(labels: np.ndarray, ids: list[str], now: list[str]) -> np.ndarray:
    """Labels of segments renumbered to the present ones.

    A segment that was added, removed or moved is not painting.
    """
    if ids == now:
        return labels
    table = np.zeros(len(ids) + 1, np.uint8)
    for number, segmentId in enumerate(ids, start=1):
        if segmentId in now:
            table[number] = now.index(segmentId) + 1
    return table[labels]


def _gridOf(volumeNode) -> Geometry | None:
    try:
        return volumeGeometry(volumeNode)
    except InputError:  # it was put under a transform, say: no change of labels to report
        return None


def _same(one: Geometry | None, other: Geometry | None) -> bool:
    return one is not None and other is not None and one.difference(other) is None


def lentLayers(segmentationNode, volumeNode, ids: list[str]) -> list[Layer] | None:
    """The layers that a session has read already, see `PaintObserver.lend`; None without one."""
    for watch in list(_watches):
        if watch.observes(segmentationNode, volumeNode) and watch.ids == ids:
            return watch.lend()
    return None


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

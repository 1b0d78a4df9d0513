"""Notices what is painted: observes a segmentation node and compares what was drawn."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from ..annotation.strokes import box_of
from ..errors import InputError
from .node_reference import NodeReference
from .segmentations import isBackground, mergedSegments, orderedSegments

_watches: weakref.WeakSet[PaintObserver] = weakref.WeakSet()


@dataclass
class Change:
    """What changed between two looks, cut to the smallest box that holds it.

    offset: where the box begins (k, j, i).  changed, added: boolean (k, j, i) of the box, all
    voxels that changed and those that a segment (other than Background) covers now.
    """

    offset: tuple[int, int, int]
    changed: np.ndarray
    added: np.ndarray


class PaintObserver:
    """What a segmentation covers on a volume's grid, and what changed since the last look.

    ids, labels: the segments' IDs, and uint8 (k, j, i), n where the n-th covers; as of the last
    look.  reordered: whether segments came, went or moved before the last look.
    dirtySince: when the newest change was noticed (time.monotonic()), None when there was none
    since the last look.
    """

    def __init__(self, segmentationNode, volumeNode):
        self._node, self._volume = NodeReference(segmentationNode, "segmentation"), volumeNode
        self.ids: list[str] = []
        self.labels = np.zeros(0, np.uint8)
        self._dirtySince: float | None = None
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
        """Observe no longer."""
        self._release()
        _watches.discard(self)

    def _release(self) -> None:
        for tag in self._tags:
            self._segmentation.RemoveObserver(tag)
        self._tags = []

    @property
    def dirtySince(self) -> float | None:
        self._followNode()
        return self._dirtySince

    def _followNode(self) -> None:
        """Observe the segmentation that the node has now: a node may be given another one."""
        if not self._tags or not self._node.alive:
            return
        now = self._node.get().GetSegmentation()
        if now is not None and now is not self._segmentation:
            self._release()
            self._observe(now)
            self._dirtySince = time.monotonic()

    def watches(self, segmentationNode) -> bool:
        """Whether it is this node that is observed."""
        return bool(self._tags) and self._node.alive and self._node.get() is segmentationNode

    def background(self) -> np.ndarray:
        """Which numbers of `labels` are Background segments: boolean, one per number from 0."""
        return np.array([False] + [isBackground(self._segmentation, i) for i in self.ids])

    def look(self) -> Change | None:
        """Read what is drawn now. None when nothing changed."""
        self._followNode()
        before, old = self.labels, self.ids
        self._read()
        self.reordered = old != self.ids
        before = self._renumbered(before, old)
        if before.shape != self.labels.shape:
            return None
        different = before != self.labels
        box = box_of(different)
        if box is None:
            return None
        drawn = ~self.background()
        drawn[0] = False
        changed = different[box]
        return Change(tuple(s.start for s in box), changed, changed & drawn[self.labels[box]])

    def takeIn(self, before: np.ndarray, ids: list[str], dirtySince: float | None) -> None:
        """What changed since `before` was not painted: it is not reported by the next look. What
        had changed earlier and was not looked at yet is.

        before: uint8 (k, j, i), what was drawn then, n where the n-th of `ids` covered.
        dirtySince: as it was then.
        """
        seen, old = self.labels, self.ids
        self._followNode()
        self._read()
        if seen.shape == before.shape == self.labels.shape:
            seen, before = self._renumbered(seen, old), self._renumbered(before, ids)
            self.labels = np.where(before != self.labels, self.labels, seen)
        self._dirtySince = dirtySince

    def drawn(self) -> tuple[np.ndarray, list[str]]:
        """What is drawn now, whether it was looked at or not: labels and IDs."""
        self._followNode()
        ids = orderedSegments(self._segmentation)
        return mergedSegments(self._segmentation, ids, self._volume), ids

    def _renumbered(self, labels: np.ndarray, ids: list[str]) -> np.ndarray:
        """Labels by the numbers that segments have now: a segment that came, went or moved is
        not painting."""
        if ids == self.ids:
            return labels
        table = np.zeros(len(ids) + 1, np.uint8)
        for number, segmentId in enumerate(ids, start=1):
            if segmentId in self.ids:
                table[number] = self.ids.index(segmentId) + 1
        return table[labels]

    def _read(self) -> None:
        self._dirtySince = None
        self.labels, self.ids = self.drawn()

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onEvent(self, caller, event, segmentId=None) -> None:
        self._dirtySince = time.monotonic()


@contextmanager
def ownWrites(segmentationNode) -> Iterator[None]:
    """What is written into the segmentation inside this context was not painted by the user: no
    watch of it reports that as painting. What the user has painted just before is reported."""
    watching = [w for w in list(_watches) if w.watches(segmentationNode)]
    before = [(*w.drawn(), w.dirtySince) for w in watching]
    try:
        yield
    finally:
        for watch, was in zip(watching, before, strict=True):
            watch.takeIn(*was)

"""Notices what is painted: observes a segmentation node and compares what was drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from ..annotation.strokes import box_of
from .segmentations import isBackground, mergedSegments


@dataclass
class Change:
    """What changed between two looks, cut to the smallest box that holds it.

    offset: where the box begins (k, j, i).  changed, added: boolean (k, j, i) of the box, all
    voxels that changed and those that a segment (other than Background) covers now.
    """

    offset: tuple[int, int, int]
    changed: np.ndarray
    added: np.ndarray


class DrawnWatch:
    """What a segmentation covers on a volume's grid, and what changed since the last look.

    ids, labels: the segments' IDs, and uint8 (k, j, i), n where the n-th covers; as of the last
    look.  reordered: whether segments came, went or moved before the last look.
    dirtySince: when the newest change was noticed (time.monotonic()), None when there was none
    since the last look.
    """

    def __init__(self, segmentationNode, volumeNode):
        self._volume = volumeNode
        self.ids: list[str] = []
        self.labels = np.zeros(0, np.uint8)
        self.dirtySince: float | None = None
        self.reordered = False
        self._segmentation = segmentationNode.GetSegmentation()
        events = (slicer.vtkSegmentation.SourceRepresentationModified,
                  slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved,
                  slicer.vtkSegmentation.SegmentModified,
                  slicer.vtkSegmentation.SegmentsOrderModified)
        self._read()  # before it observes: it may refuse
        self._tags = [self._segmentation.AddObserver(event, self._onEvent) for event in events]

    def close(self) -> None:
        """Observe no longer."""
        for tag in self._tags:
            self._segmentation.RemoveObserver(tag)
        self._tags = []

    def background(self) -> np.ndarray:
        """Which numbers of `labels` are Background segments: boolean, one per number from 0."""
        return np.array([False] + [isBackground(self._segmentation, i) for i in self.ids])

    def look(self) -> Change | None:
        """Read what is drawn now. None when nothing changed."""
        before, old = self.labels, self.ids
        self._read()
        self.reordered = old != self.ids
        if self.reordered:
            # A segment that came, went or moved is not painting: compare under the new numbers.
            table = np.zeros(len(old) + 1, np.uint8)
            for number, segmentId in enumerate(old, start=1):
                if segmentId in self.ids:
                    table[number] = self.ids.index(segmentId) + 1
            before = table[before]
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

    def _read(self) -> None:
        self.dirtySince = None
        ids = list(self._segmentation.GetSegmentIDs())
        self.labels = mergedSegments(self._segmentation, ids, self._volume)
        self.ids = ids

    @vtk.calldata_type(vtk.VTK_STRING)
    def _onEvent(self, caller, event, segmentId=None) -> None:
        self.dirtySince = time.monotonic()

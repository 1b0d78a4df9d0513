"""Annotating a volume: which slices are annotated, what is in them, what painting changes.

The panel drives it; it knows nothing of Qt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from ..annotation.drawn import found_slices, solid_warning
from ..annotation.labelled_count import count_labelled
from ..annotation.slices import AXES, AnnotatedSlice, check_slices, clear_crossing
from ..annotation.strokes import box_of, painted_slices
from ..errors import InputError
from .corrected_voxels import correctedVoxels
from .node_reference import NodeReference
from .paint_observer import Change, PaintObserver
from .slice_list import listedSlices, listSlices
from .volumes import refuseTransformed, volumeGeometry

SOLID = (
    "What you painted is several voxels thick, so no slice was noted. Paint with a flat brush "
    "(3D sphere brush off) in views that lie in the volume's planes, or mark the slices that "
    "are complete by hand."
)


@dataclass
class PaintChanges:
    """What a look found.  changed: whether labels or slices are others now.  added, dropped:
    slices.  warning: what the user should know, or empty."""

    changed: bool = False
    added: list[AnnotatedSlice] = field(default_factory=list)
    dropped: list[AnnotatedSlice] = field(default_factory=list)
    warning: str = ""


@dataclass(frozen=True)
class Row:
    """One annotated slice: voxels drawn per segment ID, and whether the user stated it."""

    slice: AnnotatedSlice
    stated: bool
    voxels: dict[str, int]


class AnnotationSession:
    """The annotation of one volume in one segmentation, as the scene has it.

    slices: the annotated slices, each with whether the user stated it; kept with the
    segmentation node.  Raises InputError when the nodes cannot be used together.
    """

    def __init__(self, volumeNode, segmentationNode):
        self.shape = volumeGeometry(volumeNode).shape
        refuseTransformed(segmentationNode, "segmentation")
        self._volume = NodeReference(volumeNode, "volume")
        self._node = NodeReference(segmentationNode, "segmentation")
        self.warning = ""
        listed = listedSlices(segmentationNode)
        if listed is not None:
            check_slices(listed, self.shape)
        self._watch = PaintObserver(segmentationNode, volumeNode)
        if listed is None and self._watch.labels.any():
            cover, solid = found_slices(self._foreground(), self._corrected())
            if solid:
                self.warning = solid_warning(
                    segmentationNode.GetName(),
                    len(cover),
                    "take those that are not complete from the list",
                )
            listed = dict.fromkeys(cover, False)
        self.slices: dict[AnnotatedSlice, bool] = listed or {}
        if self.slices:
            self._keep()

    def close(self) -> None:
        """Observe the nodes no longer."""
        self._watch.close()

    @property
    def alive(self) -> bool:
        """Whether both nodes are still in the scene."""
        return self._volume.alive and self._node.alive

    def fits(self) -> bool:
        """Whether the nodes can still be used together: there, on the same grid, and not under a
        transform."""
        try:
            refuseTransformed(self._node.get(), "segmentation")
            return volumeGeometry(self._volume.get()).shape == self.shape
        except InputError:
            return False

    @property
    def dirtySince(self) -> float | None:
        """When the newest change was noticed that was not looked at (time.monotonic())."""
        return self._watch.dirtySince

    def look(self, shown: Collection[AnnotatedSlice] = ()) -> PaintChanges:
        """Take in what was painted since the last look. shown: the voxel planes in the views."""
        change = self._watch.look()
        if change is None:
            return PaintChanges(changed=self._watch.reordered)
        if change.added.any():
            noticed = self._painted(change, shown)
        else:
            noticed = self._erased(change)
        # Also an empty list is kept: what was painted while we looked on is never taken for
        # slices later, by finding them anew.
        self._keep()
        return noticed

    def mark(self, item: AnnotatedSlice) -> None:
        """State that a slice is complete (what no segment covers there is background)."""
        check_slices([item], self.shape)
        for known in [s for s in self.slices if (s.axis, s.index) == (item.axis, item.index)]:
            del self.slices[known]
        self.slices[item] = True
        self._keep()

    def unmark(self, item: AnnotatedSlice) -> None:
        """No longer take a slice for complete; what is drawn in it stays drawn."""
        self.slices.pop(item, None)
        self._keep()

    def restrict(self, item: AnnotatedSlice, box: tuple | None) -> AnnotatedSlice:
        """Let a slice count inside an in-plane box alone; None for all of it. Returns it."""
        restricted = replace(item, box=box)
        check_slices([restricted], self.shape)
        self.slices.pop(item, None)
        self.slices[restricted] = True
        self._keep()
        return restricted

    def rows(self) -> list[Row]:
        """The annotated slices in order, with what is drawn in each."""
        watch, found = self._watch, []
        for item, stated in sorted(self.slices.items()):
            counts = np.bincount(
                watch.labels[item.selector()].ravel(), minlength=len(watch.ids) + 1
            )
            found.append(
                Row(
                    item,
                    stated,
                    {
                        segmentId: int(counts[n])
                        for n, segmentId in enumerate(watch.ids, start=1)
                        if counts[n]
                    },
                )
            )
        return found

    def share(self) -> float:
        """The share of the volume's voxels that are labelled."""
        labels = self._watch.labels
        return count_labelled(labels, self.slices) / max(1, labels.size)

    def next(self, item: AnnotatedSlice | None, step: int) -> AnnotatedSlice | None:
        """The annotated slice after (step 1) or before (-1) one of them, in a ring."""
        order = sorted(self.slices)
        if not order:
            return None
        if item not in self.slices:
            return order[0 if step > 0 else -1]
        return order[(order.index(item) + step) % len(order)]

    def _foreground(self, where=...) -> np.ndarray:
        """A copy of what is drawn there, without Background segments."""
        numbers = np.arange(len(self._watch.ids) + 1, dtype=np.uint8)
        numbers[self._watch.background()] = 0
        return numbers[self._watch.labels[where]]

    def _painted(self, change: Change, shown: Collection[AnnotatedSlice]) -> PaintChanges:
        change = self._without_corrections(change)
        if change is None:
            return PaintChanges(True)
        planes = painted_slices(change.changed, change.offset, shown, self.slices)
        if planes is None:
            return PaintChanges(True, warning=SOLID)
        known = {(s.axis, s.index) for s in self.slices}
        added = [s for s in planes if (s.axis, s.index) not in known]
        self.slices.update(dict.fromkeys(added, False))
        return PaintChanges(True, added=added)

    def _without_corrections(self, change: Change) -> Change | None:
        """The change without voxels that were taken over from a corrected result; None when there
        are no others. Undo and redo draw them again, and they are no strokes in a slice."""
        corrected = self._corrected()
        if not corrected.size:
            return change
        inside = tuple(
            slice(start, start + n)
            for start, n in zip(change.offset, change.changed.shape, strict=True)
        )
        painted = np.ones(self.shape, bool)
        painted.ravel()[corrected] = False
        painted = change.changed & painted[inside]
        box = box_of(painted)
        if box is None:
            return None
        return Change(
            tuple(s.start + o for s, o in zip(box, change.offset, strict=True)),
            painted[box],
            (change.added & painted)[box],
        )

    def _corrected(self) -> np.ndarray:
        return correctedVoxels(self._node.get(), self.shape)

    def _erased(self, change: Change) -> PaintChanges:
        """A slice that was only noticed, and in which nothing is left, is dropped (an undo)."""
        dropped = []
        for axis in range(3):
            item = AnnotatedSlice(AXES[2 - axis], change.offset[axis])
            if change.changed.shape[axis] == 1 and self.slices.get(item) is False:
                left = self._foreground(item.selector())
                for other in self.slices:
                    if other != item:
                        clear_crossing(left, item, other)
                if not left.any():
                    dropped.append(item)
        for item in dropped:
            del self.slices[item]
        return PaintChanges(True, dropped=dropped)

    def _keep(self) -> None:
        listSlices(self._node.get(), self.slices)

"""Annotation of a volume: its annotated slices, their contents, and changes by painting.

The panel drives it; it does not depend on Qt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from ..annotation.carry import carry, carry_slices
from ..annotation.drawn import found_slices
from ..annotation.drawn_messages import solid_warning
from ..annotation.grid_map import GridMap
from ..annotation.labelled_count import count_labelled
from ..annotation.slices import AXES, AnnotatedSlice, check_slices, clear_crossing
from ..annotation.strokes import box_of, painted_slices
from ..errors import InputError
from .corrected_voxels import correctedVoxels
from .node_reference import NodeReference
from .paint_observer import Change, PaintObserver
from .prediction_start import startedFromPrediction
from .slice_list import listedSlices, listSlices
from .volumes import refuseTransformed, volumeGeometry

SOLID = (
    "The stroke is several voxels thick, so no slice was marked as annotated. Paint with a flat "
    "brush (3D sphere brush off) in views that are aligned with the volume, or mark complete "
    "slices by hand."
)


@dataclass
class PaintChanges:
    """Changes of the annotation between two calls of `AnnotationSession.look`.

    Attributes:
        changed: True if labels or slices changed.
        added: Slices that are annotated now.
        dropped: Slices that are annotated no longer.
        warning: A warning for the user, or empty.
    """

    changed: bool = False
    added: list[AnnotatedSlice] = field(default_factory=list)
    dropped: list[AnnotatedSlice] = field(default_factory=list)
    warning: str = ""


@dataclass(frozen=True)
class Row:
    """One annotated slice as the panel lists it.

    Attributes:
        slice: The slice.
        stated: True if the user marked it as complete, False if it was detected from painting.
        voxels: Number of drawn voxels per segment ID.
    """

    slice: AnnotatedSlice
    stated: bool
    voxels: dict[str, int]


class AnnotationSession:
    """The annotation of one volume in one segmentation of the scene.

    Args:
        volumeNode: The volume that is annotated.
        segmentationNode: The segmentation that is drawn in.

    Attributes:
        grid: The volume's grid.
        shape: Its shape (k, j, i).
        slices: The annotated slices, each with True if the user marked it as complete (False: it
            was detected from painting). They are stored with the segmentation node.
        warning: A warning about the annotation at the start, or empty.
        predicted: True if the annotation started from a prediction, of which only corrected slices
            count.

    Raises:
        InputError: If the nodes cannot be used together.
    """

    def __init__(self, volumeNode, segmentationNode):
        self.grid = volumeGeometry(volumeNode)
        self.shape = self.grid.shape
        refuseTransformed(segmentationNode, "segmentation")
        self._volume = NodeReference(volumeNode, "volume")
        self._node = NodeReference(segmentationNode, "segmentation")
        self.warning = ""
        found = listedSlices(segmentationNode, self.grid)
        listed = None if found is None else found.slices
        if found is not None:
            check_slices(found.slices, self.shape)
            self.warning = found.warning
        self.predicted = startedFromPrediction(segmentationNode)
        self._watch = PaintObserver(segmentationNode, volumeNode)
        if listed is None and self._watch.labels.any():
            corrected = correctedVoxels(segmentationNode, self.grid)
            cover, solid = found_slices(self._foreground(), corrected.voxels)
            self.warning = corrected.warning
            if solid:
                self.warning = solid_warning(
                    segmentationNode.GetName(),
                    len(cover),
                    "remove those that are not complete from the list",
                )
            listed = dict.fromkeys(cover, False)
        self.slices: dict[AnnotatedSlice, bool] = listed or {}
        if self.slices:
            self._keep()

    def close(self) -> None:
        """Stops observing the nodes."""
        self._watch.close()

    @property
    def alive(self) -> bool:
        """True if both nodes are still in the scene."""
        return self._volume.alive and self._node.alive

    def fits(self) -> bool:
        """Tells whether the nodes can still be used together.

        They must be in the scene, on the same grid, and not under a transform.
        """
        try:
            refuseTransformed(self._node.get(), "segmentation")
            return self.grid.difference(volumeGeometry(self._volume.get())) is None
        except InputError:
            return False

    @property
    def dirtySince(self) -> float | None:
        """Time (time.monotonic()) of the newest change that `look` has not read, or None."""
        return self._watch.dirtySince

    def look(self, shown: Collection[AnnotatedSlice] = ()) -> PaintChanges:
        """Reads what was painted since the last call and updates the annotated slices.

        Args:
            shown: The voxel planes that the slice views show.

        Returns:
            The changes of labels and slices.
        """
        if not self.fits():
            return PaintChanges()  # labels of another grid: the slices do not belong to them
        change = self._watch.look()
        if change is None:
            return PaintChanges(changed=self._watch.reordered)
        # In a prediction what is erased is corrected as much as what is added.
        drawn = change.added.any() or self.predicted
        changes = self._painted(change, shown) if drawn else self._erased(change)
        # An empty list is stored, too: otherwise slices would later be detected anew from strokes
        # that were painted during this session.
        self._keep()
        return changes

    def mark(self, item: AnnotatedSlice) -> None:
        """Marks a slice as complete: voxels of it that no segment covers are background.

        Raises:
            InputError: If the slice lies outside the volume.
        """
        check_slices([item], self.shape)
        for known in [s for s in self.slices if (s.axis, s.index) == (item.axis, item.index)]:
            del self.slices[known]
        self.slices[item] = True
        self._keep()

    def unmark(self, item: AnnotatedSlice) -> None:
        """Removes a slice from the annotated ones; the voxels drawn in it stay."""
        self.slices.pop(item, None)
        self._keep()

    def restrict(self, item: AnnotatedSlice, box: tuple | None) -> AnnotatedSlice:
        """Restricts an annotated slice to an in-plane box.

        Args:
            item: The slice.
            box: The box as in AnnotatedSlice; None for the whole slice.

        Returns:
            The restricted slice, which replaces the old one.

        Raises:
            InputError: If the box lies outside the volume.
        """
        restricted = replace(item, box=box)
        check_slices([restricted], self.shape)
        self.slices.pop(item, None)
        self.slices[restricted] = True
        self._keep()
        return restricted

    def rows(self) -> list[Row]:
        """The annotated slices in order, with the voxels drawn in each."""
        watch, rows = self._watch, []
        for item, stated in sorted(self.slices.items()):
            counts = np.bincount(
                watch.labels[item.selector()].ravel(), minlength=len(watch.ids) + 1
            )
            rows.append(
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
        return rows

    def share(self) -> float:
        """The fraction of the volume's voxels that are labelled."""
        labels = self._watch.labels
        drawn = np.broadcast_to(np.uint8(0), labels.shape) if self.predicted else labels
        return count_labelled(drawn, self.slices) / max(1, labels.size)

    def next(self, item: AnnotatedSlice | None, step: int) -> AnnotatedSlice | None:
        """The annotated slice after or before one of them, cyclically.

        Args:
            item: The present slice, or None.
            step: 1 for the next slice, -1 for the previous one.

        Returns:
            The slice, or None if no slice is annotated.
        """
        order = sorted(self.slices)
        if not order:
            return None
        if item not in self.slices:
            return order[0 if step > 0 else -1]
        return order[(order.index(item) + step) % len(order)]

    def _foreground(self, where=...) -> np.ndarray:
        """A copy of the drawn labels there, without Background segments."""
        numbers = np.arange(len(self._watch.ids) + 1, dtype=np.uint8)
        numbers[self._watch.background()] = 0
        return numbers[self._watch.labels[where]]

    def _painted(self, change: Change, shown: Collection[AnnotatedSlice]) -> PaintChanges:
        change = self._without_corrections(change)
        if change is None:
            return PaintChanges(True)
        planes = painted_slices(change.changed, change.offset, shown, self.slices)
        if planes is None:
            planes = self._planesOfCoarserGrid(change)
        if planes is None:
            return PaintChanges(True, warning=SOLID)
        known = {(s.axis, s.index) for s in self.slices}
        added = [s for s in planes if (s.axis, s.index) not in known]
        self.slices.update(dict.fromkeys(added, False))
        return PaintChanges(True, added=added)

    def _planesOfCoarserGrid(self, change: Change) -> list[AnnotatedSlice] | None:
        """The slices of a stroke in a segmentation whose voxels hold several of the volume's.

        None if the segmentation has no such grid, or the stroke is no flat one there either.
        """
        own = self._watch.coarserGrid()
        if own is None:
            return None
        changed = np.zeros(self.shape, np.uint8)
        ends = zip(change.offset, change.changed.shape, strict=True)
        changed[tuple(slice(start, start + n) for start, n in ends)] = change.changed
        drawn = carry(changed, GridMap.between(self.grid, own), 0) > 0
        box = box_of(drawn)
        if box is None:
            return None
        k, j, i = (each.start for each in box)
        planes = painted_slices(drawn[box], (k, j, i))
        return carry_slices(planes, GridMap.between(own, self.grid)) if planes else None

    def _without_corrections(self, change: Change) -> Change | None:
        """The change without corrected voxels of a result; None when there are no others.

        Undo and redo draw those voxels again, and they are no strokes in a slice.
        """
        corrected = correctedVoxels(self._node.get(), self.grid).voxels
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

    def _erased(self, change: Change) -> PaintChanges:
        """Drops slices that were detected from painting and are empty now (an undo)."""
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
        listSlices(self._node.get(), self.slices, self.grid)

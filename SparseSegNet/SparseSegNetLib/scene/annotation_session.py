"""Annotation of a volume: its annotated slices, their contents, and changes by painting.

The panel drives it; it does not depend on Qt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..annotation.drawn import found_slices
from ..annotation.drawn_messages import solid_warning
from ..annotation.labelled_count import count_labelled
from ..annotation.slices import AXES, AnnotatedSlice, check_slices, clear_crossing, clear_voxels
from ..annotation.strokes import painted_slices
from ..errors import InputError
from ..steps import Steps, finished
from .annotation_changes import PaintChanges, Row
from .annotation_snapshot import Snapshot
from .corrected_voxels import correctedVoxels
from .node_reference import NodeReference
from .paint_change import Change
from .paint_observer import PaintObserver
from .prediction_start import startedFromPrediction
from .slice_list import listedSlices, listSlices
from .take_over import takeOver, undoTakeOver
from .taken_over import unconfirmed
from .unconfirmed_slices import UnconfirmedSlices
from .volumes import refuseTransformed, volumeGeometry

SOLID = (
    "The stroke is several voxels thick, so no slice was marked as annotated. Paint with a flat "
    "brush (3D sphere brush off) in views that are aligned with the volume, or mark complete "
    "slices by hand."
)


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
        revision: A number that rises with each change of labels and slices.
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
        self._counted: tuple | None = None
        found = listedSlices(segmentationNode, self.grid)
        listed = None if found is None else found.slices
        if found is not None:
            check_slices(found.slices, self.shape)
            self.warning = found.warning
        self.predicted = startedFromPrediction(segmentationNode)
        unconfirmed(segmentationNode, self.grid)  # refused, if damaged, before anything is observed
        self._watch = PaintObserver(segmentationNode, volumeNode)
        self._open = UnconfirmedSlices(self._node.get, self.grid)
        if listed is None and self._watch.labels.any():
            corrected = correctedVoxels(segmentationNode, self.grid)
            single = np.union1d(corrected.voxels, self._taken())
            cover, solid = found_slices(self._foreground(), single)
            self.warning = corrected.warning
            if solid:
                self.warning = solid_warning(
                    segmentationNode.GetName(),
                    len(cover),
                    "remove those that are not complete from the list",
                )
            listed = dict.fromkeys(cover, False)
        self.slices: dict[AnnotatedSlice, bool] = listed or {}
        self.revision = 0
        if self.slices:
            self._keep()
        self._open.update(*self._labels, self.slices)

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
        return finished(self.looking(shown))

    def looking(self, shown: Collection[AnnotatedSlice] = ()) -> Steps[PaintChanges]:
        """Reads in steps what was painted, as `look` does at once.

        Raises:
            Overtaken: Something was painted between two steps.
        """
        if not self.fits():
            return PaintChanges()  # labels of another grid: the slices do not belong to them
        change = yield from self._watch.looking()
        if change is None:
            self.revision += self._watch.reordered
            return PaintChanges(changed=self._watch.reordered)
        # In a prediction what is erased is corrected as much as what is added.
        if change.added.any() or self.predicted:
            changes = self._painted(change, shown)
        elif erased := self._open.correctedByErasing(change, *self._labels, [*shown, *self.slices]):
            changes = PaintChanges(True, added=self._list(erased))
        else:
            changes = self._erased(change)
        if not changes.added:
            changes.dropped += self._open.reopened(
                change, self.slices, *self._labels, self._foreground
            )
        for item in changes.dropped:
            self.slices.pop(item, None)
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
        began = self._open.began(item)
        for known in [s for s in self.slices if s.place == item.place]:
            began = replace(began, prefilled=began.prefilled or known.prefilled)
            del self.slices[known]
        self.slices[began] = True
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
        known = next((s for s in self.slices if s == item), item)  # with all that it knows
        restricted = replace(known, box=box)
        check_slices([restricted], self.shape)
        self.slices.pop(item, None)
        self.slices[restricted] = True
        self._keep()
        return restricted

    def rows(self) -> list[Row]:
        """The annotated slices in order, with the voxels drawn in each."""
        return self._shown()[0]

    def share(self) -> float:
        """The fraction of the volume's voxels that are labelled."""
        return self._shown()[1]

    def _shown(self) -> tuple[list[Row], float]:
        """Rows and share, counted once for each state: the panel asks for them again and again."""
        listed = tuple((s, s.prefilled, stated) for s, stated in self.slices.items())
        state = self._watch.version, listed, self._open.count
        if self._counted is None or self._counted[0] != state:
            self._counted = state, self._rows(), self._share()
        return list(self._counted[1]), self._counted[2]

    def _rows(self) -> list[Row]:
        watch, rows = self._watch, []
        for item, stated in sorted(self.slices.items()):
            counts = np.bincount(
                watch.labels[item.selector()].ravel(), minlength=len(watch.ids) + 1
            )
            voxels = {i: int(counts[n]) for n, i in enumerate(watch.ids, start=1) if counts[n]}
            rows.append(Row(item, stated, voxels))
        return rows

    def _share(self) -> float:
        labels = self._watch.labels
        drawn, count = labels, self._watch.count
        if self.predicted:
            drawn, count = np.broadcast_to(np.uint8(0), labels.shape), 0
        waiting = 0 if self.predicted else self._open.count
        return (count_labelled(drawn, self.slices, count) - waiting) / max(1, labels.size)

    def snapshot(self) -> Snapshot:
        """The annotation as it is now, to be used in another thread."""
        return Snapshot(
            self._watch.lendLabels(),
            self._watch.ids,
            self._watch.background(),
            dict(self.slices),
            self._taken() if self._open.slices else np.zeros(0, np.int64),
            self.grid,
            self.predicted,
        )

    @property
    def unconfirmed(self) -> list[AnnotatedSlice]:
        """The slices with a prediction that was taken over and does not count yet."""
        return self._open.slices

    @property
    def prefilled(self) -> list[AnnotatedSlice]:
        """The annotated slices that began from a prediction, see `AnnotatedSlice`."""
        return [s for s in sorted(self.slices) if s.prefilled]

    def takeOver(
        self, item: AnnotatedSlice, predicted: np.ndarray, segmentIds: Sequence[str]
    ) -> int:
        """Takes the prediction of a slice over as a start to correct, see `take_over.takeOver`."""
        count = takeOver(self._node.get(), self._volume.get(), item, predicted, segmentIds)
        self._open.update(*self._labels, self.slices)
        return count

    def undoTakeOver(self, item: AnnotatedSlice) -> int:
        """Removes what was taken over, see `take_over.undoTakeOver`."""
        count = undoTakeOver(self._node.get(), self._volume.get(), item)
        self._open.update(*self._labels, self.slices)
        return count

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
        # Undo and redo draw again what is no stroke in a slice: corrected voxels of a result, and
        # what was taken over from a prediction.
        corrected = correctedVoxels(self._node.get(), self.grid).voxels
        strokes = change.without(np.union1d(corrected, self._taken()), self.shape)
        if strokes is None:
            return PaintChanges(True)
        change = strokes
        planes = painted_slices(change.changed, change.offset, shown, self.slices)
        if planes is None:
            planes = self._watch.planesOfCoarserGrid(change)
        if planes is None:
            return PaintChanges(True, warning=SOLID)
        return PaintChanges(True, added=self._list(planes))

    def _list(self, planes: Iterable[AnnotatedSlice]) -> list[AnnotatedSlice]:
        """Lists those of the slices that are not listed yet as detected, and returns them."""
        known = {s.place for s in self.slices}
        added = [self._open.began(s) for s in planes if s.place not in known]
        self.slices.update(dict.fromkeys(added, False))
        return added

    @property
    def _labels(self) -> tuple[np.ndarray, list[str]]:
        return self._watch.labels, self._watch.ids

    def _taken(self) -> np.ndarray:
        """Flat indices of voxels taken over from a prediction into slices that are not listed."""
        return self._open.held(*self._labels)

    def _erased(self, change: Change) -> PaintChanges:
        """Drops slices that were detected from painting and are empty now (an undo)."""
        dropped = []
        held = self._taken()
        for axis in range(3):
            item = AnnotatedSlice(AXES[2 - axis], change.offset[axis])
            if change.changed.shape[axis] == 1 and self.slices.get(item) is False:
                left = self._foreground(item.selector())
                clear_voxels(left, item, held, self.shape)
                for other in self.slices:
                    if other != item:
                        clear_crossing(left, item, other)
                if not left.any():
                    dropped.append(item)
        return PaintChanges(True, dropped=dropped)

    def _keep(self) -> None:
        self.revision += 1
        listSlices(self._node.get(), self.slices, self.grid)
        self._open.update(*self._labels, self.slices)

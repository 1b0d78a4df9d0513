"""Slices into which a prediction was taken over and that the user has not confirmed yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.slices import AXES, AnnotatedSlice, clear_crossing, clear_voxels, in_slices
from .paint_change import Change
from .taken_over import heldVoxels, stored, unconfirmed


class UnconfirmedSlices:
    """Follows what was taken over into a segmentation while its annotation is edited.

    Args:
        segmentationNode: Returns the segmentation node.
        grid: The volume's grid.

    Attributes:
        slices: The slices, in order, as of the last `update`.
        count: Number of voxels in them that do not count, as of then.
    """

    def __init__(self, segmentationNode: Callable, grid: Geometry):
        self._node, self._grid = segmentationNode, grid
        self.slices: list[AnnotatedSlice] = []
        self.count = 0

    def update(
        self, labels: np.ndarray, ids: Sequence[str], listed: Collection[AnnotatedSlice]
    ) -> None:
        """Looks at the present annotation.

        Args:
            labels: uint8 (k, j, i), n for the n-th of `ids`.
            ids: Segment IDs.
            listed: The annotated slices.
        """
        found: set[AnnotatedSlice] = set()
        voxels = []
        for entry in unconfirmed(self._node(), self._grid):
            held = entry.held(labels, ids)
            held = held[~in_slices(held, listed, self._grid.shape)]
            voxels.append(held)
            if held.size:
                found.update(AnnotatedSlice(s.axis, s.index) for s in entry.slices)
        self.slices = sorted(found)
        self.count = np.unique(np.concatenate(voxels)).size if voxels else 0

    def held(self, labels: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Flat indices of all voxels that hold what was taken over into slices not listed."""
        return heldVoxels(unconfirmed(self._node(), self._grid), labels, ids)

    def began(self, item: AnnotatedSlice) -> AnnotatedSlice:
        """A slice that is to be listed, marked as prefilled if it is one of these."""
        return replace(item, prefilled=AnnotatedSlice(item.axis, item.index) in self.slices)

    def correctedByErasing(
        self,
        change: Change,
        labels: np.ndarray,
        ids: Sequence[str],
        others: Collection[AnnotatedSlice],
    ) -> list[AnnotatedSlice]:
        """The slice in which a part of what was taken over was erased, or none.

        If nothing of it is left the taking over was undone. A dot or a line that lies in another
        slice that is shown or listed as well decides nothing.

        Args:
            change: The change, in which nothing was added.
            labels: uint8 (k, j, i), n for the n-th of `ids`.
            ids: Segment IDs.
            others: The slices that are shown or listed.
        """
        flat = {
            AnnotatedSlice(AXES[2 - axis], change.offset[axis])
            for axis in range(3)
            if change.changed.shape[axis] == 1
        }
        known = {s.place for s in others}
        changed = np.argwhere(change.changed) + change.offset
        erased = np.ravel_multi_index(tuple(changed.T), self._grid.shape)
        for entry in unconfirmed(self._node(), self._grid):
            places = flat.intersection(AnnotatedSlice(s.axis, s.index) for s in entry.slices)
            taken = np.concatenate([np.zeros(0, np.int64), *entry.voxels.values()])
            for item in places:
                if any(s.place in known for s in flat - {item}):
                    continue
                if np.isin(erased, taken).any() and entry.held(labels, ids).size:
                    return [item]
        return []

    def reopened(
        self,
        change: Change,
        listed: Mapping[AnnotatedSlice, bool],
        labels: np.ndarray,
        ids: Sequence[str],
        drawn: Callable[..., np.ndarray],
    ) -> list[AnnotatedSlice]:
        """The slices that hold again just what was taken over: their correction was undone.

        Args:
            change: The change.
            listed: The annotated slices, with True for those that the user marked as complete.
            labels: uint8 (k, j, i), n for the n-th of `ids`.
            ids: Segment IDs.
            drawn: Returns a copy of the drawn labels at an index expression.
        """
        found = []
        for axis in range(3):
            places = [
                s
                for s, stated in listed.items()
                if s.place == (AXES[2 - axis], change.offset[axis]) and s.prefilled and not stated
            ]
            if change.changed.shape[axis] == 1:
                found += [s for s in places if self._isTakenOver(s, listed, labels, ids, drawn)]
        return found

    def _isTakenOver(self, item, listed, labels, ids, drawn) -> bool:
        own = AnnotatedSlice(item.axis, item.index)
        others = self.held(labels, ids)
        for entry in (each.on(self._grid) for each in stored(self._node())):
            held = entry.held(labels, ids)
            if own not in entry.slices or held.size < sum(v.size for v in entry.voxels.values()):
                continue
            left = drawn(own.selector())
            clear_voxels(left, own, np.concatenate([held, others]), self._grid.shape)
            for other in listed:
                if other.place != own.place:
                    clear_crossing(left, own, other)
            if not left.any():
                return True
        return False

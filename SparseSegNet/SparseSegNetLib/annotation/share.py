"""How many voxels annotated slices make labelled, without an array of the volume's size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .slices import AnnotatedSlice, array_axis


def labelled_voxels(drawn: np.ndarray, slices: Iterable[AnnotatedSlice]) -> int:
    """Voxels that are drawn or lie in an annotated slice.

    drawn: (k, j, i), not zero where something is drawn.  Each slice is counted without the lines
    in which it crosses the ones before it.
    """
    count, before = int(np.count_nonzero(drawn)), []
    for item in slices:
        free = drawn[item.selector()] == 0
        for other in before:
            _take_out(free, item, other)
        count += int(np.count_nonzero(free))
        before.append(item)
    return count


def _take_out(free: np.ndarray, item: AnnotatedSlice, other: AnnotatedSlice) -> None:
    """Clear what `other` holds of the plane of `item` (its box alone, if it has one)."""
    axis, across = array_axis(item.axis), array_axis(other.axis)
    if axis == across:
        if item.index == other.index:
            raise ValueError(f"slice {item} is listed twice")
        return
    third = 3 - axis - across
    ranges = {axis: (item.index, item.index + 1), across: (other.index, other.index + 1)}
    if other.box is not None:
        inside = dict(zip(sorted({0, 1, 2} - {across}), other.box, strict=True))
        low, high = inside[axis]
        if not low <= item.index < high:
            return
        ranges[third] = inside[third]
    place = []
    own = dict(zip(sorted({0, 1, 2} - {axis}), item.box or (None, None), strict=True))
    for each in sorted({0, 1, 2} - {axis}):
        low, high = ranges.get(each, (0, np.iinfo(np.int64).max))
        start = own[each][0] if own[each] else 0
        end = own[each][1] if own[each] else free.shape[len(place)]
        place.append(slice(max(low, start) - start, max(min(high, end), start) - start))
    free[tuple(place)] = False

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
            clear_crossing(free, item, other)
        count += int(np.count_nonzero(free))
        before.append(item)
    return count


def clear_crossing(plane: np.ndarray, item: AnnotatedSlice, other: AnnotatedSlice) -> None:
    """Set to 0 what `other` holds of the slice `item`.

    plane: (two axes, in array order), the voxels of `item`, of its box alone if it has one.
    Raises ValueError when both are the same slice.
    """
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
    own = item.box or tuple((0, n) for n in plane.shape)
    for each, (start, end) in zip(sorted({0, 1, 2} - {axis}), own, strict=True):
        low, high = ranges.get(each, (start, end))
        place.append(slice(max(low, start) - start, max(min(high, end), start) - start))
    plane[tuple(place)] = 0

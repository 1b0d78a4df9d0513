"""Annotated slices and single voxels carried from the grid that they belong to onto another one."""

from __future__ import annotations

import numpy as np

from .geometry import Geometry, Triple
from .parallel_grids import parallel_axes
from .slices import AXES, AnnotatedSlice, array_axis


def carry_slice(item: AnnotatedSlice, own: Geometry, other: Geometry) -> list[AnnotatedSlice]:
    """Finds the slices of another grid that hold the voxels of an annotated slice.

    A volume that was cropped, padded, or whose axes were flipped or permuted keeps its voxels:
    each slice becomes one slice at the same place. On a finer grid a slice becomes all slices whose
    centres lie in it, on a coarser one that in whose thickness its centre lies. A slice that does
    not reach through the whole other volume is restricted to a box: nothing is known beyond it.

    Args:
        item: The slice, of the grid `own`.
        own: The grid that the slice belongs to.
        other: The grid to carry it to.

    Returns:
        The slices of the grid `other`, in the order of their indices. Empty if the slice lies
        outside that grid, or if the axes of the grids are not parallel (see `parallel_axes`).
    """
    if own.difference(other) is None:
        return [item]
    matches = parallel_axes(own, other)
    if matches is None:
        return []
    across = array_axis(item.axis)
    plane = [axis for axis in range(3) if axis != across]
    box = item.box or tuple((0, own.shape[axis]) for axis in plane)
    ranges: dict[int, tuple[int, int]] = {}
    for axis, (low, high) in zip(plane, box, strict=True):
        match = matches[axis]
        ranges[match.axis] = match.within(low, high)
        if ranges[match.axis] == (0, 0):
            return []
    whole = all(found == (0, other.shape[axis]) for axis, found in ranges.items())
    first, second = (ranges[axis] for axis in sorted(ranges))
    match = matches[across]
    indices = range(*match.within(item.index, item.index + 1)) or [match.holder(item.index)]
    return [
        AnnotatedSlice(
            AXES[2 - match.axis], index, None if whole else (first, second), item.prefilled
        )
        for index in indices
        if 0 <= index < other.shape[match.axis]
    ]


def carry_voxels(voxels: np.ndarray, own: Geometry, other: Geometry) -> np.ndarray | None:
    """Finds the voxels of another grid that coincide with voxels of a grid.

    Args:
        voxels: Flat indices into an array (k, j, i) of the grid `own`.
        own: The grid that they belong to.
        other: The grid to carry them to.

    Returns:
        Flat indices, int64 and ascending, into an array of the grid `other`, without those outside
        it. None if the voxels of the grids do not coincide: then there is no answer.
    """
    if own.difference(other) is None:
        return np.sort(voxels.astype(np.int64))
    matches = parallel_axes(own, other)
    if matches is None or not all(match.whole for match in matches):
        return None
    inside = np.ones(voxels.shape, bool)
    found: list[np.ndarray] = [voxels] * 3
    for index, match in zip(np.unravel_index(voxels, own.shape), matches, strict=True):
        carried = np.round(match.centre + index * match.step).astype(np.int64)
        inside &= (carried >= 0) & (carried < other.shape[match.axis])
        found[match.axis] = carried
    k, j, i = (index[inside] for index in found)
    shape: Triple = other.shape
    return np.sort(np.ravel_multi_index((k, j, i), shape).astype(np.int64))

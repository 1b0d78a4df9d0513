"""Carries labels from the grid that they were drawn on to another one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from .geometry import TOLERANCE_VOXELS
from .grid_map import GridMap
from .slices import AXES, AnnotatedSlice, array_axis

AT_ONCE = 1 << 22  # voxels
FINER = 0.75  # voxels of the other grid: a step below counts as a finer grid


def carry(labels: np.ndarray, grid: GridMap, empty: int) -> np.ndarray:
    """Carries labels to another grid.

    Where the voxels are the same they are copied. Else a voxel gets the label that most of the
    labelled voxels with their centres inside it have (on a tie a segment rather than background);
    where the own grid is coarser, all voxels inside a labelled one get its label. A label that
    would be outvoted everywhere gets the voxels that it lies in.

    Args:
        labels: Unsigned (k, j, i).
        grid: The map from the labels' grid to the other one.
        empty: The value of voxels without a label, which do not count.

    Returns:
        Array of the same type on the other grid, `empty` where nothing was carried.
    """
    out = np.full(grid.other, empty, labels.dtype)
    place = grid.whole()
    if place is not None:
        inside = place.overlap(labels, grid.other)
        if inside is not None:
            out[inside[1]] = inside[0]
        return out
    if grid.order() is None:
        # Axes that are not parallel: points cannot be replicated without holes.
        from scipy import ndimage

        back = grid.inverse()
        ndimage.affine_transform(
            labels, back.matrix, back.offset, grid.other, out, order=0, cval=empty, prefilter=False
        )
        if np.linalg.norm(grid.matrix, axis=0).min() >= FINER:
            return out
        # What lies between the centres of the other grid's voxels.
        points, votes = _votes(labels, grid, empty, [np.zeros(1)] * 3)
        free = out.ravel()[points] == empty
        out.ravel()[points[free]] = votes[free]
        return out
    points, votes = _votes(labels, grid, empty, _shifts(grid))
    out.ravel()[points] = votes
    return out


def carry_slices(slices: Sequence[AnnotatedSlice], grid: GridMap) -> list[AnnotatedSlice]:
    """The slices of another grid that whole slices lie in; those outside it are left out.

    A slice of a coarser grid becomes several. Returns none where axes are not parallel.
    """
    ordered = grid.order()
    if ordered is None:
        return []
    found = set()
    for item in slices:
        axis = array_axis(item.axis)
        across = ordered[0].index(axis)
        shifts = _shifts(grid)[axis]
        points = np.zeros((shifts.size, 3))
        points[:, axis] = item.index + shifts
        for index in grid.holders(points)[:, across].tolist():
            if 0 <= index < grid.other[across]:
                found.add(AnnotatedSlice(AXES[2 - across], index))
    return sorted(found)


def count_outside(chosen: np.ndarray, grid: GridMap) -> int:
    """Counts the voxels that are true in (k, j, i) with centres outside the other grid."""
    flat, outside = np.flatnonzero(chosen), 0
    for start in range(0, flat.size, AT_ONCE):
        part = np.unravel_index(flat[start : start + AT_ONCE], chosen.shape)
        found = grid.holders(np.stack(part, axis=1))
        outside += int(((found < 0) | (found >= np.array(grid.other))).any(axis=1).sum())
    return outside


def _shifts(grid: GridMap) -> list[np.ndarray]:
    """Points along each own axis, from the centre, that stand for a voxel.

    One lies at least in each voxel of the other grid that it covers. A centre of the other grid
    on the border of two own voxels belongs to the later one.
    """
    found = []
    for step in np.linalg.norm(grid.matrix, axis=0).tolist():
        n = max(1, math.ceil(step - TOLERANCE_VOXELS))
        border = 2 * TOLERANCE_VOXELS / step if n > 1 else 0.0
        found.append((np.arange(n) + 0.5) / n - 0.5 - border)
    return found


def _votes(
    labels: np.ndarray, grid: GridMap, empty: int, along: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of the other grid that labelled voxels lie in, and the label of most of them.

    along: the points along each axis that stand for a voxel of the own grid.
    """
    shifts = np.array(list(product(*along)))
    labelled = np.flatnonzero(labels.ravel() != empty)
    kinds = int(labels.max(initial=0)) + 1
    keys: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    for start in range(0, labelled.size, max(1, AT_ONCE // len(shifts))):
        flat = labelled[start : start + max(1, AT_ONCE // len(shifts))]
        centres = np.stack(np.unravel_index(flat, labels.shape), axis=1)
        values = labels.ravel()[flat]
        points = (centres[:, None, :] + shifts).reshape(-1, 3)
        found = grid.holders(points)
        inside = ((found >= 0) & (found < np.array(grid.other))).all(axis=1)
        where = np.ravel_multi_index(tuple(found[inside].T), grid.other)
        each, many = np.unique(
            where * kinds + np.repeat(values, len(shifts))[inside], return_counts=True
        )
        keys.append(each)
        counts.append(many)
    if not keys:
        return np.zeros(0, np.int64), np.zeros(0, labels.dtype)
    each, back = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(each.size, np.int64)
    np.add.at(total, back, np.concatenate(counts))
    where, value = each // kinds, each % kinds
    # The last of each voxel's entries has the most votes; of equal ones the highest label.
    order = np.lexsort((value, total, where))
    where, value = where[order], value[order]
    last = np.append(where[1:] != where[:-1], True)[: where.size]  # none lies in the other grid
    points, votes = where[last], value[last]
    for lost in set(value.tolist()) - set(votes.tolist()) - {0}:
        votes[np.isin(points, where[value == lost])] = lost
    return points, votes.astype(labels.dtype)

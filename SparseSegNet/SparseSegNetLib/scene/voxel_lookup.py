"""Labels of one voxel lattice at the voxel centres of another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..annotation.geometry import TOLERANCE_VOXELS
from ..annotation.grid_map import nearest_voxel

SLAB = 1 << 20  # voxels of a lattice with other axes that are looked up at once


def lookUp(values: np.ndarray, matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Looks up for each voxel of a box the value of the voxel that its centre lies in.

    Args:
        values: (k, j, i), the values; outside the array there is 0.
        matrix: 4x4, from an index (i, j, k) of the box's lattice to one of `values`.
        low: First index (i, j, k) of the box.
        high: Index behind the last one of the box.

    Returns:
        (k, j, i), the values in the box.
    """
    found = np.zeros((high - low)[::-1], values.dtype)
    if not values.size or not found.size:
        return found
    for begin, indices in _indices(matrix, low, high):
        inside: np.ndarray | bool = True
        clipped = []
        for index, count in zip(indices, values.shape, strict=True):
            inside = inside & (index >= 0) & (index < count)
            clipped.append(index.clip(0, count - 1))
        part = np.where(inside, values[tuple(clipped)], 0)
        found[begin : begin + len(part)] = part
    return found


def _indices(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[int, list]]:
    """Indices (k, j, i) into the values, as arrays that broadcast, slab by slab along k."""
    turn, shift = matrix[:3, :3], matrix[:3, 3]
    main = np.abs(turn).argmax(axis=1)
    middle = (low + high - 1) / 2
    # An axis that is parallel to one of the other lattice needs numbers along that one alone.
    aslant = np.array([[axis != m for axis in range(3)] for m in main])
    drift = (np.abs(turn) * aslant) @ (high - low - 1) / 2
    parallel = bool((drift <= TOLERANCE_VOXELS).all())
    columns, rows, planes = high - low
    step = int(planes) if parallel else max(1, SLAB // int(rows * columns))
    centred = [np.arange(a, b) - m for a, b, m in zip(low, high, middle, strict=True)]
    for begin in range(0, int(planes), step):
        along = [
            centred[0][None, None, :],
            centred[1][None, :, None],
            centred[2][begin : begin + step, None, None],
        ]
        indices = []
        for row in (2, 1, 0):
            terms = [main[row]] if parallel else range(3)
            position = turn[row] @ middle + shift[row]
            for axis in terms:
                position = position + turn[row, axis] * along[axis]
            indices.append(nearest_voxel(position).astype(np.int64))
        yield begin, indices


def boxOf(low: np.ndarray, high: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box of a lattice that holds all voxels whose centres may lie in a box of another one.

    Args:
        low: First index (i, j, k) of the box.
        high: Index behind the last one of the box.
        matrix: 4x4, from an index of the box's lattice to one of the other lattice.

    Returns:
        The first index (i, j, k), and the index behind the last one.
    """
    ends = np.array([low - 0.5, high - 0.5])
    corners = np.array([[*ends[[a, b, c], [0, 1, 2]], 1] for a, b, c in np.ndindex(2, 2, 2)])
    reached = corners @ matrix[:3].T
    slack = 2 * TOLERANCE_VOXELS
    return (
        np.ceil(reached.min(axis=0) - slack).astype(np.int64),
        np.floor(reached.max(axis=0) + slack).astype(np.int64) + 1,
    )

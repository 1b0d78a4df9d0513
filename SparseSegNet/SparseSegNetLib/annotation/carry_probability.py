"""Carries a probability from one grid to another."""

from __future__ import annotations

import numpy as np

from .grid_map import GridMap


def carry_probability(values: np.ndarray, grid: GridMap) -> np.ndarray | None:
    """Carries the probability of a class to another grid.

    Where the voxels are the same they are copied. Else it is interpolated, after averaging along
    axes on which the own grid is finer.

    Args:
        values: float32 (k, j, i), 0 to 1.
        grid: The map from the values' grid to the other one.

    Returns:
        float32 on the other grid, 0 outside of the own one; None if they do not overlap.
    """
    place = grid.whole()
    if place is not None:
        found = place.overlap(values, grid.other)
        if found is None:
            return None
        out = np.zeros(grid.other, np.float32)
        out[found[1]] = found[0]
        return out
    from scipy import ndimage

    back = grid.inverse()
    # "grid-constant" counts a voxel whole, up to its border.
    inside = np.empty(grid.other, np.uint8)
    ndimage.affine_transform(
        np.ones(grid.own, np.uint8), back.matrix, back.offset, grid.other, inside, 0,
        "grid-constant",
    )  # fmt: skip
    if not inside.any():
        return None
    steps = np.linalg.norm(grid.matrix, axis=0)
    smooth = ndimage.uniform_filter(values, [max(1, round(1 / s)) for s in steps], mode="nearest")
    out = ndimage.affine_transform(
        smooth, back.matrix, back.offset, grid.other, np.float32, 1, "nearest"
    )
    out[inside == 0] = 0
    return out.clip(0, 1)

"""Carries a probability from one grid to another, and tells what a grid covers."""

from __future__ import annotations

import numpy as np

from .grid_map import GridMap, nearest_voxel


def covered_by(grid: GridMap) -> np.ndarray:
    """The voxels of the other grid whose centres lie in voxels of the own one, bool (k, j, i)."""
    place = grid.whole()
    inside = np.zeros(grid.other, bool)
    if place is not None:
        found = place.overlap(np.broadcast_to(True, grid.own), grid.other)
        if found is not None:
            inside[found[1]] = True
        return inside
    # Only numbers are taken of the own grid: what a file says of it may be far larger than memory.
    back, (planes, *plane) = grid.inverse(), grid.other
    first = np.stack(np.meshgrid(0, *map(np.arange, plane), indexing="ij"), axis=-1)
    places = back.apply(first.reshape(-1, 3))
    for k in range(planes):
        nearest = nearest_voxel(places + k * back.matrix[:, 0])
        inside[k] = ((nearest >= 0) & (nearest < grid.own)).all(axis=1).reshape(plane)
    return inside


def carry_probability(values: np.ndarray, grid: GridMap, inside: np.ndarray) -> np.ndarray:
    """Carries the probability of a class to another grid.

    Where the voxels are the same they are copied. Else it is interpolated, after averaging along
    axes on which the own grid is finer.

    Args:
        values: float32 (k, j, i), 0 to 1.
        grid: The map from the values' grid to the other one.
        inside: What the own grid covers of the other one, see `covered_by`.

    Returns:
        float32 on the other grid, 0 outside of the own one.
    """
    place = grid.whole()
    if place is not None:
        out = np.zeros(grid.other, np.float32)
        found = place.overlap(values, grid.other)
        if found is not None:
            out[found[1]] = found[0]
        return out
    from scipy import ndimage

    back = grid.inverse()
    steps = np.linalg.norm(grid.matrix, axis=0)
    smooth = ndimage.uniform_filter(values, [max(1, round(1 / s)) for s in steps], mode="nearest")
    out = ndimage.affine_transform(
        smooth, back.matrix, back.offset, grid.other, np.float32, 1, "nearest"
    )
    out[~inside] = 0
    return out.clip(0, 1)

"""Correspondence of the voxels of two grids whose axes are parallel, of any order and sense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import TOLERANCE_VOXELS, Geometry
from .grid_map import GridMap, nearest_voxel


@dataclass(frozen=True)
class AxisMatch:
    """One axis of a grid (named here 'own') and the axis of another grid that it is parallel to.

    Attributes:
        axis: The axis of the other grid, as an axis of (k, j, i) arrays.
        owners: For each voxel along the other grid's axis the own voxel that its centre lies in,
            also where that is outside the own grid.
        centre: Index along the other grid's axis, not rounded, of the centre of own voxel 0.
        step: Voxels of the other grid per own voxel; negative if the axes run against each other.
    """

    axis: int
    owners: np.ndarray
    centre: float
    step: float

    @property
    def whole(self) -> bool:
        """True if voxels of both grids coincide along this axis."""
        # Over the other grid's length, at its two ends.
        ends = np.array([0, self.owners.size - 1])
        exact = (ends - self.centre) / self.step
        return bool(
            abs(exact - np.round(exact)).max() <= TOLERANCE_VOXELS
            and abs(np.diff(np.round(exact)))[0] == ends[1]
            and abs(abs(self.step) - 1) <= TOLERANCE_VOXELS
        )

    def holder(self, index: int) -> int:
        """The voxel of the other grid that the centre of an own voxel lies in, or outside it."""
        return int(nearest_voxel(self.centre + index * self.step))

    def within(self, low: int, high: int) -> tuple[int, int]:
        """Half-open range of the other grid's voxels whose centres lie in own voxels low..high.

        Empty ranges are (0, 0).
        """
        found = np.flatnonzero((self.owners >= low) & (self.owners < high))
        return (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)


def parallel_axes(own: Geometry, other: Geometry) -> list[AxisMatch] | None:
    """Finds for each own axis the axis of another grid that is parallel to it.

    Axes count as parallel if, over the whole own grid, planes of one are planes of the other
    within a hundredth of the smaller voxel.

    Returns:
        One match per own array axis (k, j, i); None if the axes are not parallel.
    """
    grid = GridMap.between(own, other)
    ordered = grid.order()
    if ordered is None:
        return None
    # Anchored in the middle of the own grid: far away (the corner of a scan of the whole body)
    # a small angle would have grown.
    middle = (np.array(own.shape) - 1) / 2
    place = grid.apply(middle)
    matches = []
    for axis in range(3):
        along = ordered[0].index(axis)
        step = float(grid.matrix[along, axis])
        positions = middle[axis] + (np.arange(other.shape[along]) - place[along]) / step
        owners = nearest_voxel(positions).astype(np.int64)
        matches.append(AxisMatch(along, owners, float(place[along] - middle[axis] * step), step))
    return matches

"""Correspondence of the voxels of two grids whose axes are parallel, of any order and sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .geometry import TOLERANCE_VOXELS, Geometry


def nearest_voxel(positions: Any) -> Any:
    """Numbers of the voxels that positions lie in, as floats; positions count in voxels.

    The border between two voxels belongs to the second one, as where SimpleITK and VTK look up the
    nearest voxel; a tolerance makes that independent of the last digits of origin and spacing.
    """
    return np.floor(positions + 0.5 + TOLERANCE_VOXELS)


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
    # Other index = turn @ own index + shift, in (i, j, k).
    theirs = np.reshape(other.directions, (3, 3)) * other.spacing
    ours = np.reshape(own.directions, (3, 3)) * own.spacing
    turn = np.linalg.solve(theirs, ours)
    shift = np.linalg.solve(theirs, np.subtract(own.origin, other.origin))
    # Anchored in the middle of the own grid: far away (the corner of a scan of the whole body)
    # a small angle would have grown.
    middle = (np.array(own.size) - 1) / 2
    place = turn @ middle + shift
    lengths = np.abs(turn) * (np.linalg.norm(theirs, axis=0)[:, None])
    order = lengths.argmax(axis=0)
    if sorted(order) != [0, 1, 2]:
        return None
    matches = []
    for axis in (2, 1, 0):
        along = int(order[axis])
        step = float(turn[along, axis])
        aslant = [a for a in range(3) if a != axis]
        drift = sum(abs(turn[along, a]) * (own.size[a] - 1) for a in aslant)
        if drift > TOLERANCE_VOXELS * min(1.0, abs(step)):
            return None
        positions = middle[axis] + (np.arange(other.size[along]) - place[along]) / step
        matches.append(
            AxisMatch(
                2 - along,
                nearest_voxel(positions).astype(np.int64),
                float(place[along] - middle[axis] * step),
                step,
            )
        )
    return matches

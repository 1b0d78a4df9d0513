"""Maps voxel indices of one grid to those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .geometry import TOLERANCE_VOXELS, Geometry, Triple, triple


def nearest_voxel(positions: Any) -> Any:
    """Numbers of the voxels that positions lie in, as floats; positions count in voxels.

    The border between two voxels belongs to the second one, as where SimpleITK and VTK look up the
    nearest voxel; a tolerance makes that independent of the last digits of origin and spacing.
    """
    return np.floor(positions + 0.5 + TOLERANCE_VOXELS)


@dataclass(frozen=True)
class GridMap:
    """Affine map of the voxel indices (k, j, i) of one grid to those of another.

    Attributes:
        matrix: 3x3; column a is the step on the other grid for one voxel along array axis a.
        offset: Index on the other grid of this grid's voxel (0, 0, 0).
        own: Shape (k, j, i) of the grid that is mapped.
        other: Shape (k, j, i) of the grid that it is mapped to.
    """

    matrix: np.ndarray
    offset: np.ndarray
    own: Triple
    other: Triple

    @classmethod
    def between(cls, own: Geometry, other: Geometry) -> GridMap:
        """Map from one grid to another."""
        (to_space, start), (space, origin) = affine(own), affine(other)
        back = np.linalg.inv(space)
        return cls(back @ to_space, back @ (start - origin), own.shape, other.shape)

    def apply(self, indices: np.ndarray) -> np.ndarray:
        """Positions on the other grid, (n, 3), of voxel indices (k, j, i), (n, 3)."""
        return indices @ self.matrix.T + self.offset

    def order(self) -> tuple[Triple, tuple[bool, bool, bool]] | None:
        """The own array axis along each axis of the other grid, and True where it runs backwards.

        None where the axes of the grids are not parallel.
        """
        axes = np.abs(self.matrix).argmax(axis=1)
        if len(set(axes.tolist())) < 3:
            return None
        across = self.matrix.copy()
        across[range(3), axes] = 0
        steps = self.matrix[range(3), axes]
        # The drift sideways over the whole extent, in the smaller of the two voxels.
        drift = np.abs(across) @ (np.array(self.own) - 1)
        if (drift > TOLERANCE_VOXELS * np.minimum(1, np.abs(steps))).any():
            return None
        first, second, third = (bool(step < 0) for step in steps)
        return triple(axes.tolist()), (first, second, third)

    def whole(self) -> Placement | None:
        """The placement of this grid's voxels among the other's, where they are the same voxels.

        None where the voxels of the grids differ by more than `TOLERANCE_VOXELS`: flipped and
        permuted axes and a shift by whole voxels are all that may differ.
        """
        ordered = self.order()
        if ordered is None:
            return None
        axes, flips = ordered
        exact = np.zeros((3, 3))
        exact[range(3), axes] = [-1 if flip else 1 for flip in flips]
        start = np.round(self.offset)
        corners = np.array(list(product(*((0, n - 1) for n in self.own))), float)
        if np.abs(self.apply(corners) - corners @ exact.T - start).max() > TOLERANCE_VOXELS:
            return None
        low = [int(start[a]) - (self.own[axes[a]] - 1 if flips[a] else 0) for a in range(3)]
        return Placement(axes, flips, triple(low))

    def holders(self, points: np.ndarray) -> np.ndarray:
        """The other grid's voxels, int64 (n, 3), that points of this grid (k, j, i) lie in.

        See `nearest_voxel` for points on the border of two.
        """
        return nearest_voxel(self.apply(points)).astype(np.int64)

    def inverse(self) -> GridMap:
        """The map in the other direction."""
        back = np.linalg.inv(self.matrix)
        return GridMap(back, -back @ self.offset, self.other, self.own)


@dataclass(frozen=True)
class Placement:
    """The place of an array among the voxels of another grid.

    Attributes:
        axes: The own array axis along each axis of the other grid.
        flips: True for each axis of the other grid along which the array runs backwards.
        start: Index (k, j, i) on the other grid of the array's lowest corner.
    """

    axes: Triple
    flips: tuple[bool, bool, bool]
    start: Triple

    def turned(self, array: np.ndarray) -> np.ndarray:
        """A view of an array in the order of the other grid's axes."""
        view = array.transpose(self.axes)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def lies_within(self, own: Sequence[int], shape: Sequence[int]) -> bool:
        """Tells whether an array of the shape `own` lies wholly within a grid of another shape."""
        return all(
            lo >= 0 and lo + own[axis] <= n
            for lo, axis, n in zip(self.start, self.axes, shape, strict=True)
        )

    def overlap(
        self, array: np.ndarray, shape: Sequence[int]
    ) -> tuple[np.ndarray, tuple[slice, slice, slice]] | None:
        """The part of an array that lies within the other grid, and its place there.

        Args:
            array: (k, j, i), on the own grid.
            shape: Shape (k, j, i) of the other grid.

        Returns:
            A view in the order of the other grid's axes and an index expression for the other
            grid; None if they do not overlap.
        """
        view = self.turned(array)
        ranges = [
            (max(0, lo), min(whole, lo + n))
            for lo, n, whole in zip(self.start, view.shape, shape, strict=True)
        ]
        if any(begin >= end for begin, end in ranges):
            return None
        part = tuple(
            slice(begin - lo, end - lo) for (begin, end), lo in zip(ranges, self.start, strict=True)
        )
        k, j, i = (slice(begin, end) for begin, end in ranges)
        return view[part], (k, j, i)


def affine(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and origin that take an index (k, j, i) to the LPS position in mm.

    Column a of the matrix is the step in mm for one voxel along array axis a.
    """
    columns = np.array(geometry.directions).reshape(3, 3) * np.array(geometry.spacing)
    return columns[:, ::-1], np.array(geometry.origin)

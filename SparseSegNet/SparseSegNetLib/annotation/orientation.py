"""Orientation of voxel axes: which anatomical direction each follows, and arrays turned to others.

Volumes of one training set may be stored with their axes in other orders and directions. Turned to
one orientation, a structure lies the same way in all of them; voxels are only reordered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from .geometry import Geometry, Triple, triple
from .slices import AXES, AnnotatedSlice, array_axis

POSITIVE, NEGATIVE = "LPS", "RAI"  # anatomical directions along x, y, z of the LPS frame


def orientation_of(geometry: Geometry) -> str:
    """Nearest anatomical directions of i, j and k, such as 'LPS' for an identity matrix."""
    matrix = np.reshape(geometry.directions, (3, 3))
    return "".join(
        (POSITIVE if matrix[r, c] > 0 else NEGATIVE)[r] for c, r in enumerate(_nearest(geometry))
    )


def obliqueness(geometry: Geometry) -> float:
    """Largest angle between a voxel axis and the anatomical one that it is named by, degrees.

    At 45 degrees and above it may as well be named by another.
    """
    matrix = np.abs(np.reshape(geometry.directions, (3, 3)))
    lengths = np.sqrt((matrix**2).sum(axis=0))
    cosine = min(matrix[r, c] / lengths[c] for c, r in enumerate(_nearest(geometry)))
    return math.degrees(math.acos(min(1.0, float(cosine))))


def _nearest(geometry: Geometry) -> tuple[int, ...]:
    """Axis of the LPS frame that each of i, j and k is nearest to, all different."""
    matrix = np.reshape(geometry.directions, (3, 3))
    return max(
        permutations(range(3)), key=lambda rows: sum(abs(matrix[r, c]) for c, r in enumerate(rows))
    )


@dataclass(frozen=True)
class Turn:
    """A reordering of array axes (k, j, i) with reversals; its inverse turns back.

    Attributes:
        order: For each axis of the turned array the axis of the original one.
        reversed: For each axis of the turned array, whether it runs backwards.
    """

    order: Triple = (0, 1, 2)
    reversed: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def between(cls, own: str, wanted: str) -> Turn:
        """The turn from one orientation to another, both as `orientation_of` names them."""
        order, backwards = [], []
        for letter in reversed(wanted):  # along k, j, i
            axis = {NEGATIVE[n]: n for n in range(3)} | {POSITIVE[n]: n for n in range(3)}
            place = next(n for n, one in enumerate(own) if axis[one] == axis[letter])
            order.append(2 - place)
            backwards.append(own[place] != letter)
        return cls(triple(order), _flags(backwards))

    @property
    def identity(self) -> bool:
        """True if nothing is turned."""
        return self == Turn()

    def array(self, array: np.ndarray) -> np.ndarray:
        """A view of an array (..., k, j, i) with its last three axes turned."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return np.flip(turned, tuple(lead + n for n, back in enumerate(self.reversed) if back))

    def back(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `array`, a view."""
        return self.inverse.array(array)

    def shape(self, shape: Triple) -> Triple:
        """Shape (k, j, i) of the turned array of one of that shape."""
        return triple(shape[axis] for axis in self.order)

    def box(self, low: Triple, high: Triple, shape: Triple) -> tuple[Triple, Triple]:
        """The box [low, high) of an array of that shape (k, j, i), in the turned one."""
        ends = [
            (shape[axis] - high[axis], shape[axis] - low[axis]) if back else (low[axis], high[axis])
            for axis, back in zip(self.order, self.reversed, strict=True)
        ]
        return triple(a for a, _ in ends), triple(b for _, b in ends)

    @property
    def inverse(self) -> Turn:
        """The turn that undoes this one."""
        order = triple(self.order.index(axis) for axis in range(3))
        return Turn(order, _flags(self.reversed[place] for place in order))

    def slices(self, slices: Iterable[AnnotatedSlice], shape: Triple) -> list[AnnotatedSlice]:
        """Whole annotated slices of an array of that shape (k, j, i), in the turned one."""
        found = []
        for item in slices:
            axis = array_axis(item.axis)
            place = self.order.index(axis)
            index = shape[axis] - 1 - item.index if self.reversed[place] else item.index
            found.append(AnnotatedSlice(AXES[2 - place], index))
        return sorted(found)

    def geometry(self, geometry: Geometry) -> Geometry:
        """The grid of the turned array, at the same place in space."""
        matrix = np.reshape(geometry.directions, (3, 3))
        columns, corner = [], [0, 0, 0]
        for place in (2, 1, 0):  # i, j, k of the turned array
            column = 2 - self.order[place]
            columns.append((column, -1.0 if self.reversed[place] else 1.0))
            if self.reversed[place]:
                corner[column] = geometry.size[column] - 1
        directions = np.stack([matrix[:, c] * sign for c, sign in columns], axis=1)
        i, j, k = (column for column, _ in columns)
        size, spacing = geometry.size, geometry.spacing
        return Geometry(
            (size[i], size[j], size[k]),
            (spacing[i], spacing[j], spacing[k]),
            geometry.position(*corner),
            tuple(float(value) for value in directions.ravel()),
        )


def _flags(values: Iterable[bool]) -> tuple[bool, bool, bool]:
    k, j, i = values
    return k, j, i

"""Voxel grid of a volume: size, spacing, origin and directions, and comparison of two grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

Triple = tuple[int, int, int]


def triple(values: Iterable[int]) -> Triple:
    """Three numbers as a tuple of that length, for type checkers."""
    k, j, i = values
    return k, j, i


# Grids written by different programs differ in the last digits (NIfTI stores single precision):
# a position may be off by this share of a voxel before two grids count as different.
TOLERANCE_VOXELS = 1e-2
SHORTEST, LONGEST = 1e-12, 1e12  # mm, of spacing and origin: beyond them sums lose their digits
NIL = 1e-9  # beside which numbers of a grid are equal, whatever their last digits
FLAT = 1e-6  # least determinant of the directions


@dataclass(frozen=True)
class Geometry:
    """A voxel grid in the LPS frame (as in DICOM, NRRD files and SimpleITK).

    Attributes:
        size: Voxels along i, j, k.
        spacing: mm between voxel centres along i, j, k.
        origin: LPS position in mm of the centre of voxel (0, 0, 0).
        directions: 3x3 matrix, row by row; its columns are the unit vectors of i, j and k.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    directions: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (k, j, i)."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Spacing in mm in the order of the array's axes (k, j, i)."""
        return self.spacing[2], self.spacing[1], self.spacing[0]

    def fault(self) -> str | None:
        """Reason why this grid cannot be used, for a message; None if it can."""
        if any(n < 1 for n in self.size):
            return f"its size is {_times(self.size)} voxels: expected at least 1 along each axis"
        if not all(SHORTEST <= mm <= LONGEST for mm in self.spacing):
            return (
                f"its spacing is {_times(self.spacing)} mm: expected positive numbers from "
                f"{SHORTEST:g} to {LONGEST:g}"
            )
        if not all(abs(mm) <= LONGEST for mm in self.origin):
            return f"its origin is {_list(self.origin)} mm: expected finite numbers"
        if not all(abs(d) <= 2 for d in self.directions) or abs(self._determinant()) < FLAT:
            return (
                f"its directions are {_list(self.directions)}: expected three unit vectors "
                "that span space"
            )
        return None

    def _determinant(self) -> float:
        a, b, c, d, e, f, g, h, i = self.directions
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    def position(self, i: float, j: float, k: float) -> tuple[float, float, float]:
        """LPS position in mm of a voxel index."""
        steps = (i * self.spacing[0], j * self.spacing[1], k * self.spacing[2])
        x, y, z = (
            self.origin[row]
            + sum(self.directions[3 * row + column] * steps[column] for column in range(3))
            for row in range(3)
        )
        return x, y, z

    def cropped(self, low: Triple, high: Triple) -> Geometry:
        """The grid of the box [low, high) of array indices (k, j, i)."""
        k, j, i = low
        size = triple(b - a for a, b in zip(reversed(low), reversed(high), strict=True))
        return replace(self, size=size, origin=self.position(i, j, k))

    def difference(self, other: Geometry, tolerance: float = TOLERANCE_VOXELS) -> str | None:
        """Difference between two grids, for a message with both values; None if they agree.

        Grids agree if their sizes are equal and all their corners lie within `tolerance` of the
        smallest voxel edge of each other.
        """
        if self.size != other.size:
            return f"size {_times(self.size)} against {_times(other.size)} voxels"
        near = tolerance * min(*self.spacing, *other.spacing)
        ends = [(0, n - 1) for n in self.size]
        worst = max(
            math.dist(self.position(*end), other.position(*end)) for end in itertools.product(*ends)
        )
        if worst <= near:
            return None
        if any(
            not math.isclose(a, b, rel_tol=1e-4)
            for a, b in zip(self.spacing, other.spacing, strict=True)
        ):
            return f"spacing {_against(_times, self.spacing, other.spacing)} mm"
        if any(abs(a - b) > 1e-4 for a, b in zip(self.directions, other.directions, strict=True)):
            return f"directions {_against(_list, self.directions, other.directions)}"
        # Each of the three may be nearly equal and their sum not: the one that moves more is told.
        parts = {
            name: max(
                math.dist(self.position(*end), changed.position(*end))
                for end in itertools.product(*ends)
            )
            for name, changed in (
                ("origin", replace(self, origin=other.origin)),
                ("spacing", replace(self, spacing=other.spacing)),
                ("directions", replace(self, directions=other.directions)),
            )
        }
        name = max(parts, key=lambda part: parts[part])
        write = _times if name == "spacing" else _list
        unit = "" if name == "directions" else " mm"
        return (
            f"{name} {_against(write, getattr(self, name), getattr(other, name))}{unit} "
            f"(positions differ by up to {worst:.4g} mm)"
        )

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON; Python's floats survive it to the last bit."""
        return {"frame": "LPS", **{k: list(v) for k, v in asdict(self).items()}}

    @classmethod
    def from_json(cls, data: dict) -> Geometry:
        """Geometry from `to_json`'s dictionary.

        Raises:
            ValueError: It is in another frame than LPS.
        """
        if data.get("frame") != "LPS":
            raise ValueError(f"geometry in frame {data.get('frame')!r}, expected 'LPS'")
        return cls(
            triple(map(int, data["size"])),
            cast(tuple[float, float, float], tuple(map(float, data["spacing"]))),
            cast(tuple[float, float, float], tuple(map(float, data["origin"]))),
            tuple(map(float, data["directions"])),
        )


def _times(values: Iterable[float], digits: int = 6) -> str:
    return "x".join(f"{v:.{digits}g}" for v in values)


def _list(values: Iterable[float], digits: int = 6) -> str:
    return "(" + ", ".join(f"{v:.{digits}g}" for v in values) + ")"


def _against(
    write: Callable[[Iterable[float], int], str], own: Sequence[float], other: Sequence[float]
) -> str:
    """Two rows of numbers, with as many digits as every pair needs that differs visibly."""
    pairs = [(a, b) for a, b in zip(own, other, strict=True) if not math.isclose(a, b, abs_tol=NIL)]
    digits = next(
        (n for n in range(6, 17) if all(f"{a:.{n}g}" != f"{b:.{n}g}" for a, b in pairs)), 17
    )
    return f"{write(own, digits)} against {write(other, digits)}"

"""Annotated slices: planes of the voxel grid in which every voxel counts as labelled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from ..errors import InputError

AXES = "ijk"
Box = tuple[tuple[int, int], tuple[int, int]]


def array_axis(axis: str) -> int:
    """Axis of a (k, j, i) array along which slices of `axis` are counted: k -> 0, i -> 2."""
    return 2 - AXES.index(axis)


@dataclass(frozen=True, order=True)
class AnnotatedSlice:
    """The plane `axis` = `index` of the voxel grid, whole or restricted to an in-plane box.

    Attributes:
        axis: 'i', 'j' or 'k' (slices of constant i are sagittal in an unrotated scan, k axial).
        index: Voxel index along the axis, from 0.
        box: None, or half-open voxel ranges ((lo, hi), (lo, hi)) along the plane's own two axes
            in array order, that is (k, j) for an i slice, (k, i) for a j slice and (j, i) for a
            k slice.
        prefilled: True if its annotation began from a prediction, which was corrected then: its
            agreement with that prediction says little. Slices are compared without it.
    """

    axis: str
    index: int
    box: Box | None = None
    prefilled: bool = field(default=False, compare=False)

    @property
    def place(self) -> tuple[str, int]:
        """Axis and index, whatever the box."""
        return self.axis, self.index

    def selector(self) -> tuple[int | slice, ...]:
        """Index expression that picks this slice's voxels out of a (k, j, i) array."""
        plane: list[int | slice]
        plane = [slice(None)] * 2 if self.box is None else [slice(*r) for r in self.box]
        plane.insert(array_axis(self.axis), self.index)
        return tuple(plane)

    def __str__(self) -> str:
        box = "" if self.box is None else " in box " + "x".join(f"[{a},{b})" for a, b in self.box)
        return f"{self.axis}:{self.index}{box}"

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        out: dict = {"axis": self.axis, "index": self.index}
        if self.box is not None:
            out["box"] = [list(r) for r in self.box]
        if self.prefilled:
            out["prefilled"] = True
        return out

    @classmethod
    def from_json(cls, data: dict) -> AnnotatedSlice:
        """Slice from `to_json`'s dictionary."""
        box = data.get("box")
        ranges = None if box is None else tuple((int(a), int(b)) for a, b in box)
        place = str(data["axis"]), int(data["index"]), cast(Box | None, ranges)
        return cls(*place, prefilled=bool(data.get("prefilled")))


def check_slices(slices: Iterable[AnnotatedSlice], shape: Sequence[int]) -> None:
    """Raises InputError unless every slice (and its box) lies inside a (k, j, i) shape."""
    for item in slices:
        if item.axis not in tuple(AXES):
            raise InputError(f"slice {item}: the axis must be i, j or k.")
        axis = array_axis(item.axis)
        if not 0 <= item.index < shape[axis]:
            raise InputError(
                f"slice {item} lies outside the volume, which has {item.axis} slices "
                f"0 to {shape[axis] - 1}."
            )
        if item.box is not None:
            extent = [n for a, n in enumerate(shape) if a != axis]
            if any(not 0 <= lo < hi <= n for (lo, hi), n in zip(item.box, extent, strict=True)):
                raise InputError(
                    f"slice {item}: the box does not fit into a plane of "
                    f"{extent[0]}x{extent[1]} voxels."
                )


def crossing(
    slices: Iterable[AnnotatedSlice], low: Sequence[int], high: Sequence[int]
) -> list[AnnotatedSlice]:
    """The slices that cross the box [low, high) of (k, j, i), counted in it."""
    return [
        replace(item, index=item.index - low[axis])
        for item in slices
        if low[axis := array_axis(item.axis)] <= item.index < high[axis]
    ]


def parse_slices(texts: Iterable[str]) -> list[AnnotatedSlice]:
    """Reads slices written as ``k:10,20 i:5``; repeated ones count once, order is kept.

    ``none`` means that no slice is annotated completely.

    Raises:
        InputError: The text is of another form.
    """
    found: dict[AnnotatedSlice, None] = {}
    words = " ".join(texts).split()
    if words == ["none"]:
        return []
    for word in words:
        match = re.fullmatch(r"([ijkIJK])[:=](-?[0-9]{1,9}(?:,-?[0-9]{1,9})*)", word)
        if match is None:
            raise InputError(
                f"cannot read the slices '{word}': expected an axis and indices, "
                "such as k:10,20 or i:5, or none."
            )
        for index in match[2].split(","):
            found[AnnotatedSlice(match[1].lower(), int(index))] = None
    return list(found)


def format_slices(slices: Iterable[AnnotatedSlice]) -> str:
    """Writes slices as `parse_slices` reads them (boxes are left out): ``i:5 k:10,20``."""
    by_axis: dict[str, list[int]] = {}
    for item in sorted(slices):
        by_axis.setdefault(item.axis, []).append(item.index)
    return " ".join(f"{axis}:{','.join(map(str, by_axis[axis]))}" for axis in sorted(by_axis))


def in_slices(
    voxels: np.ndarray, slices: Iterable[AnnotatedSlice], shape: Sequence[int]
) -> np.ndarray:
    """Finds which voxels lie in slices.

    Args:
        voxels: Flat indices into an array (k, j, i).
        slices: The slices; of those restricted to a box the box alone.
        shape: The array's shape.

    Returns:
        Boolean, of the shape of `voxels`.
    """
    found = np.zeros(voxels.shape, bool)
    place = np.unravel_index(voxels, tuple(shape))
    for item in slices:
        axis = array_axis(item.axis)
        inside = place[axis] == item.index
        if item.box is not None:
            for other, (low, high) in zip(sorted({0, 1, 2} - {axis}), item.box, strict=True):
                inside = inside & (place[other] >= low) & (place[other] < high)
        found |= inside
    return found


def clear_voxels(
    plane: np.ndarray, item: AnnotatedSlice, voxels: np.ndarray, shape: Sequence[int]
) -> None:
    """Sets voxels of a slice to 0, in place.

    Args:
        plane: The voxels of `item` (two axes, in array order), of its box alone if it has one.
        item: The slice.
        voxels: Flat indices into an array (k, j, i), also of voxels elsewhere.
        shape: The array's shape.
    """
    inside = voxels[in_slices(voxels, [item], shape)]
    place = list(np.unravel_index(inside, tuple(shape)))
    del place[array_axis(item.axis)]
    low = [start for start, _ in item.box or ((0, 0), (0, 0))]
    plane[place[0] - low[0], place[1] - low[1]] = 0


def clear_crossing(plane: np.ndarray, item: AnnotatedSlice, other: AnnotatedSlice) -> None:
    """Sets the voxels of a slice that another slice holds too to 0, in place.

    Args:
        plane: The voxels of `item` (two axes, in array order), of its box alone if it has one.
        item: The slice.
        other: The other slice.

    Raises:
        ValueError: Both are the same slice.
    """
    axis, across = array_axis(item.axis), array_axis(other.axis)
    if axis == across:
        if item.index == other.index:
            raise ValueError(f"slice {item} is listed twice")
        return
    third = 3 - axis - across
    ranges = {axis: (item.index, item.index + 1), across: (other.index, other.index + 1)}
    if other.box is not None:
        inside = dict(zip(sorted({0, 1, 2} - {across}), other.box, strict=True))
        low, high = inside[axis]
        if not low <= item.index < high:
            return
        ranges[third] = inside[third]
    place = []
    own = item.box or tuple((0, n) for n in plane.shape)
    for each, (start, end) in zip(sorted({0, 1, 2} - {axis}), own, strict=True):
        low, high = ranges.get(each, (start, end))
        place.append(slice(max(low, start) - start, max(min(high, end), start) - start))
    plane[tuple(place)] = 0

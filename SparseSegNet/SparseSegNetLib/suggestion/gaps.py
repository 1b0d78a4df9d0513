"""Even spacing, one slice after the other: the middle of the largest gap, directions in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ..annotation.slices import AnnotatedSlice
from .sentences import listed
from .situation import Situation
from .suggested_slice import SuggestedSlice

FAR_END = 0.4  # of the extent, beyond the outermost slice: nearer ends are left to the scores
# Slices are evenly spread if the gap at an end is half of that between two: a slice in a gap at the
# end goes to a third of it.
NEAR_END = 3


def missing_direction(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """A slice of a direction of which none is drawn, where it shows most of the segments.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    missing = [axis for axis in axes if not situation.drawn(axis)]
    if not missing:
        return None
    # Of two the one that shows more; without knowledge axial slices, then coronal ones.
    known = {axis: situation.areas[axis].sum(axis=0) for axis in missing}
    axis = max(missing, key=lambda a: (float(known[a].max()), -_usual(situation.words[a].plane)))
    low, high = situation.extent(axis)
    middle = (low + high) // 2
    if known[axis].any():
        # The largest slice of them all, but near the middle, where it shows them all.
        near = np.arange(low + (high - low + 3) // 4, high - (high - low) // 4 + 1)
        near = near if len(near) else np.array([middle])
        row = known[axis][near]
        places = near[row >= row.max() * (1 - 1e-9)]
        middle = int(places[np.abs(places - middle).argmin()])
    plane = situation.words[axis].plane
    return SuggestedSlice(AnnotatedSlice(axis, middle), f"no {plane} slice is drawn yet")


def _usual(plane: str) -> int:
    usual = ("axial", "coronal", "sagittal")
    return usual.index(plane) if plane in usual else len(usual)


def object_end(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """A slice near an end of the object that lies far beyond the outermost drawn slice.

    Once two slices of a direction lie within the object: between slices it is interpolated, beyond
    them nothing holds.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    best: tuple[float, SuggestedSlice] | None = None
    for axis in axes:
        low, high = situation.extent(axis)
        size = high - low + 1
        inside = [n for n in situation.drawn(axis) if low <= n <= high]
        if len(inside) < 2:
            continue
        words = situation.words[axis]
        for word, beyond, sign, end in (
            (words.low, inside[0] - low, 1, low),
            (words.high, high - inside[-1], -1, high),
        ):
            item = AnnotatedSlice(axis, end + sign * round(beyond / NEAR_END))
            if beyond < FAR_END * size or not situation.free(axis)[item.index]:
                continue
            if best is None or beyond / size > best[0]:
                names = [n for n, p in zip(situation.names, situation.painted, strict=True) if p]
                whom = listed(names) if len(names) == 1 else "the segments"
                reason = f"the {word} end of {whom} lies far from any {words.plane} slice"
                best = beyond / size, SuggestedSlice(item, reason)
    return None if best is None else best[1]


def largest_gap(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """The middle of the largest gap in the extent of the object, directions in turn.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    extents = {axis: situation.extent(axis) for axis in axes}
    item = middle_of_largest_gap(situation, extents)
    if item is None:
        return None
    names = [n for n, painted in zip(situation.names, situation.painted, strict=True) if painted]
    of = f" of {names[0]}" if len(names) == 1 else ""
    plane = situation.words[item.axis].plane
    return SuggestedSlice(
        item,
        f"evenly spaced: the largest gap between {plane} slices{of}",
        situation.names.index(names[0]) + 1 if len(names) == 1 else None,
    )


def middle_of_largest_gap(
    situation: Situation, extents: Mapping[str, tuple[int, int]], least: float = 0.0
) -> AnnotatedSlice | None:
    """The middle of the largest gap along the axis with the fewest slices.

    Args:
        situation: What is drawn and predicted.
        extents: First and last slice between which there are gaps, of each axis that counts.
        least: Share of the extent that a gap has at least.
    """
    found = []
    for axis, (low, high) in extents.items():
        inside = [n for n in situation.drawn(axis) if low <= n <= high]
        free = situation.free(axis)
        for size, index in gaps(inside, low, high):
            if free[index] and size >= least * (high - low + 1):
                key = (-len(inside), size * situation.spacing[axis])
                found.append((key, AnnotatedSlice(axis, index)))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def evenly_added(drawn: Sequence[int], low: int, high: int, count: int) -> list[int]:
    """Slices that even spacing would add along an axis, one after the other.

    Args:
        drawn: Slices that are annotated.
        low: First slice of the object.
        high: Its last slice.
        count: Number of slices.

    Returns:
        At most `count` indices, fewer where every slice of the object is taken.
    """
    taken, found = set(drawn), list[int]()
    while len(found) < count:
        inside = sorted(n for n in taken if low <= n <= high)
        free = [(size, -index) for size, index in gaps(inside, low, high) if index not in taken]
        if not free:
            break
        found.append(-max(free)[1])
        taken.add(found[-1])
    return found


def gaps(inside: Sequence[int], low: int, high: int) -> list[tuple[float, int]]:
    """Sizes of gaps between slices, those at the ends twice, and the index of a slice in each.

    Args:
        inside: Sorted indices of the slices between `low` and `high`.
        low: First slice of the object.
        high: Its last slice.
    """
    if not inside:
        return [(high - low + 1.0, (low + high) // 2)]
    first, last = inside[0] - low, high - inside[-1]
    return [
        (2.0 * first, low + round(first / NEAR_END)),
        (2.0 * last, high - round(last / NEAR_END)),
        *((b - a, (a + b) // 2) for a, b in pairwise(inside)),
    ]

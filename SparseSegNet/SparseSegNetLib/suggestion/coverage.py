"""Rules on segments that too few slices show: each in two, if possible of two directions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..annotation.slices import AnnotatedSlice
from .gaps import middle_of_largest_gap
from .sentences import are, listed
from .situation import Situation
from .suggested_slice import SuggestedSlice

PARALLEL = 0.5  # worth of a slice in the direction of the one that shows the segment already
CUT = 0.5  # of a segment's largest slice: with less the sentence does not name it
NEW_DIRECTION = 1.25  # worth of a slice in a direction of which there is none
FINE_GAP = 0.3  # of the volume: where gaps are smaller, what is not seen is not there


def drawn_nowhere(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """A slice for a segment that is drawn nowhere.

    In the slice that shows most of it where a prediction knows it, else in the middle of the
    largest gap of the volume until there are no large ones left.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    missing = [n for n, painted in enumerate(situation.painted) if not painted]
    missing = [n for n in missing if not situation.shown[n]]
    if not missing:
        return None
    names = [situation.names[n] for n in missing]
    reason = f"{listed(names)} {are(names)} not drawn yet"
    foreseen = [n for n in missing if situation.areas["k"][n].any()]
    if foreseen:
        item = _best(situation, foreseen, axes)
    else:
        whole = {axis: (0, situation.count(axis) - 1) for axis in axes}
        item = middle_of_largest_gap(situation, whole, FINE_GAP)
    return None if item is None else SuggestedSlice(item, reason, missing[0] + 1)


def in_one_slice(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """A second slice for segments that only one shows, the slice that shows most of them.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    few = [
        n
        for n, slices in enumerate(situation.shown)
        if len(slices) < 2 and (slices or situation.painted[n])
    ]
    return _for(situation, few, axes, "in one slice only")


def in_one_direction(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
    """A slice of a second direction for segments that slices of one alone show.

    Args:
        situation: What is drawn and predicted.
        axes: The axes that a slice may have.
    """
    found = {}
    for n, slices in enumerate(situation.shown):
        directions = {item.axis for item in slices}
        if len(directions) == 1:
            found[n] = directions.pop()
    for axis in sorted(set(found.values())):
        few = [n for n, own in found.items() if own == axis]
        others = [one for one in axes if one != axis]
        which = f"in {situation.words[axis].plane} slices only"
        if (suggested := _for(situation, few, others, which)) is not None:
            return suggested
    return None


def _for(
    situation: Situation, segments: Sequence[int], axes: Iterable[str], which: str
) -> SuggestedSlice | None:
    """The slice that shows most of these segments. which: in what slices they are."""
    if not segments or (item := _best(situation, segments, axes)) is None:
        return None
    shares = {n: _shares(situation, item.axis, n)[item.index] for n in segments}
    first = max(segments, key=lambda n: shares[n])
    names = [situation.names[n] for n in segments if shares[n] >= CUT or n == first]
    return SuggestedSlice(item, f"{listed(names)} {are(names)} {which}", first + 1)


def _best(
    situation: Situation, segments: Sequence[int], axes: Iterable[str]
) -> AnnotatedSlice | None:
    """The free slice that shows most of these segments."""
    best: tuple[AnnotatedSlice, float] | None = None
    for axis in axes:
        worth = np.zeros(situation.count(axis))
        for n in segments:
            own = {item.axis for item in situation.shown[n]}
            worth += _shares(situation, axis, n) * (PARALLEL if own == {axis} else 1.0)
        worth *= situation.free(axis)
        if not situation.drawn(axis):
            worth *= NEW_DIRECTION
        # Of equal ones the middle one.
        places = np.flatnonzero(worth >= worth.max() * (1 - 1e-9))
        index = int(places[len(places) // 2])
        if worth[index] > 0 and (best is None or worth[index] > best[1]):
            best = AnnotatedSlice(axis, index), float(worth[index])
    return None if best is None else best[0]


def _shares(situation: Situation, axis: str, segment: int) -> np.ndarray:
    """Area of a segment in each slice of an axis, as a share of the largest one."""
    row = situation.areas[axis][segment]
    return row / max(float(row.max()), 1e-9)

"""The next slices to draw: rules first, then the model (ClaSP PE and nnActive, 2025 and 2026).

Each segment in two slices, if possible of two directions; the three directions in turn; an end of
the object that lies far from the slices within it; then the slice of which the model is most unsure
for the effort. A single segment gets even spacing, than which uncertainty was no better within one
volume (Zhang 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.slices import AXES, AnnotatedSlice
from .coverage import drawn_nowhere, in_one_direction, in_one_slice
from .gaps import largest_gap, missing_direction, object_end
from .scores import most_uncertain
from .situation import Situation
from .slice_profiles import SliceProfiles
from .suggested_slice import SuggestedSlice

Rule = Callable[[Situation, Sequence[str]], SuggestedSlice | None]


def suggest_slices(
    labels: np.ndarray,
    slices: Sequence[AnnotatedSlice],
    names: Sequence[str],
    geometry: Geometry,
    profiles: SliceProfiles | None = None,
    count: int = 3,
    seed: int = 0,
) -> list[SuggestedSlice]:
    """Suggests slices to draw next, the most useful first.

    Suggestions of one call differ in direction where possible, and none lies nearer to a drawn
    slice than slices show nearly the same.

    Args:
        labels: The annotation, uint8 (k, j, i): 0 background, 1..K, 255 unlabelled.
        slices: The annotated slices.
        names: Of the segments 1..K.
        geometry: The volume's grid.
        profiles: Of the newest prediction; None before there is one.
        count: Number of slices at most.
        seed: Of the noise on the scores; the same seed and annotation give the same slices.

    Returns:
        At most `count` slices; none where no place is left.
    """
    situation = Situation.of(labels, slices, names, geometry, profiles)
    found: list[SuggestedSlice] = []
    while len(found) < count:
        used = {one.slice.axis for one in found[len(found) // 3 * 3 :]}
        fresh = [axis for axis in AXES if axis not in used]
        suggested = _first(situation, fresh, seed) or _first(situation, AXES, seed)
        if suggested is None:
            break
        found.append(suggested)
        situation = situation.with_slice(suggested.slice)
    return found


def _first(situation: Situation, axes: Sequence[str], seed: int) -> SuggestedSlice | None:
    """The suggestion of the first rule that has one."""
    if not axes:
        return None

    def score(situation: Situation, axes: Sequence[str]) -> SuggestedSlice | None:
        return most_uncertain(situation, axes, seed)

    coverage: list[Rule] = [drawn_nowhere, in_one_slice, missing_direction]
    then: list[Rule] = [largest_gap]
    if len(situation.names) > 1:
        coverage, then = [*coverage, in_one_direction], [object_end, score, largest_gap]
    tries = [(rule, axes) for rule in coverage]
    tries += [(rule, turn) for turn in _in_turn(situation, axes) for rule in then]
    found = (rule(situation, chosen) for rule, chosen in tries)
    return next((one for one in found if one is not None), None)


def _in_turn(situation: Situation, axes: Sequence[str]) -> list[list[str]]:
    """Axes in groups, those with the fewest drawn slices first."""
    counts = {axis: len(situation.drawn(axis)) for axis in axes}
    return [[a for a in axes if counts[a] == count] for count in sorted(set(counts.values()))]

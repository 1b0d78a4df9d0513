"""The score of a slice: what the model is unsure of there, against what is to be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..annotation.slices import AXES, AnnotatedSlice
from .extents import extent
from .gaps import NEAR_END
from .sentences import place_within
from .situation import Situation
from .suggested_slice import SuggestedSlice

# Of the logarithm of the score, at the third slice; it decays with the number of slices, so that
# choices differ at first and follow the model later (ClaSP PE, 2026).
NOISE = 0.3
FIRST = 3
SPREAD = 0.5  # power of the distance to the nearest drawn slice
# Contours of a middling slice that every slice costs beside its own: to find, jump to and check.
EFFORT = 3.0


def most_uncertain(situation: Situation, axes: Sequence[str], seed: int) -> SuggestedSlice | None:
    """The slice with the best score.

    Args:
        situation: What is drawn and predicted, with profiles.
        axes: The axes that a slice may have.
        seed: Of the noise.
    """
    if situation.profiles is None:
        return None
    scores = slice_scores(situation, seed)
    best: tuple[float, AnnotatedSlice] | None = None
    for axis in axes:
        index = int(scores[axis].argmax())
        if scores[axis][index] > 0 and (best is None or scores[axis][index] > best[0]):
            best = float(scores[axis][index]), AnnotatedSlice(axis, index)
    if best is None:
        return None
    item = best[1]
    segment = int(_balanced(situation, item.axis)[:, item.index].argmax())
    ends = extent(situation.areas[item.axis][segment])
    place = "near"
    if ends is not None and ends[1] > ends[0]:
        share = (item.index - ends[0]) / (ends[1] - ends[0])
        place = place_within(share, situation.words[item.axis])
    reason = f"the model is unsure {place} {situation.names[segment]}"
    return SuggestedSlice(item, reason, segment + 1)


def slice_scores(situation: Situation, seed: int) -> dict[str, np.ndarray]:
    """Scores (slices,) for i, j and k; 0 where a slice is not free or nothing is unsure.

    Args:
        situation: What is drawn and predicted, with profiles.
        seed: Of the noise.
    """
    profiles = situation.profiles
    assert profiles is not None
    noise = NOISE / max(1, len(situation.slices) - FIRST + 1)
    random = np.random.default_rng((seed, len(situation.slices)))
    middling = _middling(np.concatenate([profiles.contours(axis) for axis in AXES]))
    found = {}
    for axis in AXES:
        worth = _balanced(situation, axis).sum(axis=0) * _apart(situation, axis) ** SPREAD
        effort = profiles.contours(axis) + EFFORT * middling
        worth = worth / effort * np.exp(noise * random.standard_normal(len(worth)))
        found[axis] = np.where(situation.free(axis), worth, 0.0)
    return found


def _apart(situation: Situation, axis: str) -> np.ndarray:
    """Distance (slices,) of each slice to the nearest drawn one, as a share of the extent.

    The ends of the extent count as drawn, twice as far away: where nothing else is known this is
    even spacing, and no slice at the very end is chosen, which shows next to nothing.
    """
    low, high = situation.extent(axis)
    places = np.arange(situation.count(axis))
    ends = np.minimum(places - low, high - places).clip(0) * situation.spacing[axis]
    size = (high - low + 1) * situation.spacing[axis]
    return np.minimum(np.minimum(situation.distances(axis), (NEAR_END - 1) * ends) / size, 1.0)


def _middling(contours: np.ndarray) -> float:
    """Contours of a middling slice of those that have any."""
    some = contours[contours > 0]
    return float(np.median(some)) if len(some) else 1.0


def _balanced(situation: Situation, axis: str) -> np.ndarray:
    """Uncertainty (K, slices) of an axis, each segment's against its size.

    A slice counts for those beside it as far as they show the same, and not for what drawn slices
    beside it show.
    """
    profiles = situation.profiles
    assert profiles is not None
    rows = profiles.uncertainty(axis).astype(float)
    sizes = profiles.areas(axis).sum(axis=1, keepdims=True)
    rows = np.divide(rows, sizes, out=np.zeros_like(rows), where=sizes > 0)
    length = situation.length / situation.spacing[axis]
    if length > 0:
        near = np.exp(-0.5 * (situation.distances(axis) / situation.length) ** 2)
        rows = ndimage.gaussian_filter1d(rows, length / 2, axis=1, mode="constant")
        rows = rows * (1 - near)
    return rows

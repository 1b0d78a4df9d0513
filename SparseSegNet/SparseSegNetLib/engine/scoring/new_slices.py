"""Scores of newly drawn slices against the prediction that stood before them.

Whoever draws a slice tests the model on what it has not seen, before it learns from it (test, then
train: prequential evaluation, Dawid 1984).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..compute.metrics import overlap
from ..stacking.folds import COMPLETE


def score_new_slices(
    predicted: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    slices: Sequence[AnnotatedSlice],
    known: Sequence[tuple[str, int]],
    segments: int,
) -> list[dict]:
    """Scores slices that were drawn since.

    Args:
        predicted: uint8 (k, j, i), the prediction that stood before.
        before: uint8 (k, j, i), the labels that it was made from; 255 = unlabelled.
        now: uint8 (k, j, i), the labels.
        slices: The annotated slices now.
        known: Axis and index of those that were annotated before.
        segments: Number of segments.

    Returns:
        Dictionaries with axis, index, iou (per segment; None if it is neither drawn nor predicted
        there) and prefilled.
    """
    found = []
    for item in slices:
        if item.place in known:
            continue
        drawn, old, guess = (a[item.selector()] for a in (now, before, predicted))
        new = (drawn != UNLABELLED) & (old == UNLABELLED) & (guess != UNLABELLED)
        if np.count_nonzero(drawn != UNLABELLED) < COMPLETE * drawn.size or not new.any():
            continue
        rows = overlap(guess, drawn, segments, new)
        found.append(
            {
                "axis": item.axis,
                "index": item.index,
                "iou": [None if r["iou"] is None else round(r["iou"], 4) for r in rows],
                "prefilled": item.prefilled,
            }
        )
    return found

"""Overlap of two label arrays, per class, on chosen voxels. numpy alone: torch is not needed."""

from __future__ import annotations

import math

import numpy as np


def overlap(
    prediction: np.ndarray, truth: np.ndarray, classes: int, mask: np.ndarray | None = None
) -> list[dict]:
    """IoU = TP / (TP + FN + FP) (Cicek 2016) and Dice = 2 TP / (2 TP + FN + FP) per segment.

    prediction, truth: integer arrays of one shape.  classes: K; labels 1..K are scored.
    mask: optional boolean array; only voxels where it holds count.
    Returns K dictionaries with iou, dice (None when the class is in neither array) and voxels
    (of the class in `truth`).
    """
    if mask is not None:
        prediction, truth = prediction[mask], truth[mask]
    rows = []
    for value in range(1, classes + 1):
        p, t = prediction == value, truth == value
        both, either, size = int((p & t).sum()), int((p | t).sum()), int(t.sum())
        rows.append(
            {
                "iou": both / either if either else None,
                "dice": 2 * both / (either + both) if either else None,
                "voxels": size,
            }
        )
    return rows


def mean(values) -> float | None:
    """Mean of the values that are there (None is left out); None when there is none."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else None

"""Overlap of two label arrays, per class, on chosen voxels. numpy alone: torch is not needed."""

from __future__ import annotations

import math

import numpy as np


def overlap(
    prediction: np.ndarray, truth: np.ndarray, classes: int, mask: np.ndarray | None = None
) -> list[dict]:
    """IoU = TP / (TP + FN + FP) (Cicek 2016) and Dice = 2 TP / (2 TP + FN + FP) per segment.

    Args:
        prediction: Integer array.
        truth: Integer array of the same shape.
        classes: K; labels 1..K are scored.
        mask: Boolean array of the voxels that count; None for all.

    Returns:
        K dictionaries with iou, dice (None when the class is in neither array) and voxels (of the
        class in `truth`).
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
    """Mean of the values without None; None when there are no others."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else None

"""Best estimate and 80 % interval of an overlap, from the residuals of our own benchmark.

Few slices are few independent pieces, so neither the voxels nor the slices of one volume give an
interval. As in conformal quality control across images (Wundram 2024) the benchmark's cases
calibrate it: for each of them both estimates and the true IoU are known. It holds for volumes like
those of the benchmark. `Testing/Benchmark/score_intervals.py` makes the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .interval_table import (
    HIGH,
    INTERCEPT,
    LOW,
    NEAR_INTERCEPT,
    NEAR_WEIGHTS,
    SLICES,
    WEIGHTS,
)

EDGE = 0.005  # estimates are kept so far from 0 and 1


def best_estimate(folds: float, plug_in: float) -> float:
    """The best estimate of an IoU, from that of the folds and that of the probabilities."""
    return best_line(folds, plug_in, INTERCEPT, WEIGHTS)


def best_near_estimate(folds: float, plug_in: float) -> float:
    """The same of the share of a border that lies within one voxel of the true one."""
    return best_line(folds, plug_in, NEAR_INTERCEPT, NEAR_WEIGHTS)


def best_line(folds: float, plug_in: float, intercept: float, weights: Sequence[float]) -> float:
    """Combines two estimates, 0 to 1, linearly in their logits."""
    pair = (logit(folds), logit(plug_in))
    return expit(intercept + sum(w * v for w, v in zip(weights, pair, strict=True)))


def interval(estimate: float, slices: int) -> tuple[float, float]:
    """The 80 % interval of an IoU.

    Args:
        estimate: The best estimate.
        slices: Number of annotated slices.
    """
    return interval_between(estimate, slices, SLICES, (LOW, HIGH))


def interval_between(
    estimate: float,
    slices: int,
    numbers: Sequence[int],
    quantiles: tuple[Sequence[float], Sequence[float]],
) -> tuple[float, float]:
    """An interval from quantiles of residuals in logits.

    Args:
        estimate: The best estimate.
        slices: Number of annotated slices.
        numbers: Numbers of slices for which there are quantiles; between them they are linear in
            its logarithm.
        quantiles: The lower and the upper ones, for each number.
    """
    at = np.log(max(1, slices))
    low, high = (float(np.interp(at, np.log(numbers), values)) for values in quantiles)
    middle = logit(estimate)
    return expit(middle + low), expit(middle + high)


def logit(value: float) -> float:
    """Logarithm of the odds; of values nearer than EDGE to 0 or 1 that of EDGE."""
    value = min(max(value, EDGE), 1 - EDGE)
    return math.log(value / (1 - value))


def expit(value: float) -> float:
    """The value whose logarithm of the odds this is."""
    return 1 / (1 + math.exp(-value))

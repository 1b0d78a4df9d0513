"""Best estimate and 80 % interval of an overlap, from the residuals of our own benchmark.

Few slices are few independent pieces, so neither the voxels nor the slices of one volume give an
interval. As in conformal quality control across images (Wundram 2024) the benchmark's cases
calibrate it: for each of them both estimates and the true IoU are known. It holds for volumes like
those of the benchmark. `Testing/Benchmark/score_intervals.py` makes the table.
"""

from __future__ import annotations

import math

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
    return combined(folds, plug_in, INTERCEPT, WEIGHTS)


def best_near_estimate(folds: float, plug_in: float) -> float:
    """The same of the share of a border that lies within one voxel of the true one."""
    return combined(folds, plug_in, NEAR_INTERCEPT, NEAR_WEIGHTS)


def combined(folds: float, plug_in: float, intercept: float, weights: tuple[float, ...]) -> float:
    """Combines two estimates, 0 to 1, linearly in their logits."""
    pair = (logit(folds), logit(plug_in))
    return expit(intercept + sum(w * v for w, v in zip(weights, pair, strict=True)))


def interval(estimate: float, slices: int) -> tuple[float, float]:
    """The 80 % interval of an IoU.

    Args:
        estimate: The best estimate.
        slices: Number of annotated slices.
    """
    middle = logit(estimate)
    return tuple(expit(middle + _between(slices, table)) for table in (LOW, HIGH))


def _between(slices: int, table: tuple[float, ...]) -> float:
    """A value of the table for a number of slices, linear in its logarithm."""
    at = math.log(max(1, slices))
    places = [math.log(n) for n in SLICES]
    if at <= places[0]:
        return table[0]
    for n in range(1, len(places)):
        if at <= places[n]:
            share = (at - places[n - 1]) / (places[n] - places[n - 1])
            return table[n - 1] + share * (table[n] - table[n - 1])
    return table[-1]


def logit(value: float) -> float:
    """Logarithm of the odds; of values nearer than EDGE to 0 or 1 that of EDGE."""
    value = min(max(value, EDGE), 1 - EDGE)
    return math.log(value / (1 - value))


def expit(value: float) -> float:
    """The value whose logarithm of the odds this is."""
    return 1 / (1 + math.exp(-value))

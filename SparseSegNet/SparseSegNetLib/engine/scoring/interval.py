"""Best estimate and 80 % interval of an overlap, from the residuals of our own benchmark.

Few slices are few independent pieces, so neither the voxels nor the slices of one volume give an
interval. As in conformal quality control across images (Wundram 2024) the benchmark's cases
calibrate it: for each of them both estimates and the true IoU are known. It holds for volumes like
those of the benchmark. `Testing/Benchmark/score_intervals.py` makes the table.
"""

from __future__ import annotations

import math

from .interval_table import HIGH, INTERCEPT, LOW, SLICES, WEIGHTS

EDGE = 0.005  # estimates are kept so far from 0 and 1


def best_estimate(folds: float, plug_in: float) -> float:
    """The best estimate of an IoU, from that of the folds and that of the probabilities."""
    pair = (_logit(folds), _logit(plug_in))
    return _expit(INTERCEPT + sum(w * v for w, v in zip(WEIGHTS, pair, strict=True)))


def interval(estimate: float, slices: int) -> tuple[float, float]:
    """The 80 % interval of an IoU.

    Args:
        estimate: The best estimate.
        slices: Number of annotated slices.
    """
    middle = _logit(estimate)
    return tuple(_expit(middle + _between(slices, table)) for table in (LOW, HIGH))


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


def _logit(value: float) -> float:
    value = min(max(value, EDGE), 1 - EDGE)
    return math.log(value / (1 - value))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))

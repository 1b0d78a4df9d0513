"""Learning-rate schedules."""

from __future__ import annotations

import math

from ..plan import Plan

WARM_UP = 0.05  # share of the training


def schedule(fraction: float) -> float:
    """Learning rate over its peak: a short warm-up, then half a cosine down to 1 %."""
    if fraction < WARM_UP:
        return 0.1 + 0.9 * fraction / WARM_UP
    done = (fraction - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def planned_rate(plan: Plan, fraction: float, steps: int) -> float:
    """The learning rate of a plan at a share of the training, after so many steps."""
    if plan.drop_every is None:
        return plan.learning_rate * schedule(fraction)
    return plan.learning_rate * (0.1 ** (steps // plan.drop_every) if plan.drop_every else 1.0)


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """Learning rate over its peak and Adam's first beta (Smith and Topin 2019).

    The rate goes up from 1/25 in the first 30 %, then down to nearly nothing, while beta goes the
    other way, 0.95 to 0.85.
    """

    def between(start: float, end: float, part: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))

    peak = 0.3 * steps - 1
    if step <= peak:
        return between(0.04, 1, step / peak), between(0.95, 0.85, step / peak)
    part = (step - peak) / (steps - 1 - peak)
    return between(1, 4e-6, part), between(0.85, 0.95, part)

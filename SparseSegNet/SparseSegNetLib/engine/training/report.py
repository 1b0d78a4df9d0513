"""Reports of a training's steps, and criteria for its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Report:
    """State of a training after a step.

    Attributes:
        step: Steps taken.
        loss: Mean over the last steps, or None.
        fraction: Share of the training that is done, 0 to 1.
        phase: Phase.HELD_OUT or Phase.ALL_SLICES of a training.
        held_out: One dictionary per segment after the held-out slices were scored.
        recovered: A message about what was made smaller when memory ran out in this step.
    """

    step: int
    loss: float | None
    fraction: float
    phase: str
    held_out: list[dict] | None = None
    recovered: str | None = None


def by_steps(count: int) -> Callable[[int], float]:
    """Makes the `done` of `Trainer.train` for a number of steps."""
    return lambda steps: steps / count


def by_time(seconds: float) -> Callable[[int], float]:
    """Makes the `done` of `Trainer.train` for some seconds from now."""
    begun = time.monotonic()
    return lambda steps: (time.monotonic() - begun) / seconds

"""The measured probe: how fast is this network, on this device, with this data?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .device import precisions, synchronize
from .inference import OVERLAP, tile_starts
from .plan import Fingerprint, Plan, make_plan, working_shape
from .preprocess import WorkingVolume
from .trainer import Trainer

# Network widths, and how many steps a training must have for the width to pay: with fewer steps a
# narrower network gives better masks (Testing/Benchmark/RESULTS.md).
WIDTHS = ((32, 800), (24, 500), (16, 120), (8, 0))
MIDDLE = 16
PREDICTION_SHARE = 0.2  # of the time budget, at most


@dataclass
class Measured:
    seconds_per_step: float
    seconds_per_tile: float


def measure(plan: Plan, volume: WorkingVolume, classes: int,
            check: Callable[[], None] = lambda: None) -> Measured:
    """Time a training step and the prediction of one tile with the real data.

    check: called in between; it may raise to break off.
    """
    device = volume.image.device
    trainer = Trainer(plan, [volume], classes, None, seed=0)
    trainer.step(0.0)  # the first step also allocates and lets the libraries choose kernels
    check()
    per_step = _timed(lambda: trainer.step(0.0), device)
    check()
    predictor = trainer.predictor()
    high = [min(t, n) for t, n in zip(plan.tile, volume.shape, strict=True)]
    per_tile = _timed(lambda: predictor.probabilities(volume, high=high), device)
    check()
    return Measured(per_step, per_tile)


def _timed(action: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    begun = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - begun


def tiles(plan: Plan) -> int:
    """How many tiles a prediction of the whole working volume takes."""
    return math.prod(len(tile_starts(n, t, OVERLAP))
                     for n, t in zip(plan.shape, plan.tile, strict=True))


def settle(print_: Fingerprint, make_volume: Callable[[tuple], WorkingVolume],
           device: torch.device, seconds: float, most_voxels: float,
           check: Callable[[], None] = lambda: None) -> tuple[Plan, WorkingVolume]:
    """The plan for a time budget, from measurements on the device.

    make_volume: makes the working volume of a given shape.  seconds: what is left of the budget.
    most_voxels: what fits into memory.  Returns the plan and its working volume.
    """
    shape = working_shape(print_.shape, print_.spacing, most_voxels)
    volume = make_volume(shape)
    check()

    def timed(width: int, dtype: str) -> tuple[Plan, Measured]:
        plan = replace(make_plan(print_, device.type, width, shape), dtype=dtype)
        return plan, measure(plan, volume, print_.classes, check)

    trials = [timed(MIDDLE, dtype) for dtype in precisions(device)]
    plan, found = min(trials, key=lambda trial: trial[1].seconds_per_step)
    long = found.seconds_per_tile * tiles(plan) / (PREDICTION_SHARE * seconds)
    if long > 1:
        shape = working_shape(print_.shape, print_.spacing, math.prod(shape) / long)
        volume = make_volume(shape)
        plan, found = timed(MIDDLE, plan.dtype)
    steps = seconds / found.seconds_per_step
    for width, wanted in WIDTHS:
        # The cost grows with the width to a power between one (memory) and two (arithmetic):
        # a first guess says what is worth measuring.
        if steps * (MIDDLE / width) ** 1.3 < wanted:
            continue
        if width == MIDDLE:
            break
        trial, timing = timed(width, plan.dtype)
        if seconds / timing.seconds_per_step >= wanted:
            plan, found = trial, timing
            break
    # Half more than was timed allows for blending, writing and other programs.
    return replace(plan, seconds_per_step=found.seconds_per_step,
                   seconds_to_predict=1.5 * found.seconds_per_tile * tiles(plan)), volume

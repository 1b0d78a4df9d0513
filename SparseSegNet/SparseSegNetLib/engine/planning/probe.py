"""The measured probe: the speed of a network on this device with this data, and a plan for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice, array_axis
from ...runfolder.options import Options
from ..compute.allocation import free_memory, most_allocated
from ..compute.boxes import box_within, working_shape
from ..compute.number_formats import candidate_formats, channels_last, fastest_format, tried
from ..compute.timing import seconds_taken
from ..data.preprocessing import WorkingVolume
from ..networks import build
from ..plan import Fingerprint, Plan
from ..prediction.inference import Predictor
from ..prediction.tiling import plan_starts
from ..training.trainer import Trainer
from .auto_plan import BATCHES, make_plan
from .recipes import published_plan
from .sizes import NETWORK_SHARE, Measured, Size, fitted, guessed_seconds, settled, sizes_on

# Network widths, and how many steps a training must have for the width to pay: with fewer steps a
# narrower network gives better masks (docs/lab/ablation.md).
WIDTHS = ((32, 800), (24, 500), (16, 120), (8, 0))
MIDDLE = 16
TIMED_VOXELS = 48**3
PREDICTION_SHARE = 0.2  # of the time budget, at most
# Half more than was timed allows for blending, writing and other programs.
ALLOWANCE = 1.5
# A training step costs about three forward passes, one of them in the forward direction.
STEP_PER_FORWARD = 3.0
TILE_MEMORY = 2500.0  # bytes per voxel of a tile of `fcn3d` while predicting (computed)


def measure(
    plan: Plan, volume: WorkingVolume, classes: int, check: Callable[[], None] = lambda: None
) -> Measured:
    """Measures a training step and the prediction of one tile with the real data.

    Args:
        plan: The plan to measure.
        volume: The working volume without priors.
        classes: Labels with background.
        check: Called in between; it may raise to stop.
    """
    device = volume.image.device
    trainer = Trainer(plan, [volume], classes, None, seed=0)
    step_memory = most_allocated(device)
    # The first step also allocates, shrinks what does not fit and lets libraries choose kernels.
    trainer.step_or_shrink(0.0)
    check()
    per_step = seconds_taken(lambda: trainer.step_or_shrink(0.0), device)
    taken_by_step, tile_memory = step_memory(), most_allocated(device)
    check()
    predictor = trainer.predictor()
    whole = [min(t, n) for t, n in zip(plan.tile, volume.shape, strict=True)]
    # A piece of a large tile says as much, in a fraction of the time.
    high = whole if device.type != "cpu" else box_within(whole, plan.spacing, TIMED_VOXELS)
    per_piece = seconds_taken(lambda: predictor.probabilities(trainer.target, high=high), device)
    check()
    per_tile = per_piece * math.prod(whole) / math.prod(high)
    return Measured(per_step, per_tile, trainer.plan, taken_by_step, tile_memory())


def tiles(plan: Plan, across: tuple[int, ...] = (0,)) -> int:
    """Number of tiles that a prediction of the whole working volume takes.

    Args:
        plan: The plan.
        across: For a network that works on slices, the axes that it works along.
    """
    size = [t - 2 * m for t, m in zip(plan.tile, plan.margin, strict=True)]
    total = 0
    for axis in across if plan.planar else (0,):
        shape = (plan.shape[axis], *(n for a, n in enumerate(plan.shape) if a != axis))
        total += math.prod(map(len, plan_starts(plan, shape, size)))
    return total


def choose_plan(
    fingerprint: Fingerprint,
    options: Options,
    make_volume: Callable[[Triple], WorkingVolume],
    device: torch.device,
    seconds: float,
    shape: Triple,
    whole: bool = False,
    check: Callable[[], None] = lambda: None,
) -> tuple[Plan, WorkingVolume]:
    """Chooses the plan for a time budget, from measurements on the device.

    Args:
        fingerprint: Of the first annotated volume.
        options: The run's options.
        make_volume: Makes the working volume of a given shape (k, j, i).
        device: Where it trains.
        seconds: Left of the time budget.
        shape: The finest grid (k, j, i) that fits into memory.
        whole: Whether to work at that grid even if it leaves little time for the network.
        check: Called in between; it may raise to stop.

    Returns:
        The plan and its working volume.
    """
    volume = make_volume(shape)
    check()
    if options.network != "auto":
        return _choose_published_plan(fingerprint, options, make_volume, volume, seconds, check)

    room = NETWORK_SHARE * free_memory(device)
    sizes = sizes_on(device.type, BATCHES[device.type], WIDTHS)
    middle = next(size for size in sizes if size.width == MIDDLE)

    def planned(size: Size, dtype: str) -> Plan:
        patches = size.voxels, size.batch
        plan = make_plan(fingerprint, device.type, size.width, shape, patches)
        return replace(plan, dtype=dtype)

    def timed(plan: Plan) -> Measured:
        return measure(plan, volume, fingerprint.classes, check)

    trials = tried(
        [lambda dtype=dtype: timed(planned(middle, dtype)) for dtype in candidate_formats(device)]
    )
    found = min(trials, key=lambda trial: trial.seconds_per_step)
    long = found.seconds_per_tile * tiles(found.plan) / (PREDICTION_SHARE * seconds)
    if long > 1 and not whole:
        shape = working_shape(shape, fingerprint.spacing_on(shape), math.prod(shape) / long)
        volume = make_volume(shape)
        found = timed(planned(middle, found.plan.dtype))
    last = found
    for size in sizes:
        plan = fitted(planned(size, found.plan.dtype), last, room)
        # A first guess says what is worth measuring.
        if plan is None or seconds < size.steps * guessed_seconds(plan, last):
            continue
        if size == middle:
            break
        last = timed(plan)
        if seconds >= size.steps * last.seconds_per_step:
            found = last
            break
    found = settled(found, room)
    return replace(
        found.plan,
        seconds_per_step=found.seconds_per_step,
        seconds_to_predict=ALLOWANCE * found.seconds_per_tile * tiles(found.plan),
    ), volume


def resampled_shape(fingerprint: Fingerprint, options: Options) -> Triple:
    """Grid (k, j, i) with the spacing that was asked for; the volume's own without one."""
    if options.resample is None:
        return fingerprint.shape
    return tuple(
        max(1, round(n * s / mm))
        for n, s, mm in zip(
            fingerprint.shape, fingerprint.spacing, reversed(options.resample), strict=True
        )
    )


def _choose_published_plan(
    fingerprint: Fingerprint,
    options: Options,
    make_volume: Callable[[Triple], WorkingVolume],
    volume: WorkingVolume,
    seconds: float,
    check: Callable[[], None],
) -> tuple[Plan, WorkingVolume]:
    """The plan of a published network, whose tiles are large.

    One tile of a prediction is all that is timed, in the number format that a small convolution is
    fastest in.
    """
    device = volume.image.device
    dtype = fastest_format(device)
    across = tuple(sorted({array_axis(s.axis) for s in volume.slices})) or (0, 1, 2)
    room = 0.3 * free_memory(device) / TILE_MEMORY
    plan = replace(published_plan(fingerprint, options, volume.shape, room), dtype=dtype)
    inputs = volume.image.shape[0]
    network = channels_last(build(plan, inputs, fingerprint.classes).to(device)).eval()
    predictor = Predictor(network, fingerprint.classes, plan)
    box = [min(t - 2 * m, n) for t, m, n in zip(plan.tile, plan.margin, volume.shape, strict=True)]

    def some_tiles() -> None:
        if plan.planar:
            predictor.slice_labels(volume, AnnotatedSlice("k", 0))
        else:
            predictor.probabilities(volume, high=box)

    timed = tiles(replace(plan, shape=(1, *plan.shape[1:]))) if plan.planar else 1
    per_tile = seconds_taken(some_tiles, device) / timed
    check()
    if per_tile < 1.0:  # the first time includes what happens only once
        per_tile = seconds_taken(some_tiles, device) / timed
        check()
    long = per_tile * tiles(plan, across) / (PREDICTION_SHARE * seconds)
    if long > 1 and options.resample is None:
        shape = working_shape(volume.shape, plan.spacing, math.prod(volume.shape) / long)
        volume = make_volume(shape)
        plan = replace(published_plan(fingerprint, options, shape, room), dtype=dtype)
    per_voxel = per_tile / math.prod(plan.tile)
    return replace(
        plan,
        seconds_to_predict=ALLOWANCE * per_tile * tiles(plan, across),
        seconds_per_step=STEP_PER_FORWARD * plan.batch * per_voxel * math.prod(plan.patch),
    ), volume

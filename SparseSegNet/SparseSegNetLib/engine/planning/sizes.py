"""Sizes of a training: width of the network, patches and how many per step.

On a card steps of the usual size leave much of it idle, and a minute has thousands of them. What a
wider network and larger patches cost can be said beforehand: with w channels at the finest level
and v voxels per step a step of `auto` takes about 1030 w^2 v floating-point operations and, in a
format of 16 bits, 67 w v bytes (counted; see docs/lab/speed.md). So for a million voxels per step:

    width   operations   memory
    16      0.26 T       1.1 GB
    32      1.1 T        2.1 GB
    48      2.4 T        3.2 GB
    64      4.2 T        4.3 GB

More memory is no reason to train larger, steps are: a size is chosen if the time has as many steps
as it needs to pay, and if it fits. A card that reaches 10 TFLOP/s takes 730 steps with width 24 in
a minute, and 1900 with width 48 in ten; one that reaches 150 TFLOP/s takes 2500 with width 48 in a
minute. Two cores take 1800 steps with width 16 in ten minutes, of a tenth of the voxels.

Memory is measured at the usual size, and what larger ones take follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..compute.boxes import halved
from ..plan import Plan

# Of the free memory, for a step or a tile: half is for volume, priors and probabilities
# (planner.MEMORY_SHARE), and other programs may take some meanwhile.
NETWORK_SHARE = 0.4
FEWEST_PATCHES = 4  # per step, where they have to be fewer to fit


@dataclass(frozen=True)
class Size:
    """Size of a training.

    Attributes:
        width: Channels at the finest level.
        voxels: Of a patch.
        batch: Patches per step.
        steps: The fewest with which it pays: with fewer a smaller network gives better masks.
    """

    width: int
    voxels: int
    batch: int
    steps: int


# Sizes beyond the usual ones, by type of device. The steps grow with the width as they do for the
# usual widths (docs/lab/ablation.md); what they are worth is not measured yet.
LARGER = {
    "cuda": (
        Size(64, 80**3, 8, 3000),
        Size(64, 64**3, 8, 2300),
        Size(48, 64**3, 8, 1800),
        Size(48, 48**3, 12, 1500),
    )
}


def sizes_on(
    device: str, patches: tuple[int, int], widths: Sequence[tuple[int, int]]
) -> list[Size]:
    """Sizes of a training, the largest first.

    Args:
        device: Its type.
        patches: Voxels of a patch and patches per step that are usual on it.
        widths: The usual widths, each with the fewest steps.
    """
    return [*LARGER.get(device, ()), *(Size(width, *patches, steps) for width, steps in widths)]


@dataclass
class Measured:
    """Measured seconds of a plan.

    Attributes:
        seconds_per_step: Of a training step.
        seconds_per_tile: Of the prediction of a tile.
        plan: The one that was measured, with what was made smaller to fit into memory.
        step_memory: Bytes that a step took at most; 0 where the device does not tell.
        tile_memory: The same of the prediction of a tile.
    """

    seconds_per_step: float
    seconds_per_tile: float
    plan: Plan
    step_memory: int = 0
    tile_memory: int = 0


def guessed_seconds(plan: Plan, measured: Measured) -> float:
    """Seconds of a training step, guessed from those of another plan.

    The cost grows with the width to a power between one (memory) and two (arithmetic).
    """
    before = measured.plan
    return (
        measured.seconds_per_step
        * (plan.width / before.width) ** 1.3
        * (_step_voxels(plan) / _step_voxels(before))
    )


def fitted(plan: Plan, measured: Measured, room: float) -> Plan | None:
    """A plan with as many patches per step, and a tile as large, as fit into memory.

    Args:
        plan: The plan.
        measured: Measurements of another.
        room: Bytes for a step, and for a tile.

    Returns:
        The plan; None if not even the fewest patches fit.
    """
    before, wider = measured.plan, plan.width / measured.plan.width
    patch = wider * measured.step_memory * math.prod(plan.patch) / _step_voxels(before)
    if patch * plan.batch > room:
        fits = int(room / patch)
        if fits < FEWEST_PATCHES:
            return None
        plan = replace(plan, batch=fits)
    per_voxel = wider * measured.tile_memory / math.prod(before.tile)
    while per_voxel * math.prod(plan.tile) > room:
        tile = halved(plan.tile, plan.divisor)
        if tile is None:
            break
        plan = replace(plan, tile=tile)
    return plan


def settled(found: Measured, room: float) -> Measured:
    """The measurements of a plan, with fewer patches per step if it took more than its room."""
    plan = fitted(found.plan, found, room)
    if plan is None or plan == found.plan:
        return found
    return replace(found, plan=plan, seconds_per_step=guessed_seconds(plan, found))


def _step_voxels(plan: Plan) -> int:
    return plan.batch * math.prod(plan.patch)

"""Estimates whether stacking and the network fit the time budget on a CPU.

A network is not always worth its probe, nor a coarser grid. The time that priors take is measured
on a coarse grid. All else takes as many times longer as it took on eight volumes
(docs/lab/short-budgets.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...annotation.geometry import Triple
from ..compute.boxes import working_shape
from ..compute.timing import seconds_taken
from ..data.preprocessing import WorkingVolume
from ..priors.maker import PriorMaker
from ..stacking.folds import complete_slices

STACK_SHARE = 0.6  # of the time left, at most, for the shallow model
STACK_ALONE = 0.9  # the same, where there is no time for a network after it
WORTH_PROBING = 10.0  # seconds left below which no network would be worth its probe
SAMPLED = 300_000  # voxels of the coarse grid
LARGE = 3_000_000  # voxels; what is smaller is not measured where time is short
REGISTERED = 1.0  # seconds for registering the coarse grid's slices
# Times the seconds of one set of priors, needed
FOR_A_NETWORK = 10  # before a network can train: all folds, shallow models of whole volumes
FOR_A_RESULT = 5  # for a good result without one
FOR_PRIORS = 1.5  # for any result


@dataclass(frozen=True)
class Feasibility:
    """An estimate of what fits the time budget.

    Attributes:
        grid: (k, j, i) on which the prior ensemble can be made in time.
        network: Whether one is worth its probe; the grid is not made coarser for it.
    """

    grid: Triple
    network: bool = True


def assess_feasibility(
    grid: Triple,
    spacing: tuple[float, float, float],
    make_volume: Callable[[Triple], WorkingVolume],
    classes: int,
    left: float,
    check: Callable[[], None],
) -> Feasibility:
    """Estimates whether stacking and the network fit the CPU time budget.

    Args:
        grid: The finest working grid (k, j, i).
        spacing: mm along k, j, i on that grid.
        make_volume: Makes the working volume of a given shape.
        classes: Labels with background.
        left: Seconds of the time budget.
        check: Called in between; it may raise to stop.
    """
    voxels = math.prod(grid)
    if left < WORTH_PROBING and voxels < LARGE:
        return Feasibility(grid, network=False)
    once = seconds_for_priors(grid, spacing, make_volume, classes, check)
    least = FOR_PRIORS if left < WORTH_PROBING else FOR_A_RESULT
    fits = STACK_ALONE * left / (least * once)
    if fits < 1:
        return Feasibility(working_shape(grid, spacing, fits * voxels), network=False)
    return Feasibility(grid, left >= WORTH_PROBING and FOR_A_NETWORK * once <= STACK_SHARE * left)


def seconds_for_priors(
    grid: Triple,
    spacing: tuple[float, float, float],
    make_volume: Callable[[Triple], WorkingVolume],
    classes: int,
    check: Callable[[], None],
) -> float:
    """Estimates the seconds that one set of priors takes, from a coarse grid.

    Args:
        grid: The working grid (k, j, i).
        spacing: mm along k, j, i on that grid.
        make_volume: Makes the working volume of a given shape.
        classes: Labels with background.
        check: Called in between; it may raise to stop.
    """
    volume = make_volume(working_shape(grid, spacing, SAMPLED))
    check()
    slices = complete_slices(volume.labels, volume.slices)
    priors = PriorMaker(volume, classes, REGISTERED, lambda share: check())
    priors.step = lambda share: None  # a pause must not be timed
    taken = seconds_taken(lambda: priors.make(volume.labels, slices), volume.image.device)
    return math.prod(grid) / math.prod(volume.shape) * taken

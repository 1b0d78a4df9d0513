"""The plan of a run: how it trains, and its working grid, as memory and time allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ...annotation.geometry import Triple
from ...runfolder.options import Options
from ..compute.allocation import free_memory
from ..compute.boxes import working_shape
from ..compute.number_formats import fastest_product
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..plan import Fingerprint, Plan
from ..stacking.stacker import Stacker
from ..stopping import Cancelled, Stopped
from .auto_plan import make_plan
from .feasibility import Feasibility, assess_feasibility
from .probe import choose_plan, resampled_shape
from .recipes import published_plan

LEAST_TRAINING = 1.0  # seconds, however short the budget
FEW_STEPS = 100
MEMORY_SHARE = 0.5  # of the free memory, for the volume on the device and its probabilities
LEAST_VOXELS = 8**3  # of a grid that is made coarser since memory ran out


class Planner:
    """Makes plans for the first annotated volume of a run.

    Args:
        inputs: The run's volumes.
        options: The run's options.
        classes: Labels with background.
        left: Gives the seconds that are left of the time budget.
        check: Called in between; it may raise Stopped or Cancelled.
        warn: Called with messages to the user.

    Attributes:
        most_voxels: Most voxels of the working grid; lowered by `coarser`.
        fingerprint: Of the annotation when it was planned last.
    """

    def __init__(
        self,
        inputs: Inputs,
        options: Options,
        classes: int,
        left: Callable[[], float],
        check: Callable[[], None],
        warn: Callable[[str], None],
    ):
        self.inputs, self.options, self.classes = inputs, options, classes
        self.left, self.check, self.warn = left, check, warn
        self.most_voxels = math.inf
        self.fingerprint: Fingerprint = inputs.fingerprint(classes)

    @property
    def wanted_shape(self) -> Triple:
        """Working grid (k, j, i) with enough time and memory."""
        return resampled_shape(self.fingerprint, self.options)

    def coarser(self) -> Triple | None:
        """Plans for half of the voxels from now on.

        Returns:
            The grid (k, j, i); None when it is small already.
        """
        grid = self._within(self.wanted_shape, self.most_voxels)
        smaller = self._within(grid, math.prod(grid) / 2)
        if math.prod(smaller) < LEAST_VOXELS or smaller == grid:
            return None
        self.most_voxels = math.prod(smaller)
        return smaller

    def _within(self, grid: Triple, voxels: float) -> Triple:
        return working_shape(grid, self.fingerprint.spacing_on(grid), voxels)

    def plan(self, device: torch.device) -> tuple[Plan, WorkingVolume]:
        """Makes the plan for the annotation as it is now.

        Returns:
            The plan, and the volume on its working grid.
        """
        self.fingerprint = self.inputs.fingerprint(self.classes)
        if self.options.priors_alone:
            # Not a plan without time for a network: it comes later, and learns out of fold.
            plan, volume = self.plan_of_ensemble(device)
            return replace(plan, seconds_to_predict=0.0), volume
        if not self.options.max_steps:
            return self._probed(device)
        # Nothing may depend on the clock: the same seed and steps give the same bits.
        shape = self._within(self.wanted_shape, self.most_voxels)
        plan = (
            make_plan(self.fingerprint, shape=shape)
            if self.options.network == "auto"
            else published_plan(self.fingerprint, self.options, shape)
        )
        return plan, self._volume(shape, device)

    def _volume(self, shape: Triple, device: torch.device) -> WorkingVolume:
        return self.inputs.volume(self.inputs.trained[0], shape, device)

    def plan_of_ensemble(self, device: torch.device) -> tuple[Plan, WorkingVolume]:
        """Makes a plan for the ensemble of priors and shallow model alone, see `plan`."""
        self.fingerprint = self.inputs.fingerprint(self.classes)
        grid = self._within_memory(device, True)
        if device.type == "cpu" and not self.options.max_steps:
            grid = self._feasibility(grid, device).grid
        return self._without_network(grid, device), self._volume(grid, device)

    def _within_memory(self, device: torch.device, stacked: bool) -> Triple:
        """The working grid for which the memory suffices. stacked: with priors."""
        channels = self.fingerprint.channels
        # Image and its normalised copies, labels and probabilities, in bytes per voxel.
        bytes_per_voxel = len(self.inputs.items) * (8 * channels + 4 * self.classes + 8)
        if stacked:
            given = any(item.prior is not None for item in self.inputs.items)
            external = given + (self.inputs.folder.given_model is not None)
            bytes_per_voxel += Stacker.bytes_per_voxel(channels, self.classes, external)
        most = MEMORY_SHARE * free_memory(device) / bytes_per_voxel
        return self._within(self.wanted_shape, min(self.most_voxels, most))

    def _feasibility(self, grid: Triple, device: torch.device) -> Feasibility:
        return assess_feasibility(
            grid,
            self.fingerprint.spacing_on(grid),
            lambda shape: self._volume(shape, device),
            self.classes,
            self.left(),
            self.check,
        )

    def _probed(self, device: torch.device) -> tuple[Plan, WorkingVolume]:
        fingerprint = self.fingerprint
        alone = self.options.network == "auto" and fingerprint.priors
        grid = self._within_memory(device, alone)

        def made(shape: Triple) -> WorkingVolume:
            return self._volume(shape, device)

        try:
            if whole := alone and device.type == "cpu":
                feasibility = self._feasibility(grid, device)
                if not feasibility.network:
                    return self._without_network(feasibility.grid, device), made(feasibility.grid)
            plan, volume = choose_plan(
                fingerprint,
                self.options,
                made,
                device,
                max(LEAST_TRAINING, self.left()),
                grid,
                whole,
                self.check,
            )
        except Stopped:
            if not alone:
                raise Cancelled("stopped before the first training step") from None
            return self._without_network(grid, device), made(grid)
        self._warn_of_few_steps(plan)
        return plan, volume

    def _without_network(self, grid: Triple, device: torch.device) -> Plan:
        """A plan without a network's measurements, for priors and shallow models alone."""
        plan = make_plan(self.fingerprint, device.type, shape=grid)
        return replace(
            plan,
            dtype=plan.dtype if self.options.max_steps else fastest_product(device),
            seconds_to_predict=self.options.time_budget,  # no time left by definition
        )

    def _warn_of_few_steps(self, plan: Plan) -> None:
        left = self.left() - plan.seconds_to_predict
        steps = max(1, round(left / max(1e-6, plan.seconds_per_step)))
        if steps < FEW_STEPS and plan.network != "auto":
            smaller = "a smaller --tile or --width" + (
                " or --kernel 3" if max(map(max, plan.kernels)) > 3 else ""
            )
            self.warn(
                f"only about {steps} training steps of the network {plan.network} fit into the "
                f"time on this device, too few to learn much: take a GPU, a longer time budget, "
                f"{smaller}, or the network auto."
            )

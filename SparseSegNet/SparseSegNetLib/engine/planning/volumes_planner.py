"""The plan of a training on several volumes: one spacing for all, as time and memory allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch

from ...annotation.geometry import Triple
from ..compute.allocation import free_memory
from ..data.inputs import SAME_SPACING
from ..data.preprocessing import WorkingVolume
from ..plan import Fingerprint, Plan
from ..stacking.stacker import Stacker
from .auto_plan import make_plan
from .feasibility import FOR_A_NETWORK, seconds_for_priors
from .planner import LEAST_TRAINING, MEMORY_SHARE, Planner
from .probe import choose_plan, resampled_shape
from .recipes import published_plan

# Of the time budget, at most, for priors and shallow models of all annotated volumes: what they
# propagate is what everything else learns from.
PROPAGATION_SHARE = 0.4
# Of the training time, during which a volume is held out.
HELD_OUT_SHARE = 0.4


class VolumesPlanner(Planner):
    """Makes plans for a network that learns from several volumes and predicts others."""

    @property
    def annotated_fingerprint(self) -> Fingerprint:
        """Fingerprint of the first annotated volume, without priors as inputs of the network."""
        fingerprint = self.inputs.fingerprint(self.classes)
        return replace(fingerprint, volumes=max(2, fingerprint.volumes))

    @property
    def wanted_shape(self) -> Triple:
        """Grid (k, j, i) of the first annotated volume with the spacing of all."""
        fingerprint = self.annotated_fingerprint
        if self.options.resample is not None:
            return resampled_shape(fingerprint, self.options)
        spacings = [self.inputs.items[n].geometry.spacing_kji for n in self.inputs.trained]
        wanted = common_spacing(spacings)
        if same_spacing(wanted, fingerprint.spacing):
            return fingerprint.shape
        k, j, i = (
            max(1, round(n * mm / to))
            for n, mm, to in zip(fingerprint.shape, fingerprint.spacing, wanted, strict=True)
        )
        return k, j, i

    def grid(self, device: torch.device) -> Triple:
        """The finest grid of the first annotated volume on which labels are propagated in time."""
        self.fingerprint = self.annotated_fingerprint
        shape = self.wanted_shape
        if self.options.max_steps:
            return self._within(shape, self.most_voxels)
        volumes = len(self.inputs.trained)
        bytes_per_voxel = Stacker.bytes_per_voxel(self.fingerprint.channels, self.classes)
        # Of the other volumes images, labels and probabilities are kept.
        bytes_per_voxel += volumes * (8 * self.fingerprint.channels + 6 * self.classes + 2)
        most = min(self.most_voxels, MEMORY_SHARE * free_memory(device) / bytes_per_voxel)
        shape = self._within(shape, most)
        if self.options.network != "auto":
            return shape
        spacing = self.fingerprint.spacing_on(shape)
        once = seconds_for_priors(
            shape, spacing, lambda grid: self._volume(grid, device), self.classes, self.check
        )
        fits = PROPAGATION_SHARE * self.left() / (volumes * FOR_A_NETWORK * once)
        return shape if fits >= 1 else self._within(shape, fits * math.prod(shape))

    def plan_on(
        self, shape: Triple, device: torch.device, predicted: float, holding_out: bool
    ) -> tuple[Plan, WorkingVolume]:
        """Makes the plan of the network on a grid.

        Args:
            shape: Of the first annotated volume (k, j, i).
            device: Where it trains.
            predicted: Voxels that are to be predicted, in those of the first annotated volume.
            holding_out: Whether a volume is held out at first.

        Returns:
            The plan, and the first annotated volume on its grid.
        """
        auto = self.options.network == "auto"
        if self.options.max_steps:
            plan = (
                make_plan(self.fingerprint, shape=shape)
                if auto
                else published_plan(self.fingerprint, self.options, shape)
            )
            volume = self._volume(shape, device)
        else:
            plan, volume = choose_plan(
                self.fingerprint,
                self.options,
                lambda grid: self._volume(grid, device),
                device,
                max(LEAST_TRAINING, self.left()),
                shape,
                auto,
                self.check,
            )
            self._warn_of_few_steps(plan)
        plan = replace(
            plan,
            position=plan.position and not auto,
            held_out_share=HELD_OUT_SHARE if holding_out else 0.0,
            seconds_to_predict=predicted * plan.seconds_to_predict,
        )
        return plan, volume


def common_spacing(spacings: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Median of spacings (k, j, i) along each axis."""
    k, j, i = (median(along) for along in zip(*spacings, strict=True))
    return k, j, i


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """True if two spacings are nearly the same."""
    return all(math.isclose(a, b, rel_tol=SAME_SPACING) for a, b in zip(one, other, strict=True))

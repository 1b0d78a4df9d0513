"""Priors: class probabilities of the whole volume from its labels, without any training.

Each is strong where the others fail: shape interpolation (smooth organs), labels propagated by
registration (anatomy), random walks from the labels (structures with borders) and geodesic
distances, along the paths on which the image changes least (large and branching structures).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...annotation.slices import AnnotatedSlice, array_axis
from ..compute.timing import seconds_taken
from ..data.preprocessing import WorkingVolume
from . import geodesic
from .interpolation import interpolate
from .propagation import SCALES, Propagation, register
from .random_walk import RandomWalk

PRIOR_NAMES = ("interpolated", "propagated", "random walk", "geodesic")
TIMED_PAIRS = 4
SHARPNESS = 4.0  # of the interpolated contours as probabilities
WALK_SHARE = 0.25  # of the time for registration, for one solution by random walks


class PriorMaker:
    """Makes priors for one working volume.

    Args:
        volume: Its image without priors.
        classes: Labels with background.
        seconds: How long registering its slices may take; None for as long as it takes.
        step: Called with the share done while they are registered, and between the priors; it may
            raise to stop.
    """

    def __init__(
        self,
        volume: WorkingVolume,
        classes: int,
        seconds: float | None = None,
        step: Callable[[float], None] = lambda share: None,
    ):
        self.volume, self.classes, self.step = volume, classes, step
        self.spacing = tuple(volume.spacing.tolist())
        axes = sorted({array_axis(s.axis) for s in volume.slices})
        with torch.inference_mode():
            finest = 1 if seconds is None else self._finest(axes, seconds)
            self.propagation = (
                None
                if finest is None or not axes
                else Propagation(volume.image, self.spacing, axes, finest, step)
            )
            self.walk = self._walk(seconds)

    def _finest(self, axes: list[int], seconds: float) -> int | None:
        """The finest scale at which all slices are registered in that time, by a measurement.

        None where not even the coarsest is.
        """
        planes = self.volume.image.movedim(1, 0)
        middle = planes[len(planes) // 2 :][: TIMED_PAIRS + 1]
        if len(middle) < 2:
            return 1
        register(middle[1:2], middle[:1])  # the first time includes what happens only once
        per_pixel = (
            seconds_taken(lambda: register(middle[1:], middle[:-1]), middle.device)
            / middle[1:, 0].numel()
        )
        whole = per_pixel * 2 * len(axes) * math.prod(self.volume.shape)
        return next((scale for scale in reversed(SCALES) if whole / scale**2 <= seconds), None)

    def _walk(self, seconds: float | None) -> RandomWalk:
        """Random walks on the finest grid on which spreading labels fits the time."""
        if seconds is None:
            return RandomWalk(self.volume.image, self.spacing)
        coarse = RandomWalk(self.volume.image, self.spacing, 4)
        taken = seconds_taken(
            lambda: coarse.probabilities(self.volume.labels, self.classes), self.volume.image.device
        )
        # Each finer grid has up to eight times the voxels.
        for finest, cost in ((1, 64), (2, 8)):
            if taken * cost <= WALK_SHARE * seconds:
                return RandomWalk(self.volume.image, self.spacing, finest)
        return coarse

    @torch.inference_mode()
    def make(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> torch.Tensor:
        """Makes the priors of some labels.

        Args:
            labels: uint8 (k, j, i), 255 = unlabelled.
            slices: The complete ones among the annotated slices; interpolation and propagation
                use these alone.

        Returns:
            Class probabilities float32 (priors, classes, k, j, i), in the order of PRIOR_NAMES.
        """
        self.step(1.0)
        shapes = interpolate(labels.cpu().numpy(), slices, self.spacing, self.classes).to(
            labels.device
        )
        soft = torch.sigmoid(SHARPNESS * shapes)
        background = (1 - soft.amax(dim=0, keepdim=True)).clamp_min(1e-3)
        interpolated = torch.cat((background, soft))
        interpolated = interpolated / interpolated.sum(dim=0)
        self.step(1.0)
        propagated = (
            interpolated
            if self.propagation is None
            else self.propagation.propagate(labels, slices, self.classes)
        )
        self.step(1.0)
        walk = self.walk.probabilities(labels, self.classes)
        self.step(1.0)
        distances = geodesic.probabilities(self.volume.image, self.spacing, labels, self.classes)
        return torch.stack((interpolated, propagated, walk, distances))

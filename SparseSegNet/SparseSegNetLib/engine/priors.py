"""What the annotated slices alone say about the rest of the volume, learnt out of fold.

Two priors that need no training: shape interpolation and slices carried along by registration.
The network sees them as further inputs. At an annotated slice a prior *is* the label, so a network
trained on that would only copy it; therefore the slices are divided into folds, and the training
patches of a fold's slices see priors made from the other folds' slices alone (stacking, Wolpert
1992). For the prediction the priors are made from all slices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..annotation.composition import UNLABELLED
from ..annotation.slices import AnnotatedSlice, array_axis
from . import metrics
from .device import synchronize
from .interpolation import interpolate
from .preprocess import WorkingVolume
from .propagation import SCALES, Propagation, register

FOLDS = 4
TIMED_PAIRS = 4
SHARES = (0.5, 0.75, 0.25, 1.0, 0.0)  # the first of equals is taken
COMPLETE = 0.9  # share of a slice's voxels that must be labelled for a prior to use it
SHARPNESS = 4.0  # of the interpolated contours as probabilities


@dataclass
class Stack:
    """folds: what to train on, one working volume per fold, with that fold's labels alone.
    target: what to predict, with priors from all slices.  prior: class probabilities float32
    (classes, k, j, i) of the priors themselves."""

    folds: list[WorkingVolume]
    target: WorkingVolume
    prior: torch.Tensor


class Priors:
    """Makes priors for one working volume.

    volume: its image without priors.  classes: with background.  seconds: how long registering
    its slices may take, None for as long as it takes.  step: called with the share done while
    they are registered; it may raise to break off.
    """

    def __init__(self, volume: WorkingVolume, classes: int, seconds: float | None = None,
                 step: Callable[[float], None] = lambda share: None):
        self.volume, self.classes = volume, classes
        self.spacing = tuple(volume.spacing.tolist())
        axes = sorted({array_axis(s.axis) for s in volume.slices})
        with torch.inference_mode():
            finest = 1 if seconds is None else self._finest(axes, seconds)
            self.propagation = None if finest is None else Propagation(
                volume.image, self.spacing, axes, finest, step)

    def _finest(self, axes: list[int], seconds: float) -> int | None:
        """The finest scale at which all slices are registered in that time; None: not even the
        coarsest. Measured on some of them."""
        planes = self.volume.image.movedim(1, 0)
        middle = planes[len(planes) // 2:][:TIMED_PAIRS + 1]
        if len(middle) < 2:
            return 1
        register(middle[1:2], middle[:1])  # the first time includes what happens only once
        synchronize(middle.device)
        begun = time.perf_counter()
        register(middle[1:], middle[:-1])
        synchronize(middle.device)
        per_pixel = (time.perf_counter() - begun) / middle[1:, 0].numel()
        whole = per_pixel * 2 * len(axes) * math.prod(self.volume.shape)
        return next((scale for scale in reversed(SCALES) if whole / scale**2 <= seconds), None)

    @staticmethod
    def channels(classes: int) -> int:
        """How many inputs the priors add."""
        return 2 * (classes - 1)

    @torch.inference_mode()
    def suggest(self, labels: torch.Tensor, slices: list[AnnotatedSlice]
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What slices say: further inputs (2 (classes - 1), k, j, i) from -1 to 1, and class
        probabilities (classes, k, j, i) by interpolation and by registration."""
        shapes = interpolate(labels.cpu().numpy(), slices, self.spacing,
                             self.classes).to(labels.device)
        soft = torch.sigmoid(SHARPNESS * shapes)
        background = (1 - soft.amax(dim=0, keepdim=True)).clamp_min(1e-3)
        interpolated = torch.cat((background, soft))
        interpolated = interpolated / interpolated.sum(dim=0)
        carried = interpolated if self.propagation is None else \
            self.propagation.carry(labels, slices, self.classes)
        channels = torch.cat((shapes, 2 * carried[1:] - 1))
        return channels, interpolated, carried

    def stack(self, labels: torch.Tensor, slices: list[AnnotatedSlice]) -> Stack:
        """Training volumes per fold, and the volume to predict, for these labels and slices.

        labels: uint8 (k, j, i), 255 = unlabelled; what is labelled outside the slices (scribbles)
        teaches in every fold, since no prior knows it. Slices that are annotated in part only
        make no prior.
        """
        slices = [s for s in slices if _complete(labels, s)]
        parts = divide(slices, min(FOLDS, len(slices)))
        folds, unseen = [], []
        for part in parts if len(parts) > 1 else []:
            others = [s for s in slices if s not in part]
            mine = labels.clone()
            for item in others:
                mine[item.selector()] = UNLABELLED
            known = mine != UNLABELLED
            if not bool(known.any()):
                continue
            seen, interpolated, carried = self.suggest(labels, others)
            unseen.append((interpolated[:, known], carried[:, known], mine[known]))
            folds.append(self._with(seen, mine, list(part)))
        seen, interpolated, carried = self.suggest(labels, slices)
        target = self._with(seen, labels, slices)
        share = self._best_share(unseen)
        return Stack(folds or [target], target, torch.lerp(interpolated, carried, share))

    def _with(self, channels: torch.Tensor, labels: torch.Tensor,
              slices: list[AnnotatedSlice]) -> WorkingVolume:
        return replace(self.volume, image=torch.cat((self.volume.image, channels)),
                       labels=labels, slices=slices)

    def _best_share(self, unseen: list[tuple[torch.Tensor, ...]]) -> float:
        """How much registration counts beside interpolation: the best of a few shares on the
        voxels of each fold, of which neither knew."""
        if not unseen or self.propagation is None:
            return 0.5
        interpolated, carried = (torch.cat([u[n] for u in unseen], dim=1) for n in (0, 1))
        truth = torch.cat([u[2] for u in unseen]).cpu().numpy()

        def score(share: float) -> float:
            found = torch.lerp(interpolated, carried, share).argmax(dim=0).cpu().numpy()
            return metrics.mean(r["dice"] for r in
                                metrics.overlap(found, truth, self.classes - 1)) or 0.0

        return max(SHARES, key=score)


def _complete(labels: torch.Tensor, item: AnnotatedSlice) -> bool:
    plane = labels.select(array_axis(item.axis), item.index)
    return float((plane != UNLABELLED).float().mean()) >= COMPLETE


def divide(slices: list[AnnotatedSlice], folds: int) -> list[list[AnnotatedSlice]]:
    """Folds of about equal size, each with slices of all axes; neighbours apart."""
    parts: list[list[AnnotatedSlice]] = [[] for _ in range(folds)]
    for number, item in enumerate(sorted(slices)):
        parts[number % folds].append(item)
    return [p for p in parts if p]

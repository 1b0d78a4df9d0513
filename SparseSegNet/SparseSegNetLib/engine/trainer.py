"""Training on labelled voxels: steps, averaged weights, schedule by time, held-out score."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..annotation.composition import UNLABELLED
from . import metrics
from .held_out import Split
from .inference import Predictor
from .losses import balancing_weights, make_loss
from .networks import build
from .plan import Plan
from .preprocess import WorkingVolume
from .priors import Priors
from .sampling import Sampler

WARM_UP = 0.05
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the network in a blend with the priors
HELD_OUT_SCORES = 8  # how often the held-out slices are scored


class Stopped(Exception):
    """The user asked to stop: keep the best result."""


@dataclass
class Report:
    """step, loss (averaged over the last steps), fraction of training done (0 to 1), phase
    ('held out' or 'all slices'), held_out: one dictionary per segment after a scoring."""

    step: int
    loss: float | None
    fraction: float
    phase: str
    held_out: list[dict] | None = None


class Trainer:
    """Trains one network on the labelled voxels of working volumes.

    volumes: at least one.  split: the held-out voxels of the first volume, or None.
    classes: labels with background.  priors: those of the first volume, where the plan has some;
    without them their inputs are 0, which is enough to measure the time.
    """

    def __init__(self, plan: Plan, volumes: list[WorkingVolume], classes: int,
                 split: Split | None, seed: int, priors: Priors | None = None):
        torch.manual_seed(seed)
        if plan.priors and priors is None:
            volumes = [without_priors(v, classes) for v in volumes]
        self.plan, self.volumes, self.classes, self.split = plan, volumes, classes, split
        self.priors, self.prior = priors, None
        self.target = volumes[0]
        self.network_share = 1.0  # in what is predicted; the rest is the prior's
        self.device = volumes[0].image.device
        self.dtype = getattr(torch, plan.dtype)
        inputs = volumes[0].image.shape[0] + (3 if plan.position else 0)
        if priors is not None:
            inputs += Priors.channels(classes)
        self.network = channels_last(build(plan, inputs, classes).to(self.device))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.sampler = Sampler(volumes, classes, plan, torch.Generator().manual_seed(seed))
        self._use(split if plan.held_out_share > 0 else None)
        self.optimiser = make_optimiser(plan, self.network)
        known = torch.cat([v.labels[v.labels != UNLABELLED] for v in volumes])
        self.loss = make_loss(plan.loss, balancing_weights(known, classes, 1.0))
        self.rate = 1.0  # lowered after a step that was not finite
        self.steps = 0
        self.best: tuple[float, dict] | None = None

    def step(self, fraction: float) -> float | None:
        """One optimisation step at `fraction` of the schedule.

        Returns the loss, or None when it or its gradient was not finite: then the step is not
        taken, the weights go back to their average and the learning rate is halved.
        """
        self.network.train()
        pixels, labels = self.sampler.batch(self.plan.batch)
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(pixels)
        loss = self.loss(logits, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(),
                                              self.plan.clip or math.inf)
        self.steps += 1
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            self._recover()
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * self.rate * self._schedule(fraction)
        self.optimiser.step()
        self._update_average()
        return value

    def _schedule(self, fraction: float) -> float:
        drop = self.plan.drop_every
        if drop is None:
            return schedule(fraction)
        return 0.1 ** (self.steps // drop) if drop else 1.0

    def _update_average(self) -> None:
        # The average forgets its beginning quickly while the weights still move fast.
        share = 1 - min(self.plan.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()),
                                 [p.detach() for p in self.network.parameters()], share)
            for mine, other in zip(self.average.buffers(), self.network.buffers(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(other, share)

    def train(self, seconds: float, max_steps: int = 0,
              report: Callable[[Report], None] = lambda report: None) -> None:
        """Train for `seconds`, or for `max_steps` steps when given.

        report is called after every step; it may raise `Stopped`, upon which the weights that
        `predictor` uses are the best so far. While slices are held out the best weights are
        those with the highest held-out score; afterwards the newest average.
        """
        begun = time.monotonic()
        held = self.split is not None and self.plan.held_out_share > 0
        next_score = 1.0 / HELD_OUT_SCORES
        losses: deque[float] = deque(maxlen=20)
        fraction = 0.0
        while fraction < 1.0:
            if (loss := self.step(fraction)) is not None:
                losses.append(loss)
            fraction = self.steps / max_steps if max_steps else \
                (time.monotonic() - begun) / seconds
            scores = None
            if held and fraction >= next_score * self.plan.held_out_share:
                next_score += 1.0 / HELD_OUT_SCORES
                scores = self.score_held_out()
                self._keep_if_best(scores)
            mean = sum(losses) / len(losses) if losses else None
            record = Report(self.steps, mean, min(1.0, fraction),
                            "held out" if held else "all slices", scores)
            if held and fraction >= self.plan.held_out_share:
                held, self.best = False, None
                self._use(None)
            report(record)

    def _use(self, split: Split | None) -> None:
        """Train on the labels of the first volume that a split leaves; None for all of them."""
        self._in_use = split
        volume, *others = self.volumes
        labels, slices = volume.labels, volume.slices
        if split is not None:
            labels = torch.from_numpy(split.training).to(self.device)
            slices = [s for s in slices if s not in split.slices]
        if self.priors is None:
            self.sampler.set_volumes([replace(volume, labels=labels), *others])
            return
        stack = self.priors.stack(labels, slices)
        self.target, self.prior = stack.target, stack.prior
        self.sampler.set_volumes([*stack.folds, *others])

    def score_held_out(self) -> list[dict]:
        """IoU and Dice per segment on the held-out voxels, with the averaged weights.

        Where there are priors, this also settles how much the network and how much the priors
        count: the best of a few shares on these voxels.
        """
        predictor, truth = self.predictor(), self.volumes[0].labels.cpu().numpy()
        planes = {s: predictor.slice_probabilities(self.target, s) for s in self.split.slices}

        def rows(share: float) -> list[dict]:
            predicted = np.zeros_like(truth)
            for item, found in planes.items():
                if share < 1:
                    prior = self.prior[(slice(None), *item.selector())].cpu()
                    found = share * found + (1 - share) * prior
                predicted[item.selector()] = found.argmax(dim=0).numpy()
            return metrics.overlap(predicted, truth, self.classes - 1, self.split.mask)

        if self.prior is None:
            return rows(1.0)
        scored = [(metrics.mean(r["dice"] for r in found) or 0.0, share, found)
                  for share in SHARES for found in [rows(share)]]
        # The network still learns, and sees all slices in the end: a tie goes to it.
        _, self.network_share, best = max(scored, key=lambda entry: (round(entry[0], 3), entry[1]))
        return best

    def probabilities(self, step: Callable[[float], None] | None = None) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) of the first volume."""
        found = self.predictor().probabilities(self.target, step=step)
        if self.prior is not None and self.network_share < 1:
            found = torch.lerp(self.prior.cpu(), found, self.network_share)
        return found

    def _keep_if_best(self, scores: list[dict]) -> None:
        value = metrics.mean(row["dice"] for row in scores) or 0.0
        if self.best is None or value >= self.best[0]:
            self.best = value, copy.deepcopy(self.average.state_dict())

    def _recover(self) -> None:
        self.rate /= 2
        self.network.load_state_dict(self.average.state_dict())
        self.optimiser.state.clear()

    def predictor(self) -> Predictor:
        """Predicts with the averaged weights."""
        return Predictor(self.average, self.classes, self.plan)

    def use_best(self) -> None:
        """Put the best weights so far where `predictor` takes them from, and all slices' priors
        beside them."""
        if self.priors is not None and self._in_use is not None:
            self._use(None)
        if self.best is not None:
            self.average.load_state_dict(self.best[1])


def schedule(fraction: float) -> float:
    """Learning rate over its peak: a short warm-up, then a half cosine down to 1 %."""
    if fraction < WARM_UP:
        return 0.1 + 0.9 * fraction / WARM_UP
    done = (fraction - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its weights laid out as the fast convolutions want them."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return network


def make_optimiser(plan: Plan, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The plan's optimiser for a network's weights."""
    weights, rate = network.parameters(), plan.learning_rate
    if plan.optimiser == "sgd":
        return torch.optim.SGD(weights, rate, plan.momentum, weight_decay=plan.weight_decay)
    if plan.optimiser == "adam":
        return torch.optim.Adam(weights, rate, weight_decay=plan.weight_decay)
    if plan.optimiser == "adamw":
        return torch.optim.AdamW(weights, rate, weight_decay=plan.weight_decay)
    raise ValueError(f"no optimiser '{plan.optimiser}'")


def without_priors(volume: WorkingVolume, classes: int) -> WorkingVolume:
    """The volume with inputs for priors that say nothing."""
    empty = volume.image.new_zeros((Priors.channels(classes), *volume.shape))
    return replace(volume, image=torch.cat((volume.image, empty)))

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
from ..run.presets import times
from . import metrics
from .held_out import Split
from .inference import Predictor
from .losses import balancing_weights, make_loss
from .networks import build
from .plan import Plan, halved
from .preprocess import WorkingVolume
from .problems import out_of_memory
from .sampling import Sampler
from .stacking import TRUST, Stack, prior_of, settle_blend, without_prior

WARM_UP = 0.05
# Of the network in a blend with its prior, until a score says otherwise; with fewer folds than
# FEW_FOLDS it has seen too little to count as much.
USUAL_SHARE, FIRST_SHARE, FEW_FOLDS = 0.5, 0.3, 5
HELD_OUT_SCORES = 8  # how often the held-out slices are scored


class Stopped(Exception):
    """The user asked to stop: keep the best result."""


@dataclass
class Report:
    """step, loss (averaged over the last steps), fraction of training done (0 to 1), phase
    ('held out' or 'all slices'), held_out: one dictionary per segment after a scoring.
    recovered: what was made smaller when memory ran out in this step."""

    step: int
    loss: float | None
    fraction: float
    phase: str
    held_out: list[dict] | None = None
    recovered: str | None = None


class Trainer:
    """Trains one network on the labelled voxels of working volumes.

    volumes: at least one.  split: the held-out voxels of the first volume, or None.
    classes: labels with background.  stack: where the plan has priors, what they say of the first
    volume; without it their inputs are empty, which is enough to measure the time.
    """

    def __init__(self, plan: Plan, volumes: list[WorkingVolume], classes: int,
                 split: Split | None, seed: int, stack: Stack | None = None):
        torch.manual_seed(seed)
        self.plan, self.classes, self.split, self.stack = plan, classes, split, stack
        if stack is not None:
            volumes = [stack.target]
        elif plan.priors:
            volumes = [without_prior(v, classes) for v in volumes]
        self.volumes = volumes
        self.target = volumes[0]
        self.network_share = 1.0 if stack is None else \
            USUAL_SHARE if len(stack.folds) >= FEW_FOLDS or split else FIRST_SHARE
        self.device = self.target.image.device
        self.dtype = getattr(torch, plan.dtype)
        inputs = self.target.image.shape[0] + (3 if plan.position else 0)
        self.network = channels_last(build(plan, inputs, classes).to(self.device))
        if stack is not None and stack.alone:
            self.network.leave(stack.alone)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.sampler = Sampler(self._taught(held=plan.held_out_share > 0), classes, plan,
                               torch.Generator().manual_seed(seed))
        self.optimiser = make_optimiser(plan, self.network)
        known = torch.cat([v.labels[v.labels != UNLABELLED] for v in volumes])
        self.loss = make_loss(plan.loss, balancing_weights(known, classes, 1.0))
        self.rate = 1.0  # lowered after a step that was not finite
        self.steps = 0
        self.best: tuple[float, dict] | None = None

    def _taught(self, held: bool) -> list[WorkingVolume]:
        """What is trained on, while slices are held out or afterwards."""
        held = held and self.split is not None
        if self.stack is not None and self.stack.folds:
            return [f for f in self.stack.folds if not held or f is not self.split.fold]
        if not held:
            return self.volumes
        labels = torch.from_numpy(self.split.training).to(self.device)
        slices = [s for s in self.target.slices if s not in self.split.slices]
        return [replace(self.target, labels=labels, slices=slices), *self.volumes[1:]]

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
        """Train for `seconds` (0: not at all), or for `max_steps` steps when given.

        report is called after every step; it may raise `Stopped`, upon which the weights that
        `predictor` uses are the best so far. While slices are held out the best weights are
        those with the highest held-out score; afterwards the newest average.
        """
        if seconds <= 0 and not max_steps:
            return
        begun = time.monotonic()
        held = self.split is not None and self.plan.held_out_share > 0
        next_score = 1.0 / HELD_OUT_SCORES
        losses: deque[float] = deque(maxlen=20)
        fraction = 0.0
        while fraction < 1.0:
            recovered = None
            try:
                if (loss := self.step(fraction)) is not None:
                    losses.append(loss)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if (recovered := self._shrink()) is None:
                    raise
            fraction = self.steps / max_steps if max_steps else \
                (time.monotonic() - begun) / seconds
            scores = None
            if held and fraction >= next_score * self.plan.held_out_share:
                next_score += 1.0 / HELD_OUT_SCORES
                scores = self.score_held_out()
                self._keep_if_best(scores)
            mean = sum(losses) / len(losses) if losses else None
            record = Report(self.steps, mean, min(1.0, fraction),
                            "held out" if held else "all slices", scores, recovered)
            if held and fraction >= self.plan.held_out_share:
                held, self.best = False, None
                self.sampler.set_volumes(self._taught(held=False))
            report(record)

    def score_held_out(self) -> list[dict]:
        """IoU and Dice per segment on the held-out voxels, with the averaged weights.

        Where there is a prior, this also settles how much the network and how much the prior
        counts.
        """
        predictor, split = self.predictor(), self.split
        # A held-out fold's labels have reached none of its own inputs, unlike the target's.
        scored = split.fold or self.target
        truth = self.target.labels.cpu().numpy()
        predicted = np.zeros_like(truth)
        planes = {s: predictor.slice_probabilities(scored, s) for s in split.slices}
        if self.stack is not None:
            before = {s: prior_of(scored, self.classes, s).cpu() for s in split.slices}
            masks = {s: torch.from_numpy(split.mask[s.selector()]) for s in split.slices}
            rows = torch.cat([torch.stack((before[s], planes[s]))[:, :, masks[s]]
                              for s in split.slices], dim=2)
            known = torch.cat([torch.from_numpy(truth[s.selector()])[masks[s]]
                               for s in split.slices])
            share = float(settle_blend(rows, known)[1])
            self.network_share = TRUST * share + (1 - TRUST) * USUAL_SHARE
            planes = {s: torch.lerp(before[s], p, self.network_share) for s, p in planes.items()}
        for item, found in planes.items():
            predicted[item.selector()] = found.argmax(dim=0).numpy()
        return metrics.overlap(predicted, truth, self.classes - 1, split.mask)

    def probabilities(self, volume: WorkingVolume | None = None,
                      step: Callable[[float], None] | None = None) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) of a volume; without one, and blended
        with its prior where there is one, of `target`."""
        if volume is None:
            volume = self.target
        if self.stack is None or volume is not self.target:
            return self.predictor().probabilities(volume, step=step)
        prior = prior_of(self.target, self.classes).cpu()
        if not self.steps:
            return prior
        found = self.predictor().probabilities(self.target, step=step)
        return torch.lerp(prior, found, self.network_share)

    def _keep_if_best(self, scores: list[dict]) -> None:
        value = metrics.mean(row["dice"] for row in scores) or 0.0
        if self.best is None or value >= self.best[0]:
            self.best = value, copy.deepcopy(self.average.state_dict())

    def _recover(self) -> None:
        self.rate /= 2
        self.network.load_state_dict(self.average.state_dict())
        self.optimiser.state.clear()

    def _shrink(self) -> str | None:
        """After memory ran out: half the patches per step, and when that is one, half the patch
        along its longest axis. Returns what was done, None when nothing is left to do."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        plan = self.plan
        if plan.batch > 1:
            self.plan = replace(plan, batch=plan.batch // 2)
            said = f"{self.plan.batch} patches per step instead of {plan.batch}"
        elif (patch := halved(plan.patch, plan.divisor)) is not None and not any(plan.margin):
            self.plan = replace(plan, patch=patch)
            said = f"patches of {times(patch)} voxels instead of {times(plan.patch)}"
        else:
            return None
        self.sampler.plan = self.plan
        return said

    def predictor(self) -> Predictor:
        """Predicts with the averaged weights."""
        return Predictor(self.average, self.classes, self.plan)

    def use_best(self) -> None:
        """Put the best weights so far where `predictor` takes them from."""
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

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

from ...annotation.composition import UNLABELLED
from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice
from ...runfolder.presets import times
from ..compute import metrics
from ..compute.boxes import halved
from ..compute.losses import balancing_weights, make_loss
from ..compute.memory import release, retry_smaller
from ..compute.memory_format import channels_last
from ..compute.optimisers import make_optimiser, move_optimiser
from ..compute.schedules import schedule
from ..data.preprocessing import WorkingVolume
from ..data.sampling import Sampler
from ..networks import build
from ..plan import Plan
from ..prediction.inference import Predictor
from ..stacking.ensemble import fit_ensemble_weights
from ..stacking.prior_inputs import prior_of, with_empty_prior
from ..stacking.stack import Stack
from ..stacking.stacker import SHRINKAGE
from .held_out import Split
from .training_set import TrainingSet

# Of the network in a blend with its prior, until a score says otherwise.
DEFAULT_NETWORK_SHARE = 0.1
# The network learns to correct priors made from fewer slices, and is scored beside them. They are
# worse than the one that it corrects in the end, so the share that the score says is too large.
OPTIMISM = 0.2
HELD_OUT_SCORES = 8  # how often the held-out slices are scored


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


def by_steps(count: int) -> Callable[[int], float]:
    """For `Trainer.train`: so many steps."""
    return lambda steps: steps / count


def by_time(seconds: float) -> Callable[[int], float]:
    """For `Trainer.train`: so long from now."""
    begun = time.monotonic()
    return lambda steps: (time.monotonic() - begun) / seconds


class Trainer:
    """Trains one network on the labelled voxels of working volumes.

    volumes: at least one.  split: the held-out voxels of the first volume, or None.
    classes: labels with background.  stack: where the plan has priors, what they say of the first
    volume; without it their inputs are empty, which is enough to measure the time.
    """

    def __init__(
        self,
        plan: Plan,
        volumes: list[WorkingVolume],
        classes: int,
        split: Split | None,
        seed: int,
        stack: Stack | None = None,
    ):
        torch.manual_seed(seed)
        self.plan, self.classes = plan, classes
        if stack is None and plan.priors:
            volumes = [with_empty_prior(v, classes) for v in volumes]
        self.training_set = TrainingSet(volumes, split, stack, plan.held_out_share > 0)
        self.network_share = 1.0 if stack is None else DEFAULT_NETWORK_SHARE
        self.device = self.training_set.target.image.device
        self.dtype = getattr(torch, plan.dtype)
        inputs = self.training_set.target.image.shape[0] + (3 if plan.position else 0)
        self.network = channels_last(build(plan, inputs, classes).to(self.device))
        if stack is not None:
            self.network.leave_to_prior(stack.prior_only)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.sampler = Sampler(
            self.training_set.training_volumes(), classes, plan, torch.Generator().manual_seed(seed)
        )
        self.optimiser = make_optimiser(plan, self.network)
        self._weigh_classes()
        self.rate = 1.0  # lowered after a step that was not finite
        self.steps = self.scorings = 0
        self.losses: deque[float] = deque(maxlen=20)
        self.best: tuple[float, dict] | None = None
        # Told what was made smaller when memory ran out while predicting.
        self.on_smaller: Callable[[str], None] = lambda smaller: None

    @property
    def target(self) -> WorkingVolume:
        return self.training_set.target

    @property
    def split(self) -> Split | None:
        return self.training_set.split

    def _weigh_classes(self) -> None:
        known = torch.cat([v.labels[v.labels != UNLABELLED] for v in self.training_set.volumes])
        self._class_weights = balancing_weights(known, self.classes, 1.0)
        self.loss = make_loss(self.plan.loss, self._class_weights)

    def change_labels(
        self, number: int, labels: torch.Tensor, slices: list[AnnotatedSlice]
    ) -> None:
        """Go on with other labels of a volume; what is new among them is taught more often for a
        while. See `TrainingSet.change`."""
        news = self.training_set.change(number, labels, slices)
        self.sampler.set_volumes(self.training_set.training_volumes())
        self.sampler.favour(news, None if self.training_set.stack is not None else number)
        self._weigh_classes()
        self.best = None

    def add_volume(self, volume: WorkingVolume) -> None:
        """Train on one more volume from now on (not with priors, which know one alone)."""
        self.training_set.volumes.append(volume)
        self.sampler.set_volumes(self.training_set.training_volumes())
        self._weigh_classes()

    def replace_stack(self, stack: Stack) -> None:
        """Go on with other priors."""
        self.training_set.replace_stack(stack)
        for network in (self.network, self.average):
            network.leave_to_prior(stack.prior_only)
        if stack.folds:
            self.sampler.set_volumes(self.training_set.training_volumes())
        self._weigh_classes()
        self.best = None

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
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip or math.inf)
        self.steps += 1
        value, size = torch.stack((loss.detach(), norm)).tolist()  # waits for the device once
        if not (math.isfinite(value) and math.isfinite(size)):
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
            torch._foreach_lerp_(
                list(self.average.parameters()),
                [p.detach() for p in self.network.parameters()],
                share,
            )
            for mine, other in zip(self.average.buffers(), self.network.buffers(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(other, share)

    def train(
        self, done: Callable[[int], float], report: Callable[[Report], None] = lambda report: None
    ) -> None:
        """Train until `done(steps)`, the share of the training that is done, reaches 1.

        report is called after every step; it may raise `Stopped`, upon which the weights that
        `predictor` uses are the best so far. While slices are held out the best weights are
        those with the highest held-out score; afterwards the newest average.
        """
        fraction = done(self.steps)
        while fraction < 1.0:
            recovered = self.step_or_shrink(fraction)
            fraction = done(self.steps)
            phase = "held out" if self.training_set.holding_out else "all slices"
            scores = self._score_if_due(fraction)
            if self.training_set.holding_out and fraction >= self.plan.held_out_share:
                self.end_held_out()
            mean = sum(self.losses) / len(self.losses) if self.losses else None
            report(Report(self.steps, mean, min(1.0, fraction), phase, scores, recovered))

    def step_or_shrink(self, fraction: float) -> str | None:
        """A step, with less where memory runs out in it: what was made smaller."""
        recovered: list[str] = []
        loss = retry_smaller(
            lambda: self.step(fraction), self._shrink, recovered.append, self.device, "training"
        )
        if loss is not None:
            self.losses.append(loss)
        return "; ".join(recovered) or None

    def _score_if_due(self, fraction: float) -> list[dict] | None:
        each = self.plan.held_out_share / HELD_OUT_SCORES
        if not self.training_set.holding_out or fraction < (self.scorings + 1) * each:
            return None
        self.scorings = int(fraction / each)
        scores = self.score_held_out()
        self._keep_if_best(scores)
        return scores

    def end_held_out(self) -> None:
        """Train on everything from now on."""
        self.training_set.holding_out, self.best = False, None
        self.sampler.set_volumes(self.training_set.training_volumes())

    def score_held_out(self) -> list[dict]:
        """IoU and Dice per segment on the held-out voxels, with the averaged weights: a validation
        score, since the best weights are chosen by it.

        Where there is a prior, this also settles how much the network and how much the prior
        counts; the score is of shares fitted on other voxels than those that are scored.
        """
        predictor, split, scored = self.predictor(), self.split, self.training_set.scored
        truth = self.target.labels.cpu().numpy()
        predicted = np.zeros_like(truth)
        planes = {s: predictor.slice_probabilities(scored, s) for s in split.slices}
        inside = {s: split.scored[s.selector()] for s in split.slices}
        if self.training_set.stack is not None:
            before = {s: prior_of(scored, self.classes, s.selector()).cpu() for s in split.slices}
            rows = torch.cat(
                [
                    torch.stack((before[s], planes[s]))[:, :, torch.from_numpy(inside[s])]
                    for s in split.slices
                ],
                dim=2,
            )
            known = torch.cat(
                [torch.from_numpy(truth[s.selector()][inside[s]]) for s in split.slices]
            )
            self.network_share = self._share(rows, known)
            # Scored with shares that were fitted on the other half of the voxels.
            half = len(known) // 2
            found = torch.cat(
                [
                    torch.lerp(*mine, self._share(*others)).argmax(dim=0)
                    for mine, others in (
                        (rows[:, :, :half], (rows[:, :, half:], known[half:])),
                        (rows[:, :, half:], (rows[:, :, :half], known[:half])),
                    )
                    if mine.shape[2]
                ]
            )
            return metrics.overlap(found.numpy(), known.numpy(), self.classes - 1)
        for item, found in planes.items():
            predicted[item.selector()] = found.argmax(dim=0).numpy()
        return metrics.overlap(predicted, truth, self.classes - 1, split.scored)

    def _share(self, rows: torch.Tensor, known: torch.Tensor) -> float:
        """How much the network counts beside its prior. rows: probabilities of prior and network
        (2, classes, voxels) for voxels that are `known`, uint8 (voxels,)."""
        if not len(known):
            return DEFAULT_NETWORK_SHARE
        return SHRINKAGE * max(0.0, float(fit_ensemble_weights(rows, known)[1]) - OPTIMISM)

    def probabilities(
        self,
        volume: WorkingVolume | None = None,
        step: Callable[[float], None] | None = None,
        tile: Triple | None = None,
    ) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) of a volume; without one, and blended
        with its prior where there is one, of `target`. tile: another than the plan's."""
        if volume is None:
            volume = self.target
        predictor = self.predictor()
        if tile is not None:
            predictor.plan = replace(predictor.plan, tile=tile)
        if self.training_set.stack is None or volume is not self.target:
            return predictor.probabilities(volume, step=step)
        prior = prior_of(self.target, self.classes).cpu()
        if not self.steps:
            return prior
        return torch.lerp(prior, predictor.probabilities(volume, step=step), self.network_share)

    def slice_probabilities(self, volume: WorkingVolume, item: AnnotatedSlice) -> torch.Tensor:
        """Class probabilities float32 (classes, two axes) of one slice, on the CPU; as
        `probabilities` has them."""
        if self.training_set.stack is None or volume is not self.target:
            return self.predictor().slice_probabilities(volume, item)
        prior = prior_of(self.target, self.classes, item.selector()).cpu()
        if not self.steps:
            return prior
        return torch.lerp(
            prior, self.predictor().slice_probabilities(volume, item), self.network_share
        )

    def move(self, device: torch.device) -> None:
        """Take everything to another device, and leave nothing on the one before."""
        before = list(self.network.parameters())
        self.network.to(device)
        self.average.to(device)
        move_optimiser(self.optimiser, before, list(self.network.parameters()), device)
        self.training_set.move(device)
        self.sampler.move(self.training_set.training_volumes(), device)
        self._class_weights = self._class_weights.to(device)
        self.loss = make_loss(self.plan.loss, self._class_weights)
        if self.best is not None:
            self.best = self.best[0], {n: t.to(device) for n, t in self.best[1].items()}
        release(self.device)
        self.device = device

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
        self.optimiser.zero_grad()
        plan = self.plan
        fewer = replace(plan, batch=plan.batch // 2)
        patch = None if any(plan.margin) else halved(plan.patch, plan.divisor)
        if plan.batch > 1 and fewer.trainable:
            self.plan = fewer
            said = f"{self.plan.batch} patches per step instead of {plan.batch}"
        elif patch is not None and replace(plan, patch=patch).trainable:
            self.plan = replace(plan, patch=patch)
            said = f"patches of {times(patch)} voxels instead of {times(plan.patch)}"
        else:
            return None
        self.sampler.plan = self.plan
        return said

    def predictor(self) -> Predictor:
        """Predicts with the averaged weights."""
        return Predictor(self.average, self.classes, self.plan, self._predict_smaller)

    def _predict_smaller(self, tile: Triple) -> None:
        self.plan = replace(self.plan, tile=tile)
        self.on_smaller(f"tiles of {times(tile)} voxels")

    def use_best(self) -> None:
        """Put the best weights so far where `predictor` takes them from."""
        if self.best is not None:
            self.average.load_state_dict(self.best[1])

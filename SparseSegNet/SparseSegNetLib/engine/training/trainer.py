"""Training of one network on labelled voxels: steps, averaged weights, schedule, device."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import torch

from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice
from ...runfolder.phases import Phase
from ...runfolder.presets import times
from ..compute import metrics
from ..compute.boxes import halved
from ..compute.losses import balancing_weights, make_loss, merge_unknown
from ..compute.memory import release, retry_smaller
from ..compute.number_formats import channels_last, computing_in
from ..compute.optimisers import make_optimiser, move_optimiser
from ..compute.schedules import planned_rate
from ..data.preprocessing import WorkingVolume
from ..networks import build
from ..plan import Plan
from ..prediction.inference import Predictor
from ..stacking.prior_inputs import with_empty_prior
from ..stacking.stack import Stack
from .averaged_weights import update_average
from .held_out import Split
from .loss_scale import LossScale
from .report import Report
from .together import Alone
from .training_set import DEFAULT_NETWORK_SHARE, TrainingSet


class Trainer:
    """Trains one network on the labelled voxels of working volumes.

    Args:
        plan: The plan of the training.
        volumes: At least one.
        classes: Labels with background.
        split: The held-out voxels of the first volume, or None.
        seed: Random seed of weights, patches and augmentation.
        stack: The ensemble of the first volume where the plan has priors; without it the inputs
            for a prior are empty, which is enough to measure the time.
        training_set: Takes the place of one that is made of volumes, split and stack.

    Attributes:
        plan: As it is now; memory that runs out makes batch, patch or tile smaller.
        training_set: Volumes and labels that are trained on, and what is held out.
        network: The network with the newest weights.
        average: The same with exponentially averaged weights, which predict.
        network_share: Ensemble weight of the network beside its prior.
        steps: Steps taken.
        losses: Of the last steps.
        scale: Of the loss in float16.
        partners: The ranks that take each step, too.
        best: The best mean Dice on held-out slices and the averaged weights then, or None.
        on_smaller: Called with a message when memory ran out while predicting.
    """

    def __init__(
        self,
        plan: Plan,
        volumes: list[WorkingVolume],
        classes: int,
        split: Split | None,
        seed: int,
        stack: Stack | None = None,
        training_set: TrainingSet | None = None,
    ):
        torch.manual_seed(seed)
        self.plan, self.classes = plan, classes
        if stack is None and plan.priors:
            volumes = [with_empty_prior(v, classes) for v in volumes]
        self.training_set = training_set or TrainingSet(
            volumes, split, stack, plan.held_out_share > 0
        )
        self.network_share = 1.0 if stack is None else DEFAULT_NETWORK_SHARE
        self.device = self.training_set.target.device
        self.scale = LossScale(self.device, plan.dtype)
        inputs = self.training_set.target.channels + (3 if plan.position else 0)
        self.network = channels_last(build(plan, inputs, classes).to(self.device))
        if stack is not None:
            self.network.leave_to_prior(stack.prior_only)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.sampler = self.training_set.sampler(classes, plan, torch.Generator().manual_seed(seed))
        self.optimiser = make_optimiser(plan, self.network)
        self.weigh_classes()
        self.partners = Alone()
        self.rate = 1.0  # lowered after a step that was not finite
        self.steps = self.scorings = 0
        self.losses: deque[float] = deque(maxlen=20)
        self.best: tuple[float, dict] | None = None
        self.on_smaller: Callable[[str], None] = lambda smaller: None

    @property
    def target(self) -> WorkingVolume:
        """The first volume, which is scored and shown."""
        return self.training_set.target

    @property
    def split(self) -> Split | None:
        """The held-out voxels, or None."""
        return self.training_set.split

    def weigh_classes(self, weights: torch.Tensor | None = None) -> None:
        """Uses these class weights (classes,) in the loss; None for those of the labels."""
        if weights is None:
            weights = balancing_weights(self.training_set.known_labels(), self.classes, 1.0)
        self.class_weights = weights
        self.loss = make_loss(self.plan.loss, weights)

    def change_labels(
        self, number: int, labels: torch.Tensor, slices: list[AnnotatedSlice]
    ) -> None:
        """Continues with other labels of a volume, see `TrainingSet.change`.

        Patches around labels that are new are drawn more often for a while.
        """
        news = self.training_set.change(number, labels, slices)
        self.sampler.set_volumes(self.training_set.training_volumes())
        self.sampler.favour(news, None if self.training_set.stack is not None else number)
        self.weigh_classes()
        self.best = None

    def add_volume(self, volume: WorkingVolume) -> None:
        """Trains on one more volume from now on."""
        self.training_set.add(volume)
        self.sampler.set_volumes(self.training_set.training_volumes())
        self.weigh_classes()

    def replace_stack(self, stack: Stack) -> None:
        """Continues with a new ensemble of priors and shallow model."""
        self.training_set.replace_stack(stack)
        for network in (self.network, self.average):
            network.leave_to_prior(stack.prior_only)
        if stack.folds:
            self.sampler.set_volumes(self.training_set.training_volumes())
        self.weigh_classes()
        self.best = None

    def step(self, fraction: float) -> float | None:
        """Takes one optimisation step at `fraction` of the schedule.

        Returns:
            The loss; None when it or its gradient was not finite: then the step is not taken, the
            weights go back to their average and the learning rate is halved. In float16 the loss
            is scaled less first, and the step does not count.
        """
        with self.partners.step(self, fraction):
            # It waits for the device, the only time in a step.
            value, size = self._gradient().tolist()
        if math.isfinite(value) and not math.isfinite(size) and self.scale.lowered():
            return None
        self.steps += 1
        if not (math.isfinite(value) and math.isfinite(size)):
            self._recover()
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * planned_rate(self.plan, fraction, self.steps)
        self.scale.step(self.optimiser)
        update_average(self.average, self.network, self.steps, self.plan.ema)
        return value

    def _gradient(self) -> torch.Tensor:
        """Computes the gradient of a new batch; returns loss and norm (2,), on the device."""
        self.network.train()
        pixels, labels, unknown = self.sampler.batch(self.plan.batch)
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        with computing_in(self.device, self.plan.dtype):
            logits = self.partners.network(self)(pixels)
        loss = self.loss(merge_unknown(logits, unknown), labels)
        self.optimiser.zero_grad()
        self.scale.backward(loss, self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip or math.inf)
        return torch.stack((loss.detach(), norm))

    def train(
        self, done: Callable[[int], float], report: Callable[[Report], None] = lambda report: None
    ) -> None:
        """Trains until `done` reaches 1.

        While slices are held out the best weights are those with the highest validation score;
        afterwards they are the newest average.

        Args:
            done: Gives the share of the training that is done from the number of steps.
            report: Called after every step; it may raise `Stopped`.
        """
        fraction = done(self.steps)
        while fraction < 1.0:
            recovered = self.step_or_shrink(fraction)
            fraction = done(self.steps)
            phase = Phase.HELD_OUT if self.training_set.holding_out else Phase.ALL_SLICES
            scores = self._score_if_due(fraction)
            if self.training_set.holding_out and fraction >= self.plan.held_out_share:
                self.end_held_out()
            mean = sum(self.losses) / len(self.losses) if self.losses else None
            report(Report(self.steps, mean, min(1.0, fraction), phase, scores, recovered))

    def step_or_shrink(self, fraction: float) -> str | None:
        """Takes a step, with smaller batches or patches where memory runs out in it.

        Returns:
            A message about what was made smaller, or None.
        """
        recovered: list[str] = []
        loss = retry_smaller(
            lambda: self.step(fraction), self._shrink, recovered.append, self.device, "training"
        )
        if loss is not None:
            self.losses.append(loss)
        return "; ".join(recovered) or None

    def _score_if_due(self, fraction: float) -> list[dict] | None:
        each = self.plan.held_out_share / self.training_set.scorings
        if not self.training_set.holding_out or fraction < (self.scorings + 1) * each:
            return None
        self.scorings = int(fraction / each)
        scores = self.score_held_out()
        self._keep_if_best(scores)
        return scores

    def end_held_out(self) -> None:
        """Trains on the held-out slices too from now on."""
        self.training_set.holding_out, self.best = False, None
        self.sampler.set_volumes(self.training_set.training_volumes())

    def score_held_out(self) -> list[dict]:
        """Computes validation scores with the averaged weights, see `TrainingSet.score`.

        With a prior it also fits the share of the network in the ensemble.

        Returns:
            IoU and Dice per segment on the held-out voxels.
        """
        scores, share = self.training_set.score(self.classes, self.predictor())
        if share is not None:
            self.network_share = share
        return scores

    def probabilities(
        self,
        volume: WorkingVolume | None = None,
        step: Callable[[float], None] | None = None,
        tile: Triple | None = None,
    ) -> torch.Tensor:
        """Predicts class probabilities float32 (classes, k, j, i) of a volume.

        Args:
            volume: A working volume; None for `target`. With a prior the probabilities are those
                of the ensemble with it.
            step: Called with the share done; it may raise to stop.
            tile: Another tile than the plan's.
        """
        if volume is None:
            volume = self.target
        predictor = self.predictor()
        if tile is not None:
            predictor.plan = replace(predictor.plan, tile=tile)
        prior = self.training_set.prior_for(volume, self.classes)
        if prior is None:
            return predictor.probabilities(volume, step=step)
        if not self.steps:
            return prior
        share = self.training_set.share_for(volume, self.network_share)
        return torch.lerp(prior, predictor.probabilities(volume, step=step), share)

    def slice_probabilities(self, volume: WorkingVolume, item: AnnotatedSlice) -> torch.Tensor:
        """Predicts float32 (classes, two axes) of one slice, on the CPU, as `probabilities`."""
        prior = self.training_set.prior_for(volume, self.classes, item)
        if prior is None:
            return self.predictor().slice_probabilities(volume, item)
        if not self.steps:
            return prior
        share = self.training_set.share_for(volume, self.network_share)
        return torch.lerp(prior, self.predictor().slice_probabilities(volume, item), share)

    def move(self, device: torch.device) -> None:
        """Moves everything to another device, and leaves nothing on the one before."""
        before = list(self.network.parameters())
        self.network.to(device)
        self.average.to(device)
        move_optimiser(self.optimiser, before, list(self.network.parameters()), device)
        self.training_set.move(device)
        self.sampler.move(self.training_set.training_volumes(), device)
        self.weigh_classes(self.class_weights.to(device))
        if self.best is not None:
            self.best = self.best[0], {n: t.to(device) for n, t in self.best[1].items()}
        release(self.device)
        self.device = device
        self.scale.again(device)
        self.partners.moved(device)

    def _keep_if_best(self, scores: list[dict]) -> None:
        value = metrics.mean(row["dice"] for row in scores) or 0.0
        if self.best is None or value >= self.best[0]:
            self.best = value, copy.deepcopy(self.average.state_dict())

    def _recover(self) -> None:
        self.rate /= 2
        self.scale.reset()
        self.network.load_state_dict(self.average.state_dict())
        self.optimiser.state.clear()

    def _shrink(self) -> str | None:
        """After memory ran out: half the patches per step, then half the patch along an axis.

        Returns a message, None when nothing can be made smaller.
        """
        self.optimiser.zero_grad()
        self.scale.again()
        plan = self.plan
        fewer = replace(plan, batch=plan.batch // 2)
        patch = None if any(plan.margin) else halved(plan.patch, plan.divisor)
        if plan.batch > 1 and fewer.trainable:
            self.plan = fewer
            message = f"{self.plan.batch} patches per step instead of {plan.batch}"
        elif patch is not None and replace(plan, patch=patch).trainable:
            self.plan = replace(plan, patch=patch)
            message = f"patches of {times(patch)} voxels instead of {times(plan.patch)}"
        else:
            return None
        self.sampler.plan = self.plan
        return message

    def predictor(self) -> Predictor:
        """A predictor with the averaged weights."""
        return Predictor(self.average, self.classes, self.plan, self._predict_smaller)

    def _predict_smaller(self, tile: Triple) -> None:
        self.plan = replace(self.plan, tile=tile)
        self.on_smaller(f"tiles of {times(tile)} voxels")

    def use_best(self) -> None:
        """Uses the best weights so far for predictions."""
        if self.best is not None:
            self.average.load_state_dict(self.best[1])

"""The stage before a network: priors and shallow model, stacked in the time that there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...runfolder.options import Options
from ...runfolder.phases import Phase
from ..compute.number_formats import format_on
from ..data.external_prior import ExternalPrior
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..plan import Plan
from ..planning.feasibility import STACK_SHARE
from ..priors.maker import PriorMaker
from ..stacking.prior_inputs import prior_of
from ..stacking.stack import Stack
from ..stacking.stacker import Stacker
from ..stopping import Cancelled, Stopped
from ..training.trainer import Trainer
from .clock import Clock
from .commands import Commands
from .export import labels_with_annotation
from .reporter import Reporter
from .score_keeper import ScoreKeeper
from .slice_sums import slice_sums

WORTH_TRAINING = 5.0  # seconds, where the ensemble already gave a result
PRIORS_SHARE = 0.15  # of the time left, at most, for registering slices
RESTACK_SHARE = 0.3  # of the time left, at most, for making the priors again


class EnsembleStage:
    """Makes the stack of a run's first annotated volume, and makes it again from new labels.

    Args:
        inputs: The run's volumes.
        options: The run's options.
        classes: Labels with background.
        commands: Commands of the client.
        clock: The run's time.
        reporter: Gets previews, scores and warnings.
        check: Called with the phase in between; it may raise Stopped or Cancelled.

    Attributes:
        scores: Learns how good the result is expected to be; None where nobody asks.
    """

    def __init__(
        self,
        inputs: Inputs,
        options: Options,
        classes: int,
        commands: Commands,
        clock: Clock,
        reporter: Reporter,
        check: Callable[..., None],
        device: Callable[[], torch.device],
    ):
        self.inputs, self.options, self.classes = inputs, options, classes
        self.scores: ScoreKeeper | None = None
        self.commands, self.clock, self.reporter, self.check = commands, clock, reporter, check
        self.device = device
        self._external: tuple[ExternalPrior, ...] = ()
        self._disagreement: dict[int, torch.Tensor | None] = {}

    def make(
        self,
        plan: Plan,
        volume: WorkingVolume,
        left: float | None,
        number: int | None = None,
        share: float = 0.0,
        further: Sequence[ExternalPrior] = (),
    ) -> Stack | None:
        """Makes the stack, whose ensemble is also the first preview.

        Args:
            plan: The run's plan.
            volume: The working volume without priors.
            left: Seconds that are left; None for as long as it takes.
            number: Of the volume; None for the run's first annotated one, whose scores are reported
                as the run's.
            share: Of the preparation that is done before, for the progress.
            further: External priors on the volume's grid, beside the one that the run folder
                holds.

        Returns:
            The stack; None where the plan has no priors.
        """
        if not plan.priors:
            return None
        if self.options.max_steps:
            left = None
        scored = number is None
        place = self.inputs.trained[0] if number is None else number
        home = volume.image.device
        volume = volume.to(self.device())
        given = self.inputs.external(place, volume.shape, volume.image.device)
        external = tuple(further) if given is None else (given, *further)
        if scored:
            # Kept for `remake` where they take no memory of the device, which may change.
            self._external = tuple(prior.to("cpu") for prior in external)

        def show(probabilities: torch.Tensor) -> np.ndarray:
            drawn = self.inputs.items[place].labels
            labels = labels_with_annotation(probabilities, volume, drawn)
            self.reporter.preview(place, self.inputs.turned_back(place, labels))
            return labels

        try:
            stack = self._stacker(
                plan,
                volume,
                left,
                external,
                lambda done: self.check(Phase.COMPARING_SLICES, share),
                show,
                1.0,
            ).stack(volume.labels, volume.slices)
        except Stopped:
            self.reporter.warn(
                "stopped before the first training step: the result is the prior ensemble."
            )
            stack = self._stacker(plan, volume, 0.0, external, self.raise_if_cancelled).stack(
                volume.labels, volume.slices
            )
        self._disagreement[place] = stack.disagreement
        ensemble = prior_of(stack.target, self.classes)
        self.write_profiles(place, ensemble, volume, show(ensemble))
        stack = self._scored(stack) if scored else replace(stack, out_of_fold=None)
        return stack.to(home)

    def write_profiles(
        self,
        number: int,
        probabilities: torch.Tensor,
        volume: WorkingVolume,
        labels: np.ndarray,
    ) -> None:
        """Writes the sums over slices by which the next one to draw is suggested.

        Args:
            number: Of the input, from 0.
            probabilities: Class probabilities float32 (classes, k, j, i) on the working grid.
            volume: The working volume.
            labels: Predicted, uint8 (k, j, i) on the original grid, turned as the inputs are.
        """
        now, slices = self.inputs.labels_for(number, volume)
        differing = self._disagreement.get(number)
        if differing is not None and tuple(differing.shape) != volume.shape:
            differing = None
        profiles = slice_sums(
            probabilities,
            differing,
            replace(volume, labels=now, slices=slices),
            labels,
            self.inputs.items[number].geometry.spacing_kji,
        ).turned_back(self.inputs.turns[number])
        self.reporter.trying(
            "the sums over slices",
            lambda: self.reporter.folder.write_profiles(number + 1, profiles),
        )

    def remake(self, trainer: Trainer, step: Callable[[], None]) -> None:
        """Makes the stack again from the labels as they are now, if there is time.

        Args:
            trainer: Trained with the stack from then on.
            step: Called in between; it may raise to stop.
        """
        left = self.clock.left - trainer.plan.seconds_to_predict
        volume = trainer.training_set.target
        if not trainer.plan.priors or RESTACK_SHARE * left < WORTH_TRAINING / 2:
            return
        channels = volume.image.shape[0] - (self.classes - 1)
        plain = replace(volume, image=volume.image[:channels]).to(self.device())
        stack = self._stacker(
            trainer.plan, plain, RESTACK_SHARE * left, self._external, lambda share: step()
        ).stack(plain.labels, plain.slices)
        if stack.folds:  # else the time did not suffice, and the old one is better
            trainer.replace_stack(self._scored(stack).to(trainer.device))
            number = self.inputs.trained[0]
            self._disagreement[number] = stack.disagreement
            ensemble, drawn = prior_of(stack.target, self.classes), self.inputs.items[number].labels
            labels = labels_with_annotation(ensemble, plain, drawn)
            self.write_profiles(number, ensemble, plain, labels)

    def raise_if_cancelled(self, share: float) -> None:
        """Raises Cancelled where the client wants it; a request to stop is not looked at."""
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")

    def _stacker(
        self,
        plan: Plan,
        volume: WorkingVolume,
        left: float | None,
        external: Sequence[ExternalPrior],
        step: Callable[[float], None],
        preview: Callable[[torch.Tensor], object] | None = None,
        share_alone: float = STACK_SHARE,
    ) -> Stacker:
        """A stacker for the time that is left.

        share_alone: of `left`, for stacking and what follows where no network can come after it;
        while one is trained already, such a stack would be thrown away.
        """
        fitting = STACK_SHARE if plan.seconds_to_predict < self.options.time_budget else 0.0
        registering, seconds, seconds_alone = (
            None if left is None else share * left for share in (PRIORS_SHARE, fitting, share_alone)
        )
        return Stacker(
            PriorMaker(volume, self.classes, registering, step),
            self.options.seed,
            seconds,
            format_on(volume.image.device, plan.dtype),
            step,
            preview,
            seconds_alone,
            [prior.to(volume.image.device) for prior in external],
        )

    def _scored(self, stack: Stack) -> Stack:
        """Reports the scores of a stack; returns it without the predictions they are of."""
        if stack.scores is not None:
            self.reporter.scores(
                replace(self.reporter.newest, phase=Phase.COMPARING_SLICES, held_out=stack.scores)
            )
        if self.scores is not None:
            self.scores.learn(stack)
        return replace(stack, out_of_fold=None)

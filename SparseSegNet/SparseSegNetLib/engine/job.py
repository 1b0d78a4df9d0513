"""A run from its folder to its result: prepare, probe, train, predict."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ..runfolder.phases import Phase
from ..runfolder.presets import times
from ..runfolder.prior_outputs import write_fold_priors, write_probabilities
from .compute.memory import retry_smaller
from .data.external_prior import ExternalPrior
from .data.inputs import Inputs
from .data.one_slice import advice, only_slice
from .data.preprocessing import WorkingVolume
from .interaction.ensemble_stage import EnsembleStage
from .interaction.export import (
    Prediction,
    final_probabilities,
    fold_priors,
    predict,
    write_result,
)
from .interaction.model_export import model_of_one_volume
from .interaction.score_keeper import ScoreKeeper
from .interaction.training_task import TrainingTask
from .interaction.warm_start import predicted_by
from .plan import Plan
from .planning.planner import Planner
from .stacking.stack import Stack
from .stopping import Cancelled, Stopped
from .training.held_out import Split, hold_out, hold_out_fold
from .training.trainer import Trainer

TOO_LITTLE = (
    "The annotation cannot be divided into two parts that both show a segment: annotate "
    "each segment in a second slice or place."
)


class Job(TrainingTask):
    """Densifies a volume: trains on its annotated slices and predicts all of it."""

    apart = True

    def work(self) -> None:
        """Prepares, trains and predicts."""
        self.inputs = Inputs(self.folder)
        try:
            self.inputs.prepare(self.options.n4, lambda: self.check(Phase.CORRECTING_BIAS))
        except Stopped:
            raise Cancelled("stopped before the first training step") from None
        self.planner = Planner(
            self.inputs,
            self.options,
            self.classes,
            lambda: self.clock.left,
            lambda: self.check(Phase.PROBING),
            self.reporter.warn,
        )
        self.ensemble = EnsembleStage(
            self.inputs,
            self.options,
            self.classes,
            self.commands,
            self.clock,
            self.reporter,
            self.check,
            lambda: self.ensemble_device,
        )
        self.scores = self.ensemble.scores = ScoreKeeper(self.inputs, self.reporter, self.classes)
        self._advise()
        self.densify()

    def densify(self) -> None:
        """Trains and predicts."""
        self._predict(self.trained())

    def drawn(self, number: int, before: np.ndarray) -> None:
        """Scores slices that were drawn while it trains by the prediction that stood before."""
        if number == self.inputs.trained[0]:
            self.scores.drawn(before)

    def _advise(self) -> None:
        """Warns of annotation that lies in one slice alone."""
        first, *others = self.inputs.trained
        labels = self.inputs.items[first].labels
        item = None if others else only_slice(labels)
        if item is not None:
            self.reporter.warn(advice(labels, item))

    def prepare(self, known: Plan | None) -> Plan:
        """Makes the plan unless it is known, the working volumes, the stack and the trainer."""
        first = self.inputs.trained[0]
        if known is not None:
            plan, volume = known, self.inputs.volume(first, known.shape, self.device)
        else:
            if not self.options.max_steps:
                self.reporter.progress(Phase.PROBING, now=True)
            plan, volume = self.planner.plan(self.device)
        volumes = [
            volume,
            *(
                self.inputs.volume_like(number, plan, self.device)
                for number in self.inputs.trained[1:]
            ),
        ]
        if plan.shape != self.planner.wanted_shape:
            self.reporter.warn(
                f"the volume is worked on at {times(plan.shape)} instead of "
                f"{times(self.planner.wanted_shape)} voxels, to fit the time and memory; a longer "
                "time budget uses more."
            )
        self.save_plan(plan)
        further = self._predicted_before(plan, volume)
        # On resuming priors may take as long as before: the weights were trained with them.
        left = self.clock.left if known is None else self.clock.budget
        stack = self.ensemble.make(plan, volume, left, further=further)
        split = self._split(plan, volume, stack)
        if self.options.priors_alone and stack is not None and stack.folds:
            write_fold_priors(self.folder.path, first + 1, fold_priors(stack, self.classes))
        # The trainer alone holds on to the volumes, so that a pause can free the device.
        self._trainer = Trainer(plan, volumes, self.classes, split, self.options.seed, stack)
        self.trainer.on_smaller = self.reporter.recovered
        return plan

    def _predicted_before(self, plan: Plan, volume: WorkingVolume) -> list[ExternalPrior]:
        """The prediction of the model that the run starts from, if there is one."""
        path = self.folder.given_model
        if path is None or not plan.priors:
            return []
        try:
            found = predicted_by(
                path,
                self.inputs,
                self.inputs.trained[0],
                volume.shape,
                math.prod(volume.shape),
                self.device,
                lambda share: self.check(Phase.PREDICTING, share),
            )
        except Stopped:
            return []
        return [found]

    def smaller(self, known: Plan | None) -> str | None:
        """Makes the working grid coarser after memory ran out while preparing."""
        grid = self.planner.coarser() if known is None else None
        return None if grid is None else f"a working grid of {times(grid)} voxels"

    def remake(self, step: Callable[[], None]) -> None:
        """Makes the priors again from the labels as they are now, if there is time."""
        self.ensemble.remake(self.trainer, step)

    def without_network(self) -> str:
        """A message on the result of priors and shallow model alone."""
        stack = self.trainer.training_set.stack
        few = stack is not None and stack.missing == "annotation"
        return (
            "no network was trained: the result is the ensemble of priors and shallow model. "
            + (TOO_LITTLE if few else "A longer time budget may do better.")
        )

    def _split(self, plan: Plan, volume: WorkingVolume, stack: Stack | None) -> Split | None:
        if not self.options.hold_out:
            return None
        if stack is None:
            split = hold_out(volume, self.options.seed)
        elif stack.in_slice:
            split = None
        else:
            labels = volume.labels.cpu().numpy()
            split = hold_out_fold(stack.folds, labels, self.options.seed)
        if (
            split is None
            and (stack is None or stack.scores is None)
            and not self.commands.stop.is_set()
        ):
            why = (
                "too little time to hold something out"
                if stack is not None and stack.missing == "time" and not stack.in_slice
                else "no annotated slice or region can be held out, and strokes alone tell too "
                "little of the borders"
            )
            self.reporter.warn(f"no score of the result can be given: {why}.")
        return split if plan.held_out_share > 0 else None

    def _exponent(
        self, number: int, volume: WorkingVolume, probabilities: torch.Tensor
    ) -> torch.Tensor | None:
        if number != self.inputs.trained[0]:
            return None
        return self.scores.exponent(probabilities, volume)

    def _predict(self, plan: Plan) -> None:
        for done, number in enumerate(self.wanted):
            item, step = self.inputs.items[number], self.predicting(done)

            def attempt(
                number: int = number, item=item, step=step
            ) -> tuple[Prediction, WorkingVolume]:
                trained = dict(
                    zip(self.inputs.trained, self.trainer.training_set.volumes, strict=True)
                )
                volume = trained.get(number) or self.inputs.volume_like(
                    number, plan, self.trainer.device
                )
                exponent = partial(self._exponent, number, volume)
                return predict(self.trainer, volume, item.predict, step, exponent), volume

            (labels, uncertainty, found), volume = retry_smaller(
                attempt, self.to_cpu, self.reporter.recovered, self.device, "predicting"
            )
            write_result(self.folder, number, labels, uncertainty, item.predict is None)
            if found is not None:
                self.ensemble.write_profiles(number, found, volume, labels)
                if self.options.probabilities:
                    given = final_probabilities(found, labels, self.options.largest_component)
                    write_probabilities(self.folder.path, number + 1, given)
        if self.options.save_model:
            model = model_of_one_volume(
                self.trainer,
                self.inputs,
                self.folder,
                self.clock.seconds,
                self.raise_if_cancelled,
            )
            model.save(self.folder.model_path)
        scored = self.reporter.scored()
        self.done(scored[-1]["held_out"] if scored else None)

"""A run on several volumes: propagate their labels, train a model for new volumes, predict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from ..annotation.composition import UNLABELLED, restrict_to_slices
from ..annotation.geometry import Triple
from ..annotation.orientation import orientation_of
from ..runfolder.phases import Phase
from ..runfolder.presets import times
from .compute.memory import retry_smaller
from .data.inputs import Inputs
from .data.intensity_standard import IntensityStandard
from .data.preprocessing import WorkingVolume
from .interaction.ensemble_stage import WORTH_TRAINING, EnsembleStage
from .interaction.export import write_result
from .interaction.model_export import ONE_VOLUME, describe_model
from .interaction.propagation_stage import PropagatedSet, propagate
from .interaction.training_task import TrainingTask
from .plan import Plan
from .planning.auto_plan import make_plan
from .planning.planner import FEW_STEPS
from .planning.volumes_planner import VolumesPlanner
from .prediction.inference import finish
from .prediction.model import Model
from .stopping import Cancelled, Stopped
from .training.report import Report
from .training.trainer import Trainer
from .training.volume_set import NEW_SHARE, VolumeSet, held_volume


class TrainingJob(TrainingTask):
    """Trains a model for new volumes on several annotated ones."""

    def work(self) -> None:
        """Prepares, trains, writes the model and predicts what is wanted."""
        annotated = next(
            (
                number
                for number in range(1, self.folder.count + 1)
                if (self.folder.read_labels(number) != UNLABELLED).any()
            ),
            1,
        )
        self.inputs = Inputs(self.folder, orientation_of(self.folder.geometry(annotated)))
        options = self.options
        try:
            self.inputs.prepare(
                options.n4,
                lambda: self.check(Phase.CORRECTING_BIAS),
                lambda images: IntensityStandard.measure(
                    images, options.modality, options.match_histograms
                ),
            )
        except Stopped:
            raise Cancelled("stopped before the first training step") from None
        self.planner = VolumesPlanner(
            self.inputs,
            options,
            self.classes,
            lambda: self.clock.left,
            lambda: self.check(Phase.PROBING),
            self.reporter.warn,
        )
        self.ensemble = EnsembleStage(
            self.inputs,
            options,
            self.classes,
            self.commands,
            self.clock,
            self.reporter,
            self.check,
            lambda: self.ensemble_device,
        )
        self.known: PropagatedSet | None = None
        self.trained()
        # Of the network; that of the shallow models is of step 0.
        judged = [record for record in self.reporter.scored() if record["step"]]
        scores, scored = self._scores(judged)
        model = self._model(scores, scored, self._network_share(bool(judged)))
        model.save(self.folder.model_path)
        self._predict(model)
        self.done(scores)

    def prepare(self, known: Plan | None) -> Plan:
        """Propagates labels, makes the plan unless it is known, and the trainer."""
        inputs, options = self.inputs, self.options
        try:
            shape = self.planner.grid(self.device) if known is None else known.shape
        except Stopped:
            raise Cancelled("stopped before anything was learnt") from None
        if shape != self.planner.wanted_shape:
            self.reporter.warn(
                f"the volumes are worked on at a coarser grid (the first at {times(shape)} instead "
                f"of {times(self.planner.wanted_shape)} voxels), to fit the time and memory; a "
                "longer time budget uses more."
            )
        fingerprint = self.planner.annotated_fingerprint
        draft = make_plan(replace(fingerprint, volumes=1), self.device.type, shape=shape)
        volumes = [
            inputs.volume(number, shape, self.device)
            if place == 0
            else inputs.volume_like(number, draft, self.device)
            for place, number in enumerate(inputs.trained)
        ]
        self.known = None
        if options.network == "auto":
            self.known = propagate(
                inputs,
                volumes,
                draft,
                self.ensemble,
                self.clock,
                options.seed,
                options.max_steps > 0,
                self._unless_cancelled,
            )
            if self.known.scores is not None:
                report = Report(0, None, 0.0, Phase.COMPARING_SLICES, self.known.scores)
                self.reporter.scores(report)
        holding_out = options.hold_out and held_volume(volumes, options.seed) is not None
        plan = known or self._planned(shape, draft, holding_out)
        if plan.shape != shape:  # a published network, to which nothing was propagated
            volumes = [inputs.volume_like(n, plan, self.device) for n in inputs.trained]
        self.save_plan(plan)
        training_set = VolumeSet(
            volumes,
            [] if self.known is None else self.known.propagated,
            options.seed,
            holding_out,
        )
        self._trainer = Trainer(plan, volumes, self.classes, None, options.seed, None, training_set)
        self.trainer.network_share = 1.0 if self.known is None else NEW_SHARE
        self.trainer.on_smaller = self.reporter.recovered
        return plan

    def _planned(self, shape: Triple, draft: Plan, holding_out: bool) -> Plan:
        """The plan of the network; one without time to train where it is not worth its probe."""
        none = replace(draft, priors=False, seconds_to_predict=self.options.time_budget)
        late = not self.options.max_steps and self.clock.left < WORTH_TRAINING
        if self.known is not None and late:
            return none
        try:
            plan, _ = self.planner.plan_on(shape, self.device, self._predicted(), holding_out)
        except Stopped:
            return none
        return plan

    def _unless_cancelled(self, phase: str, fraction: float) -> None:
        """As `check`; a request to stop shortens what comes, so that there is a model."""
        try:
            self.check(phase, fraction)
        except Stopped:
            self.raise_if_cancelled()

    def _predicted(self) -> float:
        """Voxels that are to be predicted, in those of the first annotated volume."""
        sizes = [math.prod(item.labels.shape) for item in self.inputs.items]
        return sum(sizes[n] for n in self.wanted) / sizes[self.inputs.trained[0]]

    def smaller(self, known: Plan | None) -> str | None:
        """Makes the working grids coarser after memory ran out while preparing."""
        grid = self.planner.coarser() if known is None else None
        return None if grid is None else f"a working grid of {times(grid)} voxels"

    def remake(self, step: Callable[[], None]) -> None:
        """Priors stay as they are: of several volumes they take too long to be made again."""

    def without_network(self) -> str:
        """A message on the model that has no network."""
        return (
            "no network was trained: the model is the shallow one alone. A longer time budget may "
            "do better."
        )

    def _scores(self, judged: list[dict]) -> tuple[list[dict] | None, str]:
        """The scores on what the model had not seen, and how they were measured."""
        split, trainer = self.trainer.split, self.trainer
        held = trainer.training_set.held
        if trainer.steps and split is not None and held is not None and judged:
            name = self.inputs.items[self.inputs.trained[held]].name
            return judged[-1]["held_out"], (
                f"on the annotated slices of {name}, while it was held out from training"
            )
        if self.known is not None and self.known.scores is not None:
            return self.known.scores, (
                "on the annotated slices of all volumes, each predicted by a shallow model that "
                "was fitted without it"
            )
        return None, ONE_VOLUME if len(self.inputs.trained) == 1 else (
            "not measured: a volume is held out of four or more, if it is drawn with borders and "
            "the others show all its segments"
        )

    def _model(self, scores: list[dict] | None, scored: str, share: float) -> Model:
        trainer, inputs = self.trainer, self.inputs
        assert inputs.standard is not None
        shallow = None if self.known is None else self.known.shallow
        network = trainer.average if share > 0 else None
        planes = {s.axis for n in inputs.trained for s in inputs.items[n].slices}
        return Model(
            describe_model(
                self.folder,
                inputs,
                inputs.standard.modality,
                trainer.plan.spacing,
                scores,
                scored,
                self.clock.seconds,
                trainer.steps,
            ),
            inputs.standard,
            self.options.n4,
            None if network is None else trainer.plan,
            network,
            shallow,
            share,
            tuple(sorted(planes)) if trainer.plan.planar else (),
        )

    def _network_share(self, judged: bool) -> float:
        """The ensemble weight of the network in new volumes. judged: whether it was scored."""
        trainer = self.trainer
        if self.known is None:
            return 1.0
        if not trainer.steps or (not judged and trainer.steps < FEW_STEPS):
            return 0.0
        return trainer.network_share

    def _predict(self, model: Model) -> None:
        for done, number in enumerate(self.wanted):
            item, step = self.inputs.items[number], self.predicting(done)

            def attempt(number: int = number, step=step) -> tuple[torch.Tensor, WorkingVolume]:
                return self._probabilities(model, number, step)

            found, volume = retry_smaller(
                attempt, self.to_cpu, self.reporter.recovered, self.device, "predicting"
            )
            labels, uncertainty = (t.numpy() for t in finish(found, volume.full_shape))
            if item.predict is not None:
                labels = restrict_to_slices(labels, item.predict)
            labels = self.inputs.turned_back(number, labels)
            write_result(
                self.folder,
                number,
                labels,
                self.inputs.turned_back(number, uncertainty),
                item.predict is None,
            )
            if item.predict is None:
                turned = self.inputs.turns[number].array(labels)
                self.ensemble.write_profiles(number, found, volume, turned)

    def _probabilities(
        self, model: Model, number: int, step: Callable[[float], None]
    ) -> tuple[torch.Tensor, WorkingVolume]:
        """Class probabilities of a volume, by its own ensemble too if it is annotated."""
        trainer, trained = self.trainer, self.inputs.trained
        if number in trained:
            volume = trainer.training_set.volumes[trained.index(number)]
            return trainer.probabilities(volume, step), volume
        volume = self.inputs.volume_like(number, trainer.plan, trainer.device)
        return model.probabilities(volume, step), volume

"""A run from its folder to its result: prepare, probe, train, predict."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import numpy as np
import torch

from ..errors import EngineError
from ..runfolder.folder import RunFolder
from ..runfolder.lock import FolderLock
from ..runfolder.presets import times
from .compute.device import choose_device, prepare_threads
from .compute.memory import retry_smaller
from .data.inputs import Inputs
from .data.one_slice import advice, only_slice
from .data.preprocessing import WorkingVolume
from .interaction.callback import TrainingCallback, pause
from .interaction.clock import Clock
from .interaction.commands import Commands
from .interaction.ensemble_stage import EnsembleStage
from .interaction.export import predict, save_trained_model, write_result
from .interaction.reporter import Reporter
from .interaction.training_progress import TrainingProgress
from .plan import Plan
from .planning.planner import Planner
from .stacking.stack import Stack
from .stopping import Cancelled, Stopped
from .training.checkpoint import load_state, save_state
from .training.held_out import Split, hold_out, hold_out_fold
from .training.report import Report
from .training.trainer import Trainer
from .training.training_state import check_state, restore, state_of

TOO_LITTLE = (
    "The annotation cannot be divided into two parts that both show a segment: annotate "
    "each segment in a second slice or place."
)


class Job:
    """Carries out a run.

    Args:
        path: The run folder.
        commands: Commands of the client.
        emit: Sends an event to the client.
        begun: time.monotonic() at which the time budget began.
        lock: The folder's lock if it is held already.
    """

    def __init__(self, path: str, commands: Commands, emit: Callable, begun: float, lock=None):
        self.commands, self.emit, self._lock = commands, emit, lock
        self.folder = RunFolder.open(path)
        self.options = self.folder.options
        self.clock = Clock(self.options.time_budget, begun)
        self.reporter = Reporter(emit, self.folder, self.clock, self.options.max_steps > 0)
        self.classes = len(self.folder.segments) + 1
        self._trainer: Trainer | None = None
        self._aside: dict[str, float] = {}

    @property
    def trainer(self) -> Trainer:
        """The training, once it is prepared."""
        assert self._trainer is not None
        return self._trainer

    def run(self) -> None:
        """Prepares, trains and predicts.

        Raises:
            InputError: The inputs cannot be trained on.
            EngineError: Something else makes it impossible.
            Cancelled: The client gave the run up, or stopped it before there was a result.
        """
        with self._lock or FolderLock(self.folder.path):
            self.folder.sweep()
            threads = prepare_threads()
            self.device = choose_device(self.options.device)
            self.emit(
                "ready",
                pid=os.getpid(),
                device=str(self.device),
                torch=torch.__version__,
                threads=threads,
            )
            self.inputs = Inputs(self.folder)
            try:
                self.inputs.prepare(self.options.n4, lambda: self._check("correcting bias"))
            except Stopped:
                raise Cancelled("stopped before the first training step") from None
            self.planner = Planner(
                self.inputs,
                self.options,
                self.classes,
                lambda: self.clock.left,
                lambda: self._check("probing"),
                self.reporter.warn,
            )
            self.ensemble = EnsembleStage(
                self.inputs,
                self.options,
                self.classes,
                self.commands,
                self.clock,
                self.reporter,
                self._check,
            )
            state = load_state(self.folder.state_paths, check_state, self.reporter.warn)
            self._advise()
            self._predict(self._trained(state))

    def _advise(self) -> None:
        """Warns of annotation that lies in one slice alone."""
        first, *others = self.inputs.trained
        labels = self.inputs.items[first].labels
        item = None if others else only_slice(labels)
        if item is not None:
            self.reporter.warn(advice(labels, item))

    def _check(self, phase: str, fraction: float = 0.0) -> None:
        """Reports the phase; pauses, stops or cancels where the client asked for it."""
        self.reporter.progress(phase, fraction)
        if self.commands.paused:
            self.clock.pause()
            pause(self.commands, self.reporter)
            self.clock.resume()
        if self.commands.cancel.is_set():
            raise Cancelled("asked to")
        if self.commands.stop.is_set():
            raise Stopped

    def _trained(self, state: tuple[dict, dict] | None) -> Plan:
        """Prepares and trains, from a checkpoint if there is one. Returns the plan."""
        if state is not None:
            # The preparation is repeated, but its time was counted already.
            self.clock.seconds = state[1]["seconds"]
            self.clock.pause()
        known = None if state is None else Plan.from_json(state[1]["plan"])
        plan = retry_smaller(
            lambda: self._prepare(known),
            lambda: self._less(known),
            self.reporter.recovered,
            self.device,
            "preparing the training",
        )
        began = self.clock.seconds
        if state is not None:
            began = self._restored(state, began)
        self._train(plan, began)
        return plan

    def _restored(self, state: tuple[dict, dict], began: float) -> float:
        """Restores the training from a checkpoint; returns when it began."""
        tensors, about = state
        try:
            restore(self.trainer, tensors, about)
            began = about["began"]
            self.emit("resumed", step=self.trainer.steps, seconds=round(self.clock.seconds, 3))
            self.reporter.newest = Report(self.trainer.steps, None, 0.0, "all slices")
        except ValueError as error:
            self.reporter.warn(f"training begins anew: {error}.")
            self.clock.seconds = began = 0.0
        self.clock.resume()
        return began

    def _prepare(self, known: Plan | None) -> Plan:
        """Makes the plan unless it is known, the working volumes, the stack and the trainer."""
        first = self.inputs.trained[0]
        if known is not None:
            plan, volume = known, self.inputs.volume(first, known.shape, self.device)
        else:
            if not self.options.max_steps:
                self.reporter.progress("probing", now=True)
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
        versions = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        self.folder.save_plan({"device": str(self.device), **plan.to_json()}, versions)
        self.emit("plan", device=str(self.device), **plan.to_json())
        # On resuming priors may take as long as before: the weights were trained with them.
        stack = self.ensemble.make(
            plan, volume, self.clock.left if known is None else self.clock.budget
        )
        split = self._split(plan, volume, stack)
        # The trainer alone holds on to the volumes, so that a pause can free the device.
        self._trainer = Trainer(plan, volumes, self.classes, split, self.options.seed, stack)
        self.trainer.on_smaller = self.reporter.recovered
        return plan

    def _less(self, known: Plan | None) -> str | None:
        """Memory ran out while preparing: a coarser grid, or the CPU; None when neither is left."""
        self._trainer = None
        grid = self.planner.coarser() if known is None else None
        if grid is not None:
            return f"a working grid of {times(grid)} voxels"
        return self._to_cpu()

    def _to_cpu(self) -> str | None:
        """Continues on the CPU where the device's memory does not suffice."""
        if self.device.type == "cpu":
            return None
        message = f"the CPU instead of {self.device}"
        self.device = torch.device("cpu")
        if self._trainer is not None:
            self._trainer.move(self.device)
        return message

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

    def _train(self, plan: Plan, began: float) -> None:
        """Trains until time or steps are used up. began: the clock's seconds when it began."""
        trainer, clock = self.trainer, self.clock
        done = TrainingProgress(trainer, self.options, clock, began)

        def save() -> None:
            tensors, about = state_of(trainer)
            save_state(
                self.folder.state_paths,
                tensors,
                {**about, "plan": trainer.plan.to_json(), "seconds": clock.seconds, "began": began},
            )
            save_trained_model(self.trainer, self.inputs, self.folder)

        callback = TrainingCallback(
            trainer,
            self.inputs,
            self.commands,
            clock,
            self.reporter,
            save,
            lambda step: self.ensemble.remake(trainer, step),
        )
        try:
            callback.check()
            retry_smaller(
                lambda: trainer.train(done, callback.after_step),
                self._to_cpu,
                self.reporter.recovered,
                self.device,
                "training",
            )
            if not trainer.steps:
                stack = trainer.training_set.stack
                self.reporter.warn(
                    "no network was trained: the result is the ensemble of priors "
                    "and shallow model. "
                    + (
                        TOO_LITTLE
                        if stack is not None and stack.missing == "annotation"
                        else "A longer time budget may do better."
                    )
                )
        except EngineError as error:
            if error.code != "out-of-memory" or not (trainer.steps or trainer.training_set.stack):
                raise
            self.reporter.warn(
                f"{error.cause} Training ends here: the result is of what was "
                f"trained so far. {error.remedy}"
            )
        except Stopped:
            if trainer.steps:
                self.reporter.warn("stopped early: the best result so far is kept.")
        # Before the best weights take the place of the newest: a resumed run goes on from these.
        callback.checkpoint()
        self._aside = {**callback.aside, "training": clock.seconds - began}
        trainer.use_best()
        save_trained_model(self.trainer, self.inputs, self.folder)

    def _predict(self, plan: Plan) -> None:
        wanted = [n for n, item in enumerate(self.inputs.items) if item.predict != []]
        for done, number in enumerate(wanted):
            item = self.inputs.items[number]

            def step(share: float, done: int = done) -> None:
                self.ensemble.raise_if_cancelled(share)
                self.reporter.progress("predicting", (done + share) / len(wanted))

            def attempt(
                number: int = number, item=item, step=step
            ) -> tuple[np.ndarray, np.ndarray]:
                trained = dict(
                    zip(self.inputs.trained, self.trainer.training_set.volumes, strict=True)
                )
                volume = trained.get(number) or self.inputs.volume_like(
                    number, plan, self.trainer.device
                )
                return predict(self.trainer, volume, item.predict, step)

            labels, uncertainty = retry_smaller(
                attempt, self._to_cpu, self.reporter.recovered, self.device, "predicting"
            )
            write_result(self.folder, number, labels, uncertainty, item.predict is None)
        scored = self.reporter.scored()
        split = self.trainer.split
        self.emit(
            "done",
            seconds=round(self.clock.seconds, 2),
            step=self.trainer.steps,
            held_out=scored[-1]["held_out"] if scored else None,
            held_out_slices=[str(s) for s in split.slices] if split else [],
            seconds_aside={k: round(v, 2) for k, v in self._aside.items()},
        )

"""A task that trains: from a checkpoint if there is one, until time or steps are used up."""

from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch

from ...errors import EngineError
from ...runfolder.phases import Phase
from ..compute.memory import retry_smaller
from ..data.inputs import Inputs
from ..plan import Plan
from ..stopping import Stopped
from ..training.checkpoint import load_state, save_state
from ..training.report import Report
from ..training.trainer import Trainer
from ..training.training_state import check_state, restore, state_of
from .callback import TrainingCallback
from .commands import Commands
from .task import Task
from .training_progress import TrainingProgress


class TrainingTask(Task):
    """A run that trains a network; a subclass prepares it and uses what was learnt.

    Attributes:
        inputs: The run's volumes, which `work` reads.
    """

    inputs: Inputs

    def __init__(self, path: str, commands: Commands, emit: Callable, begun: float, lock=None):
        super().__init__(path, commands, emit, begun, lock)
        self._trainer: Trainer | None = None
        self._aside: dict[str, float] = {}

    @property
    def trainer(self) -> Trainer:
        """The training, once it is prepared."""
        assert self._trainer is not None
        return self._trainer

    @abstractmethod
    def prepare(self, known: Plan | None) -> Plan:
        """Makes the trainer, by a plan that is known already or by a new one; returns the plan."""

    @abstractmethod
    def smaller(self, known: Plan | None) -> str | None:
        """Makes something smaller after memory ran out in `prepare`; None if nothing can be."""

    @abstractmethod
    def remake(self, step: Callable[[], None]) -> None:
        """Makes the priors again from the labels as they are now, if there is time.

        Args:
            step: Called in between; it may raise to stop.
        """

    def drawn(self, number: int, before: np.ndarray) -> None:
        """Looks at labels that were drawn while it trains, before they are trained on.

        Args:
            number: Of the volume.
            before: Its labels before that, uint8 (k, j, i).
        """

    @abstractmethod
    def without_network(self) -> str:
        """A message on what the result is made of where no network was trained, and the remedy."""

    def trained(self) -> Plan:
        """Prepares and trains, from a checkpoint if there is one. Returns the plan."""
        state = load_state(self.folder.state_paths, check_state, self.reporter.warn)
        if state is not None:
            # The preparation is repeated, but its time was counted already.
            self.clock.seconds = state[1]["seconds"]
            self.clock.pause()
        known = None if state is None else Plan.from_json(state[1]["plan"])
        plan = retry_smaller(
            lambda: self.prepare(known),
            lambda: self._less(known),
            self.reporter.recovered,
            self.device,
            "preparing the training",
        )
        began = self.clock.seconds
        if state is not None:
            began = self._restored(state, began)
        self._train(began)
        return plan

    def _less(self, known: Plan | None) -> str | None:
        self._trainer = None
        return self.smaller(known) or self.to_cpu()

    def to_cpu(self) -> str | None:
        """Continues on the CPU, with the training as it is."""
        message = super().to_cpu()
        if message is not None and self._trainer is not None:
            self._trainer.move(self.device)
        return message

    def save_plan(self, plan: Plan) -> None:
        """Stores the plan in the run folder and tells the client."""
        versions = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        self.folder.save_plan({"device": str(self.device), **plan.to_json()}, versions)
        self.emit("plan", device=str(self.device), **plan.to_json())

    def _restored(self, state: tuple[dict, dict], began: float) -> float:
        """Restores the training from a checkpoint; returns when it began."""
        tensors, about = state
        try:
            restore(self.trainer, tensors, about)
            began = about["began"]
            self.emit("resumed", step=self.trainer.steps, seconds=round(self.clock.seconds, 3))
            self.reporter.newest = Report(self.trainer.steps, None, 0.0, Phase.ALL_SLICES)
        except ValueError as error:
            self.reporter.warn(f"training begins anew: {error}.")
            self.clock.seconds = began = 0.0
        self.clock.resume()
        return began

    def _train(self, began: float) -> None:
        """Trains until time or steps are used up. began: the clock's seconds when it began."""
        trainer, clock = self.trainer, self.clock
        trainer.partners = self.partners
        done = TrainingProgress(trainer, self.options, clock, began)

        def save() -> None:
            tensors, about = state_of(trainer)
            save_state(
                self.folder.state_paths,
                tensors,
                {**about, "plan": trainer.plan.to_json(), "seconds": clock.seconds, "began": began},
            )

        callback = TrainingCallback(
            trainer, self.inputs, self.commands, clock, self.reporter, save, self.remake, self.drawn
        )
        try:
            callback.check()
            retry_smaller(
                lambda: trainer.train(done, callback.after_step),
                self.to_cpu,
                self.reporter.recovered,
                self.device,
                "training",
            )
            if not trainer.steps and not self.options.priors_alone:
                self.reporter.warn(self.without_network())
        except EngineError as error:
            if error.code != "out-of-memory" or not (
                trainer.steps or trainer.training_set.has_prior
            ):
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

    @property
    def wanted(self) -> list[int]:
        """Numbers of the volumes that are to be predicted."""
        return [n for n, item in enumerate(self.inputs.items) if item.predict != []]

    def predicting(self, done: int) -> Callable[[float], None]:
        """Makes the function that takes the share done of predicting a volume.

        Args:
            done: Volumes that are predicted already.

        Returns:
            It reports the progress, and raises Cancelled where the client wants it.
        """
        count = len(self.wanted)

        def step(share: float) -> None:
            self.raise_if_cancelled()
            self.reporter.progress(Phase.PREDICTING, (done + share) / count)

        return step

    def done(self, scores: list[dict] | None) -> None:
        """Tells the client that all results are written.

        Args:
            scores: IoU and Dice per segment; None where nothing could be scored.
        """
        split = self.trainer.split
        self.emit(
            "done",
            seconds=round(self.clock.seconds, 2),
            step=self.trainer.steps,
            held_out=scores,
            held_out_slices=[str(s) for s in split.slices] if split else [],
            seconds_aside={k: round(v, 2) for k, v in self._aside.items()},
        )

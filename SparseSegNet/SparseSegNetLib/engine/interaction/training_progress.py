"""The share of a training that is done, by its steps or by its time budget."""

from __future__ import annotations

from ...runfolder.options import Options
from ..planning.planner import LEAST_TRAINING
from ..training.trainer import Trainer
from .clock import Clock
from .ensemble_stage import WORTH_TRAINING


class TrainingProgress:
    """Tells `Trainer.train` how much of the training is done.

    Args:
        trainer: The training.
        options: Of the run; `max_steps` ends it by steps.
        clock: The run's time.
        began: The clock's seconds at which training began.
    """

    def __init__(self, trainer: Trainer, options: Options, clock: Clock, began: float):
        self.trainer, self.options, self.clock, self.began = trainer, options, clock, began
        self._seconds_to_predict = trainer.plan.seconds_to_predict

    def __call__(self, steps: int) -> float:
        """Share of the training that is done after so many steps; 1 or more ends it."""
        training_set = self.trainer.training_set
        if not training_set.trainable or self.options.priors_alone:
            return 1.0
        if self.options.max_steps:
            return steps / self.options.max_steps
        until = self.clock.budget - self._seconds_to_predict
        least = LEAST_TRAINING
        if training_set.has_prior:
            if until - self.began < WORTH_TRAINING:
                return 1.0  # the ensemble of priors and shallow model is the result
            least = 0.0
        return (self.clock.seconds - self.began) / max(until - self.began, least, 1e-3)

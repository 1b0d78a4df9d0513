"""Training of the network of a region on patches that are read from the store, chunk by chunk."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..engine.compute.boxes import box_within, round_up
from ..engine.compute.number_formats import channels_last, fastest_format
from ..engine.compute.tensors_file import read_tensors, save_tensors
from ..engine.networks import build
from ..engine.plan import Fingerprint, Plan
from ..engine.planning.auto_plan import make_plan
from ..engine.prediction.plan_form import check_plan
from ..engine.training.checkpoint import load_state, save_state
from ..engine.training.report import Report
from ..engine.training.trainer import Trainer
from ..engine.training.training_set import DEFAULT_NETWORK_SHARE
from ..engine.training.training_state import check_state, restore, state_of
from ..errors import EngineError, InputError
from ..runfolder.options import Options
from .fine_set import FineSet
from .fine_volume import FineImage
from .segment_tile import unwritten

KEY = "sparsesegnet-fine"
CHECKPOINT_EVERY = 15.0  # seconds
WINDOW_SHARE = 0.25  # of the cache, for the blocks that are drawn from: patches reach beyond them
TILE_VOXELS = 64**3  # of the network, so that output tiles compute little twice
Step = Callable[[float], None]


@dataclass
class FineNetwork:
    """A network that was trained on a region.

    Attributes:
        network: Gives logits.
        plan: Of the training.
        share: Ensemble weight of the network beside its prior.
    """

    network: torch.nn.Module
    plan: Plan
    share: float

    def save(self, path: Path) -> None:
        """Writes it, atomically.

        Raises:
            OSError: It cannot be written.
        """
        about = {"schema": 1, "plan": self.plan.to_json(), "share": self.share}
        header = {KEY: json.dumps(about, allow_nan=False)}
        save_tensors(path, dict(self.network.state_dict()), header)

    @classmethod
    def load(cls, path: Path, inputs: int, classes: int, device: torch.device) -> FineNetwork:
        """Reads it.

        Args:
            path: The file.
            inputs: Channels of the image with those of the prior.
            classes: Labels with background.
            device: To compute on.

        Raises:
            InputError: The file is damaged.
        """
        try:
            tensors, about = read_tensors(path, KEY)
            check_plan(about["plan"])
            plan = Plan.from_json(about["plan"])
            network = build(plan, inputs + (3 if plan.position else 0), classes)
            network.load_state_dict(tensors)
            share = float(about["share"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{path} is damaged ({error}): delete it, and --resume trains the network again."
            ) from error
        network = channels_last(network.to(device)).eval().requires_grad_(False)
        return cls(network, plan, share)


def fine_plan(
    image: FineImage, classes: int, slices: int, labelled: int, options: Options, device: str
) -> Plan:
    """The plan of the network.

    Args:
        image: The region on the fine level.
        classes: Labels with background.
        slices: Annotated slices.
        labelled: Drawn voxels.
        options: Of the run.
        device: To train on.
    """
    channels = len(image.cache.image.channels)
    fingerprint = Fingerprint(image.shape, image.spacing, channels, classes, labelled, slices)
    kind = torch.device(device).type
    plan = make_plan(fingerprint, kind)
    if kind == "cpu":
        tile = box_within(image.shape, image.spacing, TILE_VOXELS)
        plan = replace(plan, tile=round_up(tile, plan.divisor))
    if not options.max_steps:  # else nothing may depend on the clock
        plan = replace(plan, dtype=fastest_format(torch.device(device)))
    return plan


class FineTraining:
    """Trains the network of a region; it can be interrupted and gone on with.

    Args:
        training_set: The region's folds.
        plan: Of the network.
        classes: Labels with background.
        prior_only: Classes of which only the priors know.
        options: Of the run; seed and steps.
        folder: Where checkpoints are kept.
        seconds: How long it may take; steps, if the options name them, end it instead.
    """

    def __init__(
        self,
        training_set: FineSet,
        plan: Plan,
        classes: int,
        prior_only: tuple[int, ...],
        options: Options,
        folder: Path,
        seconds: float,
    ):
        self.training_set, self.options, self.seconds = training_set, options, seconds
        self.paths = folder / "state.safetensors", folder / "state-previous.safetensors"
        folder.mkdir(exist_ok=True)
        state = load_state(self.paths, check_state)
        if state is not None:
            plan = Plan.from_json(state[1]["plan"])
        self.trainer = Trainer(plan, [], classes, None, options.seed, training_set=training_set)
        self.trainer.network_share = DEFAULT_NETWORK_SHARE
        for network in (self.trainer.network, self.trainer.average):
            network.leave_to_prior(prior_only)  # type: ignore[operator]
        self._spent = 0.0
        if state is not None:
            restore(self.trainer, *state)
            self._spent = state[1]["seconds"]
            self.trainer.sampler.batches = self.trainer.steps  # type: ignore[attr-defined]
        self._begun = self._saved = time.monotonic()

    def taken(self) -> float:
        """Seconds that it has trained, also before it was interrupted."""
        return self._spent + time.monotonic() - self._begun

    def _done(self, steps: int) -> float:
        if self.options.max_steps:
            return steps / self.options.max_steps
        return self.taken() / max(1.0, self.seconds)

    def checkpoint(self) -> None:
        """Writes a checkpoint to go on from.

        Raises:
            EngineError: 'disk-full' or 'files'.
        """
        tensors, about = state_of(self.trainer)
        plan = self.trainer.plan.to_json()
        about = {**about, "plan": plan, "seconds": self.taken(), "began": 0.0}
        try:
            save_state(self.paths, tensors, about)
        except OSError as error:
            raise unwritten(error, self.paths[0]) from error
        self._saved = time.monotonic()

    def train(self, step: Step = lambda share: None) -> FineNetwork:
        """Trains until time or steps are used up.

        Whatever ends it before that leaves a checkpoint.

        Args:
            step: Called with the share done; it may raise to stop.

        Raises:
            InputError: A chunk cannot be read; the message names it.
            EngineError: 'out-of-memory', 'disk-full' or 'files'.
        """

        def report(said: Report) -> None:
            if time.monotonic() - self._saved >= CHECKPOINT_EVERY:
                self.checkpoint()
            step(said.fraction)

        trainer = self.trainer
        try:
            trainer.train(self._done, report)
        except InputError as error:
            self.checkpoint()
            raise InputError(
                f"{error} The network has learnt {trainer.steps} steps until then."
            ) from error
        except EngineError:
            raise
        except BaseException:
            self.checkpoint()
            raise
        self.checkpoint()
        trainer.use_best()
        share = trainer.network_share if trainer.steps else 0.0
        return FineNetwork(trainer.average, trainer.plan, share)


def blocks_in_window(image: FineImage) -> int:
    """Number of the region's blocks that patches are drawn from at a time."""
    cache = image.cache
    return max(1, math.floor(WINDOW_SHARE * cache.most / max(1, cache.block_bytes)))

"""A training by several ranks: rank 0 leads, the others take each of its steps with it.

Before a step rank 0 says how far the training is, and hands over what has changed since the one
before: labels, volumes, the plan, at first everything. So priors are made once, and time, commands
of the client and labels are rank 0's alone. Each rank draws patches of its own; loss, batch
statistics and gradient are those of all patches, and every rank has the same weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from ...errors import EngineError
from ..compute.ranks import Ranks
from ..data.preprocessing import WorkingVolume
from .training_set import TrainingSet

if TYPE_CHECKING:
    from .trainer import Trainer

TENSORS = ("image", "labels", "spacing")  # of a WorkingVolume


class Alone:
    """A training by one process."""

    def step(self, trainer: Trainer, fraction: float) -> AbstractContextManager[None]:
        """Goes around a step at `fraction` of the schedule."""
        return nullcontext()

    def network(self, trainer: Trainer) -> torch.nn.Module:
        """The network whose gradient is that of all patches."""
        return trainer.network

    def moved(self, device: torch.device) -> None:
        """Takes notice that the training has moved to another device."""

    def end(self, code: int) -> None:
        """Takes notice that this process ends with an exit code."""


class Together(Alone):
    """A training by several ranks, as each of them sees it.

    Args:
        ranks: The processes, which have joined.
    """

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self._parallel: DistributedDataParallel | None = None
        self._known: list[torch.Tensor] = []  # of the volumes that all ranks have

    @contextmanager
    def step(self, trainer: Trainer, fraction: float) -> Iterator[None]:
        """Goes around a step.

        Raises:
            EngineError: 'rank-lost'.
        """
        try:
            self.begin(trainer, fraction)
            with self.ranks.summing(trainer.device):
                yield
        except EngineError:
            raise
        except Exception as error:  # the others wait for this one, whatever it is
            raise self.ranks.lost(error) from error

    def begin(self, trainer: Trainer, fraction: float) -> None:
        """Prepares a step."""

    def network(self, trainer: Trainer) -> torch.nn.Module:
        """The network whose gradient is averaged over the ranks."""
        if self._parallel is None:
            with warnings.catch_warnings():
                # Its new name came with torch 2.13.
                warnings.simplefilter("ignore", FutureWarning)
                self._parallel = DistributedDataParallel(
                    trainer.network,
                    broadcast_buffers=False,  # they are the same on each rank as it is
                    process_group=self.ranks.group(trainer.device),
                )
        return self._parallel

    def moved(self, device: torch.device) -> None:
        """Makes the connection of the gradients anew; see `Alone`."""
        self._parallel, self._known = None, []


class Leader(Together):
    """A training by several ranks, for rank 0, which leads it."""

    def __init__(self, ranks: Ranks):
        super().__init__(ranks)
        self._told: list[Any] | None = None

    def begin(self, trainer: Trainer, fraction: float) -> None:
        """Tells the others to take a step, with what is new."""
        now = _what_counts(trainer)
        told = self._told
        changed = told is None or len(told) != len(now) or any(map(_differ, told, now))
        news, tensors = self._news(trainer) if changed else (None, [])
        self.ranks.message({"fraction": fraction, "steps": trainer.steps, "news": news})
        for tensor in tensors:
            self.ranks.bytes_of(tensor.detach().cpu())
        self._told = now

    def _news(self, trainer: Trainer) -> tuple[dict, list[torch.Tensor]]:
        """All that the others need, in words, and the tensors that they do not have yet."""
        from .training_state import state_of

        sampler = trainer.sampler
        volumes = [getattr(v, name) for v in sampler.volumes for name in TENSORS]
        places = [_place(tensor, self._known) for tensor in volumes]
        state, about = state_of(trainer)
        # The best weights are rank 0's alone.
        state = {n: t for n, t in state.items() if not n.startswith("best.")}
        favoured = sampler.favoured
        more = [trainer.class_weights, *([] if favoured is None else [favoured[0].to(torch.uint8)])]
        new = [t for t, at in zip(volumes, places, strict=True) if at is None]
        sent = [*new, *more, *state.values()]
        self._known = volumes
        return {
            "plan": trainer.plan,
            "classes": trainer.classes,
            "device": trainer.device.type,
            "seed": sampler.generator.initial_seed(),
            "volumes": [
                {f.name: getattr(v, f.name) for f in fields(v) if f.name not in TENSORS}
                for v in sampler.volumes
            ],
            "places": places,
            "about": about | {"best": None},
            "names": list(state),
            "favoured": None if favoured is None else favoured[1:],
            "forms": [(tuple(t.shape), t.dtype) for t in sent],
        }, sent

    def moved(self, device: torch.device) -> None:
        """Has the others move as well: a pause frees their devices too."""
        super().moved(device)
        if self._told is not None:
            self.ranks.message({"move": device.type})

    def end(self, code: int) -> None:
        """Has the others end, with the exit code of this process."""
        self._parallel = None  # it holds the connections, and would close them later
        if self.ranks.broken:
            return
        with suppress(EngineError):  # they have gone before
            self.ranks.message({"end": code})
            self.ranks.leave()


class Follower(Together):
    """A training by several ranks, for each of the others."""

    def __init__(self, ranks: Ranks):
        super().__init__(ranks)
        self._trainer: Trainer | None = None

    def follow(self) -> int:
        """Takes part in all steps of rank 0; returns the exit code with which it ends.

        Raises:
            EngineError: 'rank-lost'.
        """
        while True:
            try:
                message = self.ranks.message()
                if "end" in message:
                    self._parallel = None  # it holds the connections, and would close them later
                    return message["end"]
                self._carry_out(message)
            except EngineError:
                raise
            except Exception as error:
                raise self.ranks.lost(error) from error

    def _carry_out(self, message: dict) -> None:
        if "move" in message:
            if self._trainer is not None:
                self._trainer.move(self.ranks.device(message["move"]))
            return
        if message["news"] is not None:
            self._learn(message["news"])
        trainer = self._trainer
        if trainer is None or trainer.steps != message["steps"]:
            raise RuntimeError("it is not at the same step as rank 0")
        trainer.step(message["fraction"])

    def _learn(self, news: dict) -> None:
        """Takes over what rank 0 hands over."""
        from .trainer import Trainer
        from .training_state import restore

        device = self.ranks.device(news["device"])
        received = [self.ranks.bytes_of(torch.empty(s, dtype=kind)) for s, kind in news["forms"]]
        come = iter(received)
        self._known = [
            next(come).to("cpu" if n % len(TENSORS) == 2 else device)
            if place is None
            else self._known[place]
            for n, place in enumerate(news["places"])
        ]
        rows = [self._known[n : n + len(TENSORS)] for n in range(0, len(self._known), len(TENSORS))]
        volumes = [
            WorkingVolume(**dict(zip(TENSORS, row, strict=True)), **rest)
            for row, rest in zip(rows, news["volumes"], strict=True)
        ]
        trainer = self._trainer
        if trainer is None:
            known = TrainingSet(volumes, None, None, False)
            trainer = Trainer(news["plan"], [], news["classes"], None, news["seed"], None, known)
            trainer.partners = self
            self._trainer = trainer
        trainer.plan = trainer.sampler.plan = news["plan"]
        trainer.training_set.volumes = volumes
        trainer.sampler.set_volumes(volumes)
        trainer.weigh_classes(next(come).to(device))
        if news["favoured"] is not None:
            trainer.sampler.favoured = next(come).to(device).bool(), *news["favoured"]
        restore(trainer, dict(zip(news["names"], come, strict=True)), news["about"])
        seed = [news["seed"], self.ranks.rank, trainer.steps]
        own = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
        trainer.sampler.generator.manual_seed(own)
        torch.manual_seed(own)


def _what_counts(trainer: Trainer) -> list[Any]:
    """All that steps depend on beside the weights; each item is replaced where it changes."""
    sampler = trainer.sampler
    tensors = [getattr(v, name) for v in sampler.volumes for name in TENSORS]
    favoured = sampler.favoured
    return [trainer.plan, str(trainer.device), None if favoured is None else favoured[0], *tensors]


def _differ(before: Any, now: Any) -> bool:
    return before != now if isinstance(now, str) else before is not now


def _place(tensor: torch.Tensor, known: list[torch.Tensor]) -> int | None:
    return next((n for n, other in enumerate(known) if other is tensor), None)

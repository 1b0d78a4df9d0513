"""A training taken apart for a checkpoint, and put together again, to the bit."""

from __future__ import annotations

from dataclasses import replace

import torch

from .checkpoint import flatten, unflatten
from .trainer import Trainer

PARTS = ("network", "average")


def state_of(trainer: Trainer) -> tuple[dict[str, torch.Tensor], dict]:
    """All that `restore` needs, as tensors and as JSON-able values."""
    tensors, optimiser = flatten(trainer.optimiser.state_dict(), "optimiser.")
    for part in PARTS:
        for name, value in getattr(trainer, part).state_dict().items():
            tensors[f"{part}.{name}"] = value
    if trainer.best is not None:
        for name, value in trainer.best[1].items():
            tensors[f"best.{name}"] = value
    tensors["random.sampler"] = trainer.sampler.generator.get_state()
    tensors["random.torch"] = torch.get_rng_state()
    split = trainer.split
    return tensors, {
        "steps": trainer.steps, "scorings": trainer.scorings, "rate": trainer.rate,
        "losses": list(trainer.losses), "network_share": trainer.network_share,
        "held": trainer.lesson.held,
        "held_slices": None if split is None else split.names(),
        "best": None if trainer.best is None else trainer.best[0],
        "batch": trainer.plan.batch, "patch": list(trainer.plan.patch), "optimiser": optimiser,
    }


def restore(trainer: Trainer, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Put a fresh trainer where another one was when `state_of` was taken.

    Slices stay held out only if they are the same ones now; others the network has seen. Raises
    ValueError when the state belongs to another network.
    """
    def part(name: str) -> dict[str, torch.Tensor]:
        return {key[len(name) + 1:]: value.to(trainer.device)
                for key, value in tensors.items() if key.startswith(name + ".")}

    try:
        for name in PARTS:
            getattr(trainer, name).load_state_dict(part(name))
        trainer.optimiser.load_state_dict(unflatten(tensors, about["optimiser"], "optimiser."))
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"the state does not fit the network: {error}") from error
    trainer.plan = replace(trainer.plan, batch=about["batch"], patch=tuple(about["patch"]))
    trainer.sampler.plan = trainer.plan
    trainer.steps, trainer.scorings = about["steps"], about["scorings"]
    trainer.rate, trainer.network_share = about["rate"], about["network_share"]
    trainer.losses.extend(about["losses"])
    split = trainer.split
    same = split is not None and about["held_slices"] == split.names()
    if trainer.lesson.held and not (about["held"] and same):
        trainer.end_held_out()
    if not same:
        trainer.lesson.split = None
    if about["best"] is not None and same and trainer.lesson.held:
        trainer.best = about["best"], part("best")
    trainer.sampler.generator.set_state(tensors["random.sampler"])
    torch.set_rng_state(tensors["random.torch"])

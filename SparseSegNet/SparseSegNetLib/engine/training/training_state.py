"""The state of a trainer as a checkpoint, and a trainer restored from it, to the bit."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...runfolder.forms import (
    anything,
    flag,
    mapping,
    number,
    of_type,
    optional,
    record,
    rows,
    text,
    whole,
)
from ..plan import Plan
from ..prediction.plan_form import SIZES, check_plan
from .trainer import Trainer

PARTS = ("network", "average")
RANDOM = ("random.sampler", "random.torch")
SCALE = record(
    {
        "scale": number(0),
        "growth_factor": number(1),
        "backoff_factor": number(0, 1),
        "growth_interval": whole(1),
        "_growth_tracker": whole(0),
    }
)
STATE = record(
    {
        "steps": whole(0),
        "scorings": whole(0),
        "rate": number(0),
        "losses": rows(number()),
        "network_share": number(0, 1),
        "held": flag(),
        "held_slices": optional(rows(text())),
        "best": optional(number()),
        "batch": whole(1, 1 << 16),
        "patch": SIZES,
        "optimiser": record(
            {"state": mapping(mapping(anything())), "groups": rows(mapping(anything()), 1)}
        ),
        "plan": of_type(Plan),
        "seconds": number(0),
        "began": number(0),
    },
    {"skipped": whole(0), "scale": optional(SCALE)},
)


def check_state(tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Checks the form of a checkpoint.

    Raises:
        ValueError: It is not what `state_of` and the job write.
    """
    STATE(about, "")
    check_plan(about["plan"])
    for name in RANDOM:
        if name not in tensors or tensors[name].dtype != torch.uint8:
            raise ValueError(f"the state of the random numbers '{name}' is missing")
    for part in PARTS:
        if not any(name.startswith(f"{part}.") for name in tensors):
            raise ValueError(f"the weights '{part}' are missing")


def state_of(trainer: Trainer) -> tuple[dict[str, torch.Tensor], dict]:
    """All that `restore` needs, as tensors by name and as JSON-able values."""
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
        "steps": trainer.steps,
        "scorings": trainer.scorings,
        "rate": trainer.rate,
        "skipped": trainer.scale.skipped,
        "scale": trainer.scale.state() or None,
        "losses": list(trainer.losses),
        "network_share": trainer.network_share,
        "held": trainer.training_set.holding_out,
        "held_slices": None if split is None else split.names(),
        "best": None if trainer.best is None else trainer.best[0],
        "batch": trainer.plan.batch,
        "patch": list(trainer.plan.patch),
        "optimiser": optimiser,
    }


def restore(trainer: Trainer, tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Restores the state of a training in a fresh trainer.

    Slices stay held out only if they are the same ones now; others the network has seen.

    Args:
        trainer: Made from the same plan.
        tensors: From `state_of`.
        about: From `state_of`.

    Raises:
        ValueError: The state belongs to another network.
    """

    def part(name: str) -> dict[str, torch.Tensor]:
        return {
            key[len(name) + 1 :]: value.to(trainer.device)
            for key, value in tensors.items()
            if key.startswith(name + ".")
        }

    try:
        for name in PARTS:
            getattr(trainer, name).load_state_dict(part(name))
        trainer.optimiser.load_state_dict(unflatten(tensors, about["optimiser"], "optimiser."))
    except (RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"the state does not fit the network: {error}") from error
    trainer.plan = replace(trainer.plan, batch=about["batch"], patch=tuple(about["patch"]))
    trainer.sampler.plan = trainer.plan
    trainer.steps, trainer.scorings = about["steps"], about["scorings"]
    trainer.rate, trainer.network_share = about["rate"], about["network_share"]
    # Checkpoints from before float16 hold neither.
    trainer.scale.restore(about.get("scale") or {}, about.get("skipped", 0))
    trainer.losses.extend(about["losses"])
    split = trainer.split
    same = split is not None and about["held_slices"] == split.names()
    if trainer.training_set.holding_out and not (about["held"] and same):
        trainer.end_held_out()
    if not same:
        trainer.training_set.split = None
    if about["best"] is not None and same and trainer.training_set.holding_out:
        trainer.best = about["best"], part("best")
    trainer.sampler.generator.set_state(tensors["random.sampler"])
    torch.set_rng_state(tensors["random.torch"])


def flatten(state: dict, prefix: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Divides an optimiser's state_dict into tensors by name and a JSON-able rest."""
    tensors, rest = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if torch.is_tensor(value):
                tensors[f"{prefix}{index}.{name}"] = value
            else:
                rest.setdefault(str(index), {})[name] = value
    return tensors, {"state": rest, "groups": state["param_groups"]}


def unflatten(tensors: dict[str, torch.Tensor], rest: dict, prefix: str) -> dict:
    """The inverse of `flatten`."""
    state: dict[int, dict] = {int(n): dict(v) for n, v in rest["state"].items()}
    for name, value in tensors.items():
        if name.startswith(prefix):
            number, entry = name[len(prefix) :].split(".", 1)
            state.setdefault(int(number), {})[entry] = value
    return {"state": state, "param_groups": rest["groups"]}

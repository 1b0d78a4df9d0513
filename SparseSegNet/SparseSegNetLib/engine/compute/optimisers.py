"""Optimisers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim.adamw import adamw

from ..plan import Plan


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as torch computes it.

    Made like `torch.optim.AdamW` and with the same state, but on its functional form alone: the
    first use of any of torch's optimiser classes imports torch's compiler, which nothing here
    uses and every start of the engine would wait more than a second for.
    """

    def __init__(
        self,
        weights: Iterable[torch.nn.Parameter],
        rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        self.param_groups = [
            {
                "params": list(weights),
                "lr": rate,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
            }
        ]
        self.state: dict[int, dict[str, torch.Tensor]] = {}  # by place among the weights

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for weight in self.param_groups[0]["params"]:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Takes an optimisation step."""
        group = self.param_groups[0]
        moved = [(n, w) for n, w in enumerate(group["params"]) if w.grad is not None]
        for number, weight in moved:
            if number not in self.state:
                self.state[number] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        states = [self.state[number] for number, _ in moved]
        adamw(
            [w for _, w in moved],
            [w.grad for _, w in moved],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def state_dict(self) -> dict:
        """The state, in the form of torch's optimisers."""
        group = self.param_groups[0]
        places = list(range(len(group["params"])))
        return {"state": self.state, "param_groups": [group | {"params": places}]}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state.

        Raises:
            ValueError: The state belongs to other weights.
        """
        weights = self.param_groups[0]["params"]
        for number, entries in state["state"].items():
            if number >= len(weights) or entries["exp_avg"].shape != weights[number].shape:
                raise ValueError("the optimiser's state belongs to another network")
        self.state = {
            number: {
                name: value.to(weights[number].device) if value.dim() else value.cpu()
                for name, value in entries.items()
            }
            for number, entries in state["state"].items()
        }
        self.param_groups[0] |= {
            k: v
            for k, v in state["param_groups"][0].items()
            if k in self.param_groups[0] and k != "params"
        }


def make_optimiser(plan: Plan, network: torch.nn.Module) -> torch.optim.Optimizer | AdamW:
    """Makes the plan's optimiser for a network's weights."""
    weights, rate = network.parameters(), plan.learning_rate
    if plan.optimiser == "sgd":
        return torch.optim.SGD(weights, rate, plan.momentum, weight_decay=plan.weight_decay)
    if plan.optimiser == "adam":
        return torch.optim.Adam(weights, rate, weight_decay=plan.weight_decay)
    if plan.optimiser == "adamw":
        return AdamW(weights, rate, weight_decay=plan.weight_decay)
    raise ValueError(f"no optimiser '{plan.optimiser}'")


def move_optimiser(
    optimiser: torch.optim.Optimizer | AdamW,
    before: list[torch.nn.Parameter],
    after: list[torch.nn.Parameter],
    device: torch.device,
) -> None:
    """Moves an optimiser's state to the device where its weights are now, in the same order.

    Args:
        optimiser: The optimiser.
        before: The weights before the network was moved.
        after: The weights now; torch may have made new ones.
        device: Where they are.
    """
    optimiser.param_groups[0]["params"] = after
    for old, new in zip(before, after, strict=True):
        if old is not new and old in optimiser.state:  # torch's optimisers know them by the weight
            optimiser.state[new] = optimiser.state.pop(old)
    for entries in optimiser.state.values():
        for name, value in entries.items():
            if torch.is_tensor(value) and value.dim():
                entries[name] = value.to(device)

"""How weights are laid out, stepped and slowed down."""

from __future__ import annotations

import math

import torch

from .plan import Plan

WARM_UP = 0.05  # share of the training


def schedule(fraction: float) -> float:
    """Learning rate over its peak: a short warm-up, then a half cosine down to 1 %."""
    if fraction < WARM_UP:
        return 0.1 + 0.9 * fraction / WARM_UP
    done = (fraction - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its weights laid out as the fast convolutions want them."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return network


def make_optimiser(plan: Plan, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The plan's optimiser for a network's weights."""
    weights, rate = network.parameters(), plan.learning_rate
    if plan.optimiser == "sgd":
        return torch.optim.SGD(weights, rate, plan.momentum, weight_decay=plan.weight_decay)
    if plan.optimiser == "adam":
        return torch.optim.Adam(weights, rate, weight_decay=plan.weight_decay)
    if plan.optimiser == "adamw":
        return torch.optim.AdamW(weights, rate, weight_decay=plan.weight_decay)
    raise ValueError(f"no optimiser '{plan.optimiser}'")

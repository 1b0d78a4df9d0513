"""Weights that are averaged over time, with the running statistics of batch normalisation."""

from __future__ import annotations

import torch


def update_average(
    average: torch.nn.Module, network: torch.nn.Module, steps: int, decay: float
) -> None:
    """Moves averaged weights towards the newest ones.

    Args:
        average: The network with the averaged weights.
        network: The one with the newest.
        steps: Taken so far.
        decay: Of the average (0: the newest weights count).
    """
    # The average forgets its beginning quickly while the weights still move fast.
    share = 1 - min(decay, (1 + steps) / (10 + steps))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(average.parameters()), [p.detach() for p in network.parameters()], share
        )
        for mine, other in zip(average.buffers(), network.buffers(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, share)

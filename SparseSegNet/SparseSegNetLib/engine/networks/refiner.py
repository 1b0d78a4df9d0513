"""A network that corrects a prior instead of starting from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

LEAST = 1e-3  # probability: what the prior excludes, the network can still bring back


class Refiner(nn.Module):
    """Adds a network's logits to the logarithm of a prior's class probabilities.

    Args:
        network: Gives logits; its last layer is its attribute `head`, which starts at 0, so that
            before the first step the prior comes out.
        first: The first of the channels that hold the prior's foreground probabilities.
        classes: Labels with background.
    """

    def __init__(self, network: nn.Module, first: int, classes: int):
        super().__init__()
        self.network, self.first, self.classes = network, first, classes
        self.register_buffer("corrected", torch.ones(classes))
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        prior = x.narrow(1, self.first, self.classes - 1).float()
        prior = torch.cat((1 - prior.sum(dim=1, keepdim=True), prior), dim=1)
        logits = self.network(x) * self.corrected[:, None, None, None]
        return logits + torch.log(prior.clamp_min(LEAST))

    def leave_to_prior(self, classes: Sequence[int]) -> None:
        """Leaves these classes to the prior: the network is not trained on them."""
        self.corrected.fill_(1.0)
        self.corrected[list(classes)] = 0

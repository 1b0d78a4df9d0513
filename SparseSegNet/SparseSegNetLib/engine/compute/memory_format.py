"""The memory layout of a network's weights."""

from __future__ import annotations

import torch


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its weights laid out as the fast convolutions want them."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return network

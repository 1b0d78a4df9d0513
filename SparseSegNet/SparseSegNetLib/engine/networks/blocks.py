"""Blocks that several networks are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .shared_norm import BatchNorm2d, BatchNorm3d


class Conv3d(nn.Conv3d):
    """A 3D convolution whose weights' gradient can be trusted.

    On CPUs with bfloat16 arithmetic torch 2.13's padded convolution gives wrong gradients, up to
    infinite ones, where the grid is shorter along k than the kernel (measured; see
    docs/lab/published-networks.md). Such small grids cost nothing in float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        if (
            x.device.type == "cpu"
            and x.shape[2] < self.kernel_size[0]
            and torch.is_autocast_enabled("cpu")
        ):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


CONVOLUTIONS = {2: nn.Conv2d, 3: Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {2: BatchNorm2d, 3: BatchNorm3d}
TILE_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def make_norm(kind: str, channels: int, dims: int = 3) -> nn.Module | None:
    """Makes a normalisation layer.

    Args:
        kind: 'batch' (running averages at test time), 'tile' (batch normalisation that always uses
            the statistics of the tile at hand, Cicek 2016, section 2), 'instance' or 'none'.
        channels: Of its input.
        dims: 3 or 2.

    Returns:
        The layer; None for 'none'.
    """
    if kind == "none":
        return None
    if kind == "batch":
        return BATCH_NORMS[dims](channels, momentum=0.05)
    if kind == "tile":
        return TILE_NORMS[dims](channels, track_running_stats=False)
    if kind == "instance" and dims == 3:
        return nn.InstanceNorm3d(channels, affine=True)
    raise ValueError(f"norm '{kind}': expected 'batch', 'tile', 'instance' or 'none'")


class Join(nn.Module):
    """Concatenates a shortcut, cropped to its middle, behind the upward path's channels."""

    def forward(self, shortcut: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        for axis in range(2, x.dim()):
            size = x.shape[axis]
            shortcut = shortcut.narrow(axis, (shortcut.shape[axis] - size) // 2, size)
        return torch.cat((shortcut, x), dim=1)


class EnlargeLike(nn.Module):
    """Nearest-neighbour enlargement to another tensor's grid."""

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        return F.interpolate(x, size=like.shape[2:], mode="nearest")


def start_for_relu(network: nn.Module) -> None:
    """Initialises as He (2015) and the U-Net papers: variance 2 / (inputs per output)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""The `auto` network: a residual U-Net with same padding that adapts to anisotropic voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ...annotation.geometry import Triple
from .blocks import Conv3d, EnlargeLike, make_norm


class ConvNorm(nn.Sequential):
    """Convolution with same padding, normalisation and leaky ReLU (if `activate`)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        norm: str = "batch",
        activate: bool = True,
    ):
        layers: list[nn.Module] = [
            Conv3d(inputs, outputs, kernel, stride, tuple(k // 2 for k in kernel), bias=False),
            make_norm(norm, outputs),
        ]
        if activate:
            layers.append(nn.LeakyReLU(0.01, inplace=True))
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input (He 2016); the first may stride."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple, norm: str):
        super().__init__()
        self.first = ConvNorm(inputs, outputs, kernel, stride, norm)
        self.second = ConvNorm(outputs, outputs, kernel, norm=norm, activate=False)
        self.pool = nn.AvgPool3d(stride, stride, ceil_mode=True) if max(stride) > 1 else None
        self.project = nn.Conv3d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        shortcut = x if self.pool is None else self.pool(x)
        if self.project is not None:
            shortcut = self.project(shortcut)
        return F.leaky_relu(self.second(self.first(x)) + shortcut, 0.01)


class ResidualUNet(nn.Module):
    """U-Net (Cicek 2016) with residual blocks on the way down and one convolution per level up.

    Takes (n, inputs, k, j, i) of any size and gives logits (n, classes, k, j, i).

    Args:
        inputs: Image channels.
        classes: Labels with background.
        channels: Feature channels per level, finest first.
        strides: From each level to the next, (k, j, i); an axis with stride 1 is not pooled, which
            is how thick slices are kept.
        kernels: Kernel size per level.
        norm: 'batch' or 'instance'.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        channels: Sequence[int],
        strides: Sequence[Triple],
        kernels: Sequence[Triple],
        norm: str = "batch",
    ):
        super().__init__()
        if not len(channels) == len(kernels) == len(strides) + 1:
            raise ValueError(
                f"{len(channels)} levels need as many kernels (not {len(kernels)}) "
                f"and one stride fewer (not {len(strides)})"
            )
        self.stem = ConvNorm(inputs, channels[0], kernels[0], norm=norm)
        down, reduce, merge = [], [], []
        before = channels[0]
        for level, width in enumerate(channels):
            stride = strides[level - 1] if level else (1, 1, 1)
            down.append(ResidualBlock(before, width, kernels[level], stride, norm))
            before = width
        for level in range(len(strides)):
            reduce.append(nn.Conv3d(channels[level + 1], channels[level], 1, bias=False))
            merge.append(ConvNorm(2 * channels[level], channels[level], kernels[level], norm=norm))
        self.down, self.reduce, self.merge = map(nn.ModuleList, (down, reduce, merge))
        self.enlarge = EnlargeLike()
        self.head = nn.Conv3d(channels[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        x = self.stem(x)
        shortcuts = []
        for block in self.down:
            x = block(x)
            shortcuts.append(x)
        x = shortcuts.pop()
        for reduce, merge in zip(reversed(self.reduce), reversed(self.merge), strict=True):
            shortcut = shortcuts.pop()
            # Channels are reduced before the enlargement, where that is up to eight times cheaper.
            x = self.enlarge(reduce(x), shortcut)
            x = merge(torch.cat((shortcut, x), dim=1))
        return self.head(x)

"""The U-Net of the papers: `unet3d` (Cicek 2016), `fcn3d` (Roth 2018) and their 2D counterpart."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import CONVOLUTIONS, POOLS, TRANSPOSED, Join, make_norm, start_for_relu

LEVELS = 4


class UNet(nn.Module):
    """Four levels; channels double before each pooling, so that there is no bottleneck.

    Analysis: per level two 3-wide convolutions (w -> 2w at the first level: 32, 64 | 64, 128 |
    128, 256 | 256, 512), batch normalisation before each ReLU, then 2-wide max pooling.
    Synthesis: 2-wide up-convolution that keeps its channels, concatenation with the shortcut,
    two convolutions. Last a 1-wide convolution to the classes. Convolutions have a bias,
    up-convolutions have none: with 3 inputs, 3 classes and the published width these are the
    19,069,955 parameters of Cicek 2016, section 2 (batch normalisation's own 4,672 not counted).

    Takes (n, inputs, k, j, i), or (n, inputs, j, i) when dims is 2, and gives logits of the same
    size when padded, else 88 voxels shorter along each axis.

    Args:
        inputs: Image channels.
        classes: Labels with background.
        width: Channels of the first convolution.
        dims: 3 or 2.
        padded: Whether it pads (Roth 2018) instead of valid convolutions.
        norm: See `blocks.make_norm`.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        width: int = 32,
        dims: int = 3,
        padded: bool = False,
        norm: str = "tile",
    ):
        super().__init__()
        self._padding = int(padded)
        self._norm, self._dims = norm, dims
        down, up, merge = [], [], []
        before = inputs
        for level in range(LEVELS):
            half = width * 2**level
            down.append(self._pair(before, half, 2 * half))
            before = 2 * half
        for level in reversed(range(LEVELS - 1)):
            shortcut = width * 2 ** (level + 1)
            up.append(TRANSPOSED[dims](before, before, 2, 2, bias=False))
            merge.append(self._pair(before + shortcut, shortcut, shortcut))
            before = shortcut
        self.down, self.up, self.merge = map(nn.ModuleList, (down, up, merge))
        self.pool = POOLS[dims](2, 2)
        self.join = Join()
        self.head = CONVOLUTIONS[dims](before, classes, 1)
        start_for_relu(self)

    def _pair(self, inputs: int, middle: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in ((inputs, middle), (middle, outputs)):
            norm = make_norm(self._norm, b, self._dims)
            layers += [
                CONVOLUTIONS[self._dims](a, b, 3, padding=self._padding),
                *([norm] if norm is not None else []),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        shortcuts = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            shortcuts.append(x)
        x = shortcuts.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(self.join(shortcuts.pop(), up(x)))
        return self.head(x)


class PlaneUNet(UNet):
    """The 2D network behind the face of a 3D one: (n, c, 1, j, i) in, (n, classes, 1, j, i) out."""

    def __init__(self, inputs: int, classes: int, width: int = 32, norm: str = "tile"):
        super().__init__(inputs, classes, width, 2, False, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        return super().forward(x.squeeze(2)).unsqueeze(2)

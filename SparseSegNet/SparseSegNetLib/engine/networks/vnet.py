"""V-Net (Milletari, Navab and Ahmadi 2016)."""

from __future__ import annotations

import torch
from torch import nn

from ...runfolder.presets import PRESETS
from .blocks import Conv3d, Join

LEFT = (1, 2, 3, 3, 3)  # convolutions per stage on the way down
RIGHT = (3, 3, 2, 1)  # and up


class Stage(nn.Module):
    """Padded convolutions with PReLU; the stage's input is added to the last one's output.

    Where the input has fewer channels (the image), its channels are repeated.
    """

    def __init__(self, inputs: int, outputs: int, convolutions: int, kernel: int):
        super().__init__()
        self.repeats = -(-outputs // inputs) if inputs != outputs else 1
        self.outputs = outputs
        self.convolutions = nn.ModuleList(
            Conv3d(inputs if n == 0 else outputs, outputs, kernel, padding=kernel // 2)
            for n in range(convolutions)
        )
        self.activations = nn.ModuleList(nn.PReLU(outputs) for _ in range(convolutions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        residual = x if self.repeats == 1 else x.repeat(1, self.repeats, 1, 1, 1)
        last = len(self.convolutions) - 1
        for n, (convolve, activate) in enumerate(
            zip(self.convolutions, self.activations, strict=True)
        ):
            x = convolve(x)
            if n == last:
                x = x + residual[:, : self.outputs]
            x = activate(x)
        return x


class VNet(nn.Module):
    """Five stages down (16, 32, 64, 128, 256 channels) and four up (256, 128, 64, 32).

    Between stages 2x2x2 convolutions with stride 2 double the channels, and 2x2x2
    de-convolutions with stride 2 give half of a right stage's channels, the shortcut the other
    half. PReLU throughout; last a 1x1x1 convolution to the classes. No normalisation.

    Takes (n, inputs, k, j, i) with sides that are multiples of 16; gives logits of that size.

    Args:
        inputs: Image channels.
        classes: Labels with background.
        width: Channels of the first stage.
        kernel: 5 as published, or 3, which has a fifth of the weights.

    Raises:
        ValueError: Another kernel.
    """

    def __init__(self, inputs: int, classes: int, width: int = 16, kernel: int = 5):
        super().__init__()
        if kernel not in PRESETS["vnet"].kernels:
            raise ValueError(f"a kernel of {kernel}: V-Net has 5 (published) or 3")
        left, down, up, right = [], [], [], []
        before = inputs
        for level, convolutions in enumerate(LEFT):
            channels = width * 2**level
            if level:
                down.append(_then_prelu(nn.Conv3d(before, channels, 2, 2), channels))
            left.append(Stage(channels if level else inputs, channels, convolutions, kernel))
            before = channels
        for level, convolutions in zip(reversed(range(len(RIGHT))), RIGHT, strict=True):
            shortcut = width * 2**level
            up.append(_then_prelu(nn.ConvTranspose3d(before, shortcut, 2, 2), shortcut))
            before = 2 * shortcut
            right.append(Stage(before, before, convolutions, kernel))
        self.left, self.down, self.up, self.right = map(nn.ModuleList, (left, down, up, right))
        self.join = Join()
        self.head = nn.Conv3d(before, classes, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                # Glorot's initialisation keeps the sums of the residual stages in bounds.
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        shortcuts = []
        for level, stage in enumerate(self.left):
            x = stage(self.down[level - 1](x) if level else x)
            shortcuts.append(x)
        shortcuts.pop()
        for up, stage in zip(self.up, self.right, strict=True):
            x = stage(self.join(shortcuts.pop(), up(x)))
        return self.head(x)


def _then_prelu(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.PReLU(channels))

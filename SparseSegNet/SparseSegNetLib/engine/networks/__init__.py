"""The networks, by the name of their preset."""

from __future__ import annotations

from torch import nn

from ..plan import Plan
from .residual_unet import ResidualUNet


def build(plan: Plan, inputs: int, classes: int) -> nn.Module:
    """The plan's network with `inputs` image channels and `classes` labels (with background)."""
    return ResidualUNet(inputs, classes, plan.channels, plan.strides, plan.kernels, plan.norm)

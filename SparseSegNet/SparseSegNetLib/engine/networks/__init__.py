"""The networks, by the name of their preset."""

from __future__ import annotations

from torch import nn

from ..plan import Plan
from .refiner import Refiner
from .residual_unet import ResidualUNet
from .unet import PlaneUNet, UNet
from .vnet import VNet


def build(plan: Plan, inputs: int, classes: int) -> nn.Module:
    """Builds the plan's network with `inputs` channels and `classes` labels with background."""
    if plan.network == "auto":
        network = ResidualUNet(
            inputs, classes, plan.channels, plan.strides, plan.kernels, plan.norm
        )
        if not plan.priors:
            return network
        # The inputs are the image's channels, the prior's and those of the position.
        return Refiner(network, inputs - (3 if plan.position else 0) - (classes - 1), classes)
    if plan.network == "unet3d":
        return UNet(inputs, classes, plan.width, norm=plan.norm)
    if plan.network == "fcn3d":
        return UNet(inputs, classes, plan.width, padded=True, norm=plan.norm)
    if plan.network == "unet2d":
        return PlaneUNet(inputs, classes, plan.width, plan.norm)
    if plan.network == "vnet":
        return VNet(inputs, classes, plan.width, plan.kernels[0][0])
    raise ValueError(f"no network '{plan.network}'")

"""Describes the networks: ``python -m SparseSegNetLib.engine.describe`` prints JSON.

Parameters and receptive fields are counted on the built networks, without data and without
allocating anything (torch's meta device); memory is computed the same way.
"""

from __future__ import annotations

import json
import math
import sys

import torch

from ..runfolder.options import Options
from ..runfolder.presets import PRESETS
from .networks import build
from .networks.receptive_field import receptive_field
from .plan import Fingerprint, Plan
from .planning.auto_plan import make_plan
from .planning.recipes import published_plan

EXAMPLE = (128, 128, 128)  # the volume for which `auto` is described
CHANNELS, CLASSES = 1, 2
STATES = {"sgd": 1, "adam": 2, "adamw": 2}  # tensors that the optimiser keeps per weight


def describe(name: str) -> dict:
    """Describes a preset for one input channel and two classes.

    Returns:
        Name, source, parameters, receptive field, tiles (along i, j, k), memory and recipe.
    """
    about = PRESETS[name]
    options = Options(network=name)
    fingerprint = Fingerprint(EXAMPLE, (1.0, 1.0, 1.0), CHANNELS, CLASSES, 1, 6)
    plan = make_plan(fingerprint) if name == "auto" else published_plan(fingerprint, options)
    inputs = CHANNELS + (3 if plan.position else 0)
    with torch.device("meta"):
        network = build(plan, inputs, CLASSES)
        reach = receptive_field(network)
    return {
        "name": name,
        "title": about.title,
        "source": about.source,
        "parameters": sum(p.numel() for p in network.parameters()),
        "receptive_field": list(reversed((1, *reach) if about.planar else reach)),
        "input_tile": list(reversed(plan.patch)),
        "output_tile": list(reversed(plan.output)),
        "batch": plan.batch,
        "norm": plan.norm,
        "loss": plan.loss,
        "optimiser": plan.optimiser,
        "learning_rate": plan.learning_rate,
        "training_memory": training_memory(network, plan, inputs),
        "note": "depends on the volume: here for 128x128x128 voxels on a CPU"
        if name == "auto"
        else "",
    }


def training_memory(network: torch.nn.Module, plan: Plan, inputs: int) -> int:
    """Computes the bytes that training takes in float32.

    These are the weights with gradients, optimiser and average, and all that the forward pass keeps
    for the backward one. The workspace of convolutions comes on top.

    Args:
        network: On the meta device.
        plan: Its plan.
        inputs: Channels of its input.
    """
    weights = sum(p.numel() for p in network.parameters())
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        alive.append(tensor)  # or its address could be given to the next one
        return tensor

    alive: list[torch.Tensor] = []
    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = network.train()(torch.zeros(plan.batch, inputs, *plan.patch))
    activations = sum(kept.values()) - sum(
        kept.get(p.untyped_storage()._cdata, 0) for p in network.parameters()
    )
    loss = 3 * math.prod(out.shape) * 4
    return 4 * weights * (3 + STATES[plan.optimiser]) + activations + loss


if __name__ == "__main__":
    json.dump([describe(name) for name in PRESETS], sys.stdout)

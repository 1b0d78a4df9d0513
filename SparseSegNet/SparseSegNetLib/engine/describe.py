"""Describes the networks: ``python -m SparseSegNetLib.engine.describe`` prints JSON.

Parameters and receptive fields are counted on the built networks, without data and without
allocating anything (torch's meta device); memory is estimated the same way.
"""

from __future__ import annotations

import json
import sys
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..runfolder.options import Options
from ..runfolder.presets import PRESETS
from .networks import build
from .networks.receptive_field import receptive_field
from .plan import Fingerprint, Plan
from .planning.auto_plan import make_plan
from .planning.recipes import published_plan

EXAMPLE = (128, 128, 128)  # the volume for which `auto` is described
CHANNELS, CLASSES = 1, 2
# What is used beside the tensors that are alive, as a factor and in bytes: the workspace of
# convolutions, and memory that the libraries keep (docs/lab/memory.md).
WORKSPACE, LIBRARIES = 1.6, 40e6
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
        "tile_memory": tile_memory(network, plan, inputs),
        "note": "depends on the volume: here for 128x128x128 voxels on a CPU"
        if name == "auto"
        else "",
    }


def training_memory(network: torch.nn.Module, plan: Plan, inputs: int) -> int:
    """Estimates the bytes that training takes in float32.

    These are the weights with optimiser and average, all tensors that are alive at one moment of
    a forward and a backward pass, and what convolutions and libraries take beside them.

    Args:
        network: On the meta device.
        plan: Its plan.
        inputs: Channels of its input.
    """
    weights = sum(p.numel() for p in network.parameters())
    with torch.device("meta"), Living() as living:
        network.train()(torch.zeros(plan.batch, inputs, *plan.patch)).log_softmax(
            1
        ).sum().backward()
    network.zero_grad()
    alive = 4 * weights * (2 + STATES[plan.optimiser]) + living.peak
    return round(WORKSPACE * alive + LIBRARIES)


def tile_memory(network: torch.nn.Module, plan: Plan, inputs: int) -> int:
    """Estimates the bytes that the prediction of one tile takes in float32, beside the weights.

    These are all tensors that are alive at one moment, from the tile's input to its probabilities,
    and what convolutions and libraries take beside them.

    Args:
        network: On the meta device.
        plan: Its plan.
        inputs: Channels of its input.
    """
    with torch.device("meta"), torch.inference_mode(), Living() as living:
        logits = network.eval()(torch.zeros(1, inputs, *plan.tile))
        logits[0].float().softmax(dim=0)
    return round(WORKSPACE * living.peak + LIBRARIES)


class Living(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size


if __name__ == "__main__":
    json.dump([describe(name) for name in PRESETS], sys.stdout)

"""The size of tiles: as large as memory allows, since what lies around each is read once more."""

from __future__ import annotations

import math

import torch

from ..annotation.geometry import Triple, triple
from ..engine.compute.allocation import free_memory
from ..engine.stacking import filters
from ..engine.stacking.image_classifier import feature_count, slabs, surroundings
from .model_view import ModelView

SHARE, MOST = 0.25, 4e9  # of the free memory, and bytes, that a tile may take by default
BASE = 1e9  # bytes of Python, torch and the activations of a tile of the network
# float32 copies of probabilities that exist at once, of the model's grid and enlarged.
COPIES = 4
TEMPORARIES = 16  # float32 values per voxel from which the filters' responses are computed


def tile_memory(view: ModelView, size: Triple) -> float:
    """Bytes that predicting a tile takes, estimated.

    Args:
        view: The volume for its model.
        size: Voxels of the tile on the turned image's grid, (k, j, i).
    """
    model, channels = view.model, len(view.order)
    ratio = [m / n for n, m in zip(view.shape, view.grid, strict=True)]
    inner = triple(
        min(m, math.ceil(n * r) + 2) for n, m, r in zip(size, view.grid, ratio, strict=True)
    )
    low = triple((m - n) // 2 for n, m in zip(inner, view.grid, strict=True))
    begin, end = model.reach(view.grid, low, [a + n for a, n in zip(low, inner, strict=True)])
    window = math.prod(b - a for a, b in zip(begin, end, strict=True))
    source = window / math.prod(ratio)
    found = BASE + channels * (window * 4 + source * (view.image.dtype.itemsize * 2 + 4))
    found += COPIES * 4 * model.classes * max(math.prod(inner), math.prod(size))
    if model.shallow is not None:
        planes = max(last - first for first, last in slabs((0, 0, 0), inner))
        box = (planes, *inner[1:])
        wide = surroundings((2**62,) * 3, view.grid_spacing, (2**61,) * 3, [2**61 + n for n in box])
        around = math.prod(b - a for a, b in zip(*wide, strict=True))
        # Responses of the slab with its margins, what each is computed from, and all features.
        found += around * channels * (2 * filters.count(1) + TEMPORARIES * 4)
        found += math.prod(box) * 2 * feature_count(channels)
    return found


def free_on(device: str) -> float:
    """Free bytes of a device, by its name."""
    return float(free_memory(torch.device(device)))


def tile_size(view: ModelView, chunk: Triple, memory: float | None = None) -> Triple:
    """The largest tile (k, j, i) of whole chunks of the image whose prediction fits memory.

    Args:
        view: The volume for its model.
        chunk: Of the output, (k, j, i).
        memory: Bytes that it may take; None for a quarter of what is free, at most 4 GB.
    """
    most = min(MOST, SHARE * free_memory(view.model.device)) if memory is None else memory
    shape, size = view.image.shape, list(chunk)
    while True:
        able = [axis for axis in range(3) if size[axis] < shape[axis]]
        if not able:
            return triple(size)
        axis = min(able, key=lambda a: size[a])
        larger = [n + chunk[a] if a == axis else n for a, n in enumerate(size)]
        if tile_memory(view, view.turn.shape(triple(larger))) > most:
            return triple(size)
        size = larger

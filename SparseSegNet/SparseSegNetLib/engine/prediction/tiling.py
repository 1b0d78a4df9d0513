"""The tiles of a prediction: where they lie, how they are blended, what is beyond the volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...annotation.geometry import Triple
from ..plan import Plan


def tile_starts(size: int, tile: int, overlap: float, period: int = 0) -> list[int]:
    """First voxels of the tiles that cover an axis.

    Args:
        size: Voxels to cover.
        tile: Voxels of a tile.
        overlap: Share of a tile that it has in common with the next, at least.
        period: Tiles start at multiples of it only, and the last may reach beyond the volume. With
            the period of a network's poolings, valid convolutions give a voxel the same value in
            whatever tile it lies, so that tiles meet without a seam (Ronneberger 2015, figure 2).
    """
    if tile >= size:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    if period:
        step = step // period * period or step
    count = -(-(size - tile) // step) + 1
    if period:
        return [n * step for n in range(count)]
    return [round(n * (size - tile) / (count - 1)) for n in range(count)]


def plan_starts(plan: Plan, size: Sequence[int], tile: Sequence[int]) -> list[list[int]]:
    """`tile_starts` along k, j and i, as a plan's network needs them.

    Args:
        plan: The plan.
        size: Voxels to cover, (k, j, i).
        tile: Output of the network for a tile, (k, j, i).
    """
    periods = plan.divisor if any(plan.margin) else (0, 0, 0)
    return [tile_starts(n, t, plan.overlap, d) for n, t, d in zip(size, tile, periods, strict=True)]


def blending_weights(tile: Triple, device: torch.device) -> torch.Tensor:
    """A separable Gaussian bump (k, j, i), 1 in the middle, small but never 0 at the edge."""
    weights = torch.ones((), device=device)
    for n in tile:
        x = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) / (n / 8)
        weights = weights[..., None] * torch.exp(-0.5 * x**2)
    return weights.clamp_min(1e-3)  # as a whole, like MONAI's: tiles then give the same labels


def within(index: torch.Tensor, n: int, mirror: bool) -> torch.Tensor:
    """Brings indices into 0..n-1: mirrored at the volume's faces (Cicek 2016), or clamped."""
    if not mirror:
        return index.clamp(0, n - 1)
    index = index % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)

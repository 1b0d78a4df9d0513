"""The share of a border within one voxel of the true one that calibrated probabilities expect."""

from __future__ import annotations

from itertools import product

import torch

from .calibration import calibrated

MOST_VOXELS = 20_000  # border voxels that are looked at
REACH = 2
STEPS = sorted(
    (abs(a) + abs(b) + abs(c), a, b, c)
    for a, b, c in product(range(-REACH, REACH + 1), repeat=3)
    if abs(a) + abs(b) + abs(c) <= REACH
)


def expected_near_share(
    probabilities: torch.Tensor, exponent: torch.Tensor, value: int, border: torch.Tensor
) -> float | None:
    """Computes it for one class.

    If the true object is where the probability exceeds a threshold that is unknown, between 0 and
    1, a border voxel has true border within one voxel for every threshold between the highest
    probability within one voxel and the lowest within two.

    Args:
        probabilities: Class probabilities (classes, k, j, i).
        exponent: float32 (k, j, i), of their calibration.
        value: The class.
        border: int64 (voxels, 3), the voxels (k, j, i) of its predicted border that count.

    Returns:
        The share, 0 to 1; None without such voxels.
    """
    if not len(border):
        return None
    if len(border) > MOST_VOXELS:
        border = border[torch.linspace(0, len(border) - 1, MOST_VOXELS).long()]
    shape = probabilities.shape[1:]
    high = torch.zeros(len(border))
    low = torch.ones(len(border))
    for away, *step in STEPS:
        at = border + torch.tensor(step)
        inside = torch.stack([(a >= 0) & (a < n) for a, n in zip(at.T, shape, strict=True)]).all(0)
        place = tuple(a.clamp(0, n - 1) for a, n in zip(at.T, shape, strict=True))
        chance = calibrated(probabilities[(slice(None), *place)], exponent[place])[value]
        chance = torch.where(inside, chance, 0.0)  # beyond the volume all is outside
        low = torch.minimum(low, chance)
        if away <= 1:
            high = torch.maximum(high, chance)
    return float((high - low).clamp(0, 1).mean())

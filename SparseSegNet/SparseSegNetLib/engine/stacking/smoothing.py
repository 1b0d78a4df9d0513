"""Anisotropic diffusion of class probabilities (Perona and Malik 1990).

Predictions voxel by voxel are noisy. A few steps of diffusion that borders of the image hold up let
neighbours that look alike agree; diffusing the probabilities instead of the image keeps thin
structures where the image shows their borders.
"""

from __future__ import annotations

import torch

ROUNDS = 2
BORDER = 0.3  # how steeply the weight falls with the squared difference over its mean
ACROSS = 0.1  # weight that is left across the strongest borders


def smooth_probabilities(
    probabilities: torch.Tensor,
    image: torch.Tensor,
    spacing: tuple[float, float, float],
    usual: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Takes weighted means over each voxel and its six neighbours, `ROUNDS` times.

    Args:
        probabilities: float32 (classes, k, j, i).
        image: float32 (c, k, j, i), normalised.
        spacing: mm along k, j, i; neighbours that are farther away than along the finest axis
            count less, by the square of the distance.
        usual: `usual_differences` of the volume that the image is a part of; None if it is all.

    Returns:
        float32 (classes, k, j, i).
    """
    usual = usual_differences(image) if usual is None else usual
    links = [
        _links(image, axis, usual[axis]) * (min(spacing) / mm) ** 2
        for axis, mm in enumerate(spacing)
    ]
    total = torch.ones(image.shape[1:], device=image.device)
    for axis, weight in enumerate(links):
        for low in (0, 1):
            total.narrow(axis, low, weight.shape[axis]).add_(weight)
    found = probabilities.clone()
    for mine in found:
        for _ in range(ROUNDS):
            before = mine.clone()
            for axis, weight in enumerate(links):
                n = weight.shape[axis]
                mine.narrow(axis, 0, n).addcmul_(weight, before.narrow(axis, 1, n))
                mine.narrow(axis, 1, n).addcmul_(weight, before.narrow(axis, 0, n))
            mine.div_(total)
    return found


def usual_differences(image: torch.Tensor) -> list[torch.Tensor]:
    """Mean squared difference between neighbours along each axis, float32 (c, 1, 1, 1) each.

    Args:
        image: float32 (c, k, j, i).
    """
    return [
        image.diff(dim=axis + 1).square_().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        for axis in range(3)
    ]


def _links(image: torch.Tensor, axis: int, usual: torch.Tensor) -> torch.Tensor:
    """Weight float32 between each voxel and the next along an axis; the axis is one shorter."""
    apart = image.diff(dim=axis + 1).square_()
    if not apart.numel():
        return apart.sum(dim=0)
    return ACROSS + (1 - ACROSS) * torch.exp(-BORDER * (apart / usual).mean(dim=0))

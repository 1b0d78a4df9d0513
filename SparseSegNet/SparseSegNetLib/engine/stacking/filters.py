"""Filter responses that tell textures, borders and surroundings apart, at several scales.

The usual set of interactive pixel classification (Sommer 2011): the Gaussian, its gradient's
magnitude, the Laplacian and the Hessian's eigenvalues. Further the surroundings of a voxel: the
smoothed image some way off in six directions, as forests for anatomy use it (Criminisi 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)  # standard deviations in units of the finest spacing
PER_SCALE = 6  # responses
AROUND = slice(1, 4)  # of the scales, at which the surroundings are features too
SIDES = 6
REACH = 3.0  # standard deviations: of kernels, and from a voxel to its surroundings


def count(channels: int) -> int:
    """Number of responses for an image with so many channels."""
    return channels * (1 + PER_SCALE * len(SCALES) + SIDES * len(SCALES[AROUND]))


def responses(
    image: torch.Tensor,
    spacing: tuple[float, float, float],
    dtype: torch.dtype = torch.float32,
    step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Computes all filter responses of an image.

    Args:
        image: float32 (c, k, j, i).
        spacing: mm along k, j, i.
        dtype: Of the responses.
        step: Called after each scale of each channel; it may raise to stop.

    Returns:
        (count(c), k, j, i).
    """
    units, around = [s / min(spacing) for s in spacing], SCALES[AROUND]
    found = torch.empty((len(image), count(1), *image.shape[1:]), dtype=dtype, device=image.device)
    for channel, of_channel in zip(image, found, strict=True):
        of_channel[0] = channel
        own, beside = of_channel[1:].split((PER_SCALE * len(SCALES), SIDES * len(around)))
        for number, scale in enumerate(SCALES):
            smooth = channel
            for axis, unit in enumerate(units):
                smooth = _smooth(smooth, axis, scale / unit)
            for n, response in enumerate(_of_one_scale(smooth, units, scale)):
                own[number * PER_SCALE + n] = response
            if scale in around:
                for n, response in enumerate(_beside(smooth, units, scale)):
                    beside[around.index(scale) * SIDES + n] = response
            step()
    return found.flatten(0, 1)


def _of_one_scale(smooth: torch.Tensor, units: list[float], scale: float) -> list[torch.Tensor]:
    """Responses of a smoothed image, with derivatives in units of the scale."""
    slopes = [_slope(smooth, axis) * (scale / unit) for axis, unit in enumerate(units)]
    second = {
        (a, b): _slope(slopes[a], b) * (scale / units[b]) for a in range(3) for b in range(a, 3)
    }
    size = torch.sqrt(sum(s * s for s in slopes))
    values = eigenvalues(second)
    return [smooth, size, sum(values), *values]


def _beside(smooth: torch.Tensor, units: list[float], scale: float) -> Iterator[torch.Tensor]:
    """The image `REACH` scales off along each axis; beyond the border its last value."""
    for axis, unit in enumerate(units):
        n = smooth.shape[axis]
        away = max(1, round(REACH * scale / unit))
        at = torch.arange(n, device=smooth.device)
        for step in (-away, away):
            yield smooth.index_select(axis, (at + step).clamp(0, n - 1))


def _slope(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Central differences per voxel; 0 along an axis of one voxel."""
    n = x.shape[axis]
    if n < 2:
        return torch.zeros_like(x)
    padded = torch.cat((x.narrow(axis, 0, 1), x, x.narrow(axis, n - 1, 1)), dim=axis)
    return (padded.narrow(axis, 2, n) - padded.narrow(axis, 0, n)) / 2


def _smooth(x: torch.Tensor, axis: int, sigma: float) -> torch.Tensor:
    """A Gaussian along one axis; beyond the border its last value."""
    if sigma < 0.2 or x.shape[axis] < 2:
        return x
    radius, n = max(1, math.ceil(REACH * sigma)), x.shape[axis]
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    ends = [
        x.narrow(axis, place, 1).expand(*[radius if a == axis else -1 for a in range(3)])
        for place in (0, n - 1)
    ]
    padded = torch.cat((ends[0], x, ends[1]), dim=axis)
    # Sums of shifted volumes: several times faster on a CPU than conv1d with one channel.
    found = torch.zeros_like(x)
    for place, weight in enumerate((kernel / kernel.sum()).tolist()):
        found.add_(padded.narrow(axis, place, n), alpha=weight)
    return found


def eigenvalues(of: dict[tuple[int, int], torch.Tensor]) -> list[torch.Tensor]:
    """Eigenvalues of symmetric 3x3 matrices, largest first, in closed form (Smith 1961).

    Args:
        of: The upper triangles, by row and column.
    """
    mean = (of[0, 0] + of[1, 1] + of[2, 2]) / 3
    a, b, c = of[0, 0] - mean, of[1, 1] - mean, of[2, 2] - mean
    d, e, f = of[0, 1], of[0, 2], of[1, 2]
    spread = torch.sqrt(((a * a + b * b + c * c) + 2 * (d * d + e * e + f * f)) / 6)
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    half = (determinant / (2 * spread**3).clamp_min(1e-30)).clamp(-1, 1)
    angle = torch.acos(half) / 3
    first = mean + 2 * spread * torch.cos(angle)
    last = mean + 2 * spread * torch.cos(angle + 2 * math.pi / 3)
    return [first, 3 * mean - first - last, last]

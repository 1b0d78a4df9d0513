"""Features of the shallow model at each voxel: filter responses and position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import ndimage

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice, array_axis
from ..data.preprocessing import WorkingVolume, grid_positions
from . import filters

# Half waves along an axis. A perceptron learns smooth functions of a position first; with waves
# it tells nearby places apart (Tancik 2020).
WAVES = (1, 2, 4)


def feature_count(channels: int) -> int:
    """Number of features, at most, for an image with so many channels."""
    return filters.count(channels) + 3 + 2 * 3 * len(WAVES)


@torch.no_grad()
def voxel_features(
    volume: WorkingVolume,
    spacing: tuple[float, float, float],
    step: Callable[[], None] = lambda: None,
    position: bool = True,
) -> torch.Tensor:
    """Computes filter responses, position, and sines and cosines of the position.

    Args:
        volume: The working volume.
        spacing: mm along k, j, i.
        step: Called now and then; it may raise to stop.
        position: Whether position is a feature.

    Returns:
        float16 (f, k, j, i), half the memory of float32.
    """
    image, shape = volume.image, volume.shape
    responses = filters.responses(image, spacing, torch.half, step)
    if not position:
        return responses
    voxels = [torch.arange(n, device=image.device) for n in shape]
    at = grid_positions(voxels, shape)
    return torch.cat((responses, at.half(), *waves(at, volume.slices)))


def waves(position: torch.Tensor, slices: list[AnnotatedSlice]) -> list[torch.Tensor]:
    """Computes sines and cosines of a position, as positional encoding.

    Along an axis there are only waves with fewer halves than slices, which could not tell finer
    ones apart.

    Args:
        position: float32 (3, k, j, i) from -1 to 1; each changes along its own axis alone.
        slices: The annotated ones.

    Returns:
        Features, each float16 (1, k, j, i).
    """
    across = [sum(array_axis(item.axis) == axis for item in slices) for axis in range(3)]
    return waves_of(position, [[n for n in WAVES if n < count] for count in across])


def waves_of(position: torch.Tensor, halves: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Sines and cosines with so many half waves along each axis.

    Args:
        position: float32 (3, k, j, i) from -1 to 1; each changes along its own axis alone.
        halves: The numbers of half waves along k, j and i.

    Returns:
        Features, each float16 (1, k, j, i).
    """
    found = []
    for axis, along in enumerate(position):
        line = along[tuple(slice(None if a == axis else 1) for a in range(3))]
        for count in halves[axis]:
            angle = math.pi / 2 * count * (line + 1)
            found += [wave(angle).half().expand_as(along)[None] for wave in (torch.sin, torch.cos)]
    return found


def log_distance_to(
    slices: list[AnnotatedSlice], volume: WorkingVolume, spacing: tuple[float, float, float]
) -> torch.Tensor:
    """Logarithm of the distance to the nearest slice; near a slice priors deserve more trust.

    Returns:
        float16 (k, j, i), log(1 + distance in units of the finest spacing).
    """
    far = torch.full(volume.shape, 1e4, device=volume.image.device)
    for item in slices:
        axis = array_axis(item.axis)
        at = torch.arange(volume.shape[axis], device=far.device)
        form = [1, 1, 1]
        form[axis] = -1
        away = (at - item.index).abs() * (spacing[axis] / min(spacing))
        far = torch.minimum(far, away.view(form))
    return torch.log1p(far).half()


def log_distance_to_labels(
    labels: torch.Tensor, spacing: tuple[float, float, float]
) -> torch.Tensor:
    """As `log_distance_to`, to the nearest labelled voxel of uint8 (k, j, i)."""
    unit = min(spacing)
    away = ndimage.distance_transform_edt(
        (labels == UNLABELLED).cpu().numpy(), sampling=[mm / unit for mm in spacing]
    )
    return torch.log1p(torch.from_numpy(away).to(labels.device)).half()

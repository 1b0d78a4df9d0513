"""What a shallow model gets to see at each voxel: filter responses, and where the voxel lies."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    """How many channels there are at most for an image of so many."""
    return filters.count(channels) + 3 + 2 * 3 * len(WAVES)


@torch.no_grad()
def voxel_features(
    volume: WorkingVolume,
    spacing: tuple[float, float, float],
    step: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """float16 (f, k, j, i), half the memory of float32: filter responses, position, and waves.

    step: called now and then; it may raise to break off.
    """
    image, shape = volume.image, volume.shape
    voxels = [torch.arange(n, device=image.device) for n in shape]
    position = grid_positions(voxels, shape)
    return torch.cat(
        (
            filters.responses(image, spacing, torch.half, step),
            position.half(),
            *waves(position, volume.slices),
        )
    )


def waves(position: torch.Tensor, slices: list[AnnotatedSlice]) -> list[torch.Tensor]:
    """Each float16 (1, k, j, i): sines and cosines of a position float32 (3, k, j, i) from -1 to
    1, which changes along its own axis alone, so that one line of it is enough. Along an axis only
    waves with fewer halves than slices, which could not tell finer ones."""
    found = []
    for axis, along in enumerate(position):
        line = along[tuple(slice(None if a == axis else 1) for a in range(3))]
        across = sum(array_axis(item.axis) == axis for item in slices)
        for halves in WAVES:
            if halves < across:
                angle = math.pi / 2 * halves * (line + 1)
                found += [
                    wave(angle).half().expand_as(along)[None] for wave in (torch.sin, torch.cos)
                ]
    return found


def log_distance_to(
    slices: list[AnnotatedSlice], volume: WorkingVolume, spacing: tuple[float, float, float]
) -> torch.Tensor:
    """float16 (k, j, i): logarithm of the distance to the nearest slice in units of the finest
    spacing; near a slice the priors deserve more trust."""
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
    """As `distance_to`, to the nearest labelled voxel. labels: uint8 (k, j, i)."""
    unit = min(spacing)
    away = ndimage.distance_transform_edt(
        (labels == UNLABELLED).cpu().numpy(), sampling=[mm / unit for mm in spacing]
    )
    return torch.log1p(torch.from_numpy(away).to(labels.device)).half()

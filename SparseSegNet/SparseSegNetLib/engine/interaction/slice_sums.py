"""Sums over the slices of a prediction, by which the next slice to draw is suggested."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice, array_axis
from ...suggestion.extents import correlation_length
from ...suggestion.slice_profiles import SliceProfiles, areas_of, contours_of, split
from ..data.preprocessing import WorkingVolume
from ..stacking.ensemble import PLANES, SURE, entropy
from ..stacking.folds import complete_slices


def slice_sums(
    probabilities: torch.Tensor,
    disagreement: torch.Tensor | None,
    volume: WorkingVolume,
    labels: np.ndarray,
    spacing: Sequence[float],
) -> SliceProfiles:
    """Sums over the slices of the original grid.

    Uncertainty and entropy are summed on the working grid and carried over slice by slice. What
    lies within the correlation length of a complete slice has no uncertainty: it is explained.

    Args:
        probabilities: float32 (classes, k, j, i) on the working grid.
        disagreement: Of the ways that predict, (k, j, i) on the working grid; None where there is
            one way alone, so that the entropy counts.
        volume: The working volume, with its labels and slices.
        labels: Predicted, uint8 (k, j, i) on the original grid.
        spacing: mm of the original grid along k, j, i.
    """
    segments = len(probabilities) - 1
    areas = areas_of(labels, segments)
    by_axis = dict(zip("kji", split(areas, labels.shape), strict=True))
    length = correlation_length(by_axis, dict(zip("kji", spacing, strict=True)))
    slices = complete_slices(volume.labels, volume.slices)
    uncertain, entropies = _sums(probabilities, disagreement, _unexplained(slices, volume, length))
    full = volume.full_shape
    return SliceProfiles.of(
        areas,
        _stretched(uncertain, full),
        _stretched(entropies, full),
        contours_of(labels),
        full,
    )


def _unexplained(
    slices: Sequence[AnnotatedSlice], volume: WorkingVolume, length: float
) -> list[torch.Tensor]:
    """For k, j and i: 1 for each slice that lies far from the complete ones beside it, else 0."""
    found = [torch.ones(n) for n in volume.shape]
    for item in slices:
        axis = array_axis(item.axis)
        distance = (torch.arange(volume.shape[axis]) - item.index).abs() * volume.spacing[
            axis
        ].cpu()
        found[axis][(distance < length) | (distance == 0)] = 0
    return found


def _sums(
    probabilities: torch.Tensor, disagreement: torch.Tensor | None, counted: list[torch.Tensor]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sums over slices of k, j and i: of uncertainty (K, slices), of entropy (slices,)."""
    segments, shape = len(probabilities) - 1, tuple(probabilities.shape[1:])
    uncertain = [np.zeros((segments, n)) for n in shape]
    entropies = [np.zeros(n) for n in shape]
    for first in range(0, shape[0], PLANES):
        part = probabilities[:, first : first + PLANES]
        open_ = part.amax(dim=0) < SURE
        rows = part[:, open_].float()
        places = [at.cpu() for at in open_.nonzero(as_tuple=True)]
        places[0] += first
        unsure = entropy(rows).cpu().double()
        likeliest = rows[1:].max(dim=0).indices.cpu()  # argmax takes three times as long
        for axis, total in enumerate(entropies):
            total += torch.bincount(places[axis], unsure, len(total)).numpy()
        if disagreement is not None:
            unsure *= disagreement[tuple(places)].double()
        for at, free in zip(places, counted, strict=True):
            unsure *= free[at]
        for axis, total in enumerate(uncertain):
            size = shape[axis]
            sums = torch.bincount(likeliest * size + places[axis], unsure, segments * size)
            total += sums.view(segments, size).numpy()
    return uncertain, entropies


def _stretched(parts: list[np.ndarray], full: Triple) -> np.ndarray:
    """Sums (..., slices) for k, j and i of the working grid, one after the other on the original.

    They are sums over voxels of the original grid then, of which each has the value of the place.
    """
    working = [part.shape[-1] for part in parts]
    found = []
    for axis, part in enumerate(parts):
        at = (np.arange(full[axis]) + 0.5) * working[axis] / full[axis] - 0.5
        scale = math.prod(full[a] / working[a] for a in range(3) if a != axis)
        rows = part.reshape(-1, working[axis])
        carried = np.stack([np.interp(at, np.arange(working[axis]), row) for row in rows])
        found.append(scale * carried.reshape(*part.shape[:-1], full[axis]))
    return np.concatenate(found, axis=-1)

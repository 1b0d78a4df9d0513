"""Borders in held-out slices: how much of a segment's outline lies within one voxel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage

from ...annotation.slices import array_axis
from ...annotation.surface_metrics import border
from ..stacking.out_of_fold import OutOfFold

BESIDE = ndimage.generate_binary_structure(2, 1)


def near_borders(
    found: OutOfFold, predicted: np.ndarray, labels: torch.Tensor
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Compares drawn and predicted outlines in the plane of each judged slice.

    Args:
        found: Out-of-fold predictions.
        predicted: Their classes, integers (voxels,).
        labels: uint8 (k, j, i), what is annotated.

    Yields:
        A foreground class, the numbers in `found` of its border voxels (drawn, then predicted),
        and for each whether the other border passes within one voxel.
    """
    drawn = labels.cpu().numpy()
    number = np.full(drawn.size, -1, np.int64)
    number[found.at.cpu().numpy()] = np.arange(len(predicted))
    number = number.reshape(drawn.shape)
    for item in found.slices:
        axis = array_axis(item.axis)
        own, truth = number.take(item.index, axis), drawn.take(item.index, axis)
        judged = own >= 0
        guess = truth.copy()  # voxels that are not judged are right by definition
        guess[judged] = predicted[own[judged]]
        for value in np.unique(np.concatenate((truth[judged], guess[judged]))):
            if value == 0 or value >= len(found.shown):
                continue
            lines = border(truth == value), border(guess == value)
            for one, other in (lines, lines[::-1]):
                place = one & judged
                near = ndimage.binary_dilation(other, BESIDE)
                yield int(value), own[place], near[place]

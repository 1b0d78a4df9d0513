"""Distance to the annotation, a feature of the shallow model."""

from __future__ import annotations

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.preprocessing import WorkingVolume
from .folds import Fold, labels_of
from .voxel_features import log_distance_to, log_distance_to_labels


def log_distance_to_annotation(
    labels: torch.Tensor,
    slices: list[AnnotatedSlice],
    volume: WorkingVolume,
    spacing: tuple[float, ...],
) -> torch.Tensor:
    """Logarithm of the distance to the nearest annotation, float16 (k, j, i).

    To the nearest slice and, where there are labels outside of complete slices, to these.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled.
        slices: The complete slices.
        volume: The working volume.
        spacing: mm along k, j, i.
    """
    distance = log_distance_to(slices, volume, spacing)
    rest = torch.where(labels_of([Fold(slices)], labels, volume) == UNLABELLED, labels, UNLABELLED)
    if not bool((rest != UNLABELLED).any()):
        return distance
    return torch.minimum(distance, log_distance_to_labels(rest, spacing))

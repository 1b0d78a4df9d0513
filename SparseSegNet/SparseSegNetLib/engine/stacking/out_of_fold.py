"""Out-of-fold predictions of the annotated voxels, pooled over the folds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...annotation.slices import AnnotatedSlice
from ..compute.metrics import overlap
from .fold_models import FoldData

ENOUGH_SLICES = 2  # that must show a segment, or nothing can be said of it


@dataclass
class OutOfFold:
    """Predictions of annotated voxels that neither the ensemble nor its weights had seen.

    A voxel that two annotated slices share is judged in the fold of both, or not at all.

    Attributes:
        at: int64 (voxels,), flat indices into (k, j, i) of the working grid.
        probabilities: float16 (classes, voxels).
        truth: uint8 (voxels,), as drawn.
        distance: float16 (voxels,), logarithm of the distance to the nearest annotation that the
            prediction was made from, see `voxel_features.log_distance_to`.
        fold: uint8 (voxels,), number of the fold.
        slices: The complete slices among what is judged.
        shown: For each class how many slices, or parts of what is drawn outside of slices, show it.
        drawn: How many slices and such parts there are.
    """

    at: torch.Tensor
    probabilities: torch.Tensor
    truth: torch.Tensor
    distance: torch.Tensor
    fold: torch.Tensor
    slices: list[AnnotatedSlice]
    shown: list[int]
    drawn: int

    def scores(self) -> list[dict]:
        """IoU and Dice per segment, pooled over the folds; None for what a single slice shows."""
        rows = overlap(
            self.probabilities.argmax(dim=0).cpu().numpy(),
            self.truth.cpu().numpy(),
            len(self.shown) - 1,
        )
        return [
            row if count >= ENOUGH_SLICES else {"iou": None, "dice": None, "voxels": row["voxels"]}
            for row, count in zip(rows, self.shown[1:], strict=True)
        ]


def pooled(
    predictions: list[torch.Tensor],
    folds: list[FoldData],
    scorable: list[torch.Tensor],
    counts: tuple[list[int], int],
) -> OutOfFold:
    """Pools the folds' predictions.

    Args:
        predictions: Class probabilities (classes, voxels) of each fold's scorable voxels.
        folds: The folds.
        scorable: Boolean (known voxels,) of each fold, those whose score is representative.
        counts: As `folds.shown_in` gives them.
    """
    chosen = list(zip(folds, scorable, strict=True))
    places = torch.arange(folds[0].known.numel(), device=folds[0].known.device)
    places = places.view(folds[0].known.shape)
    return OutOfFold(
        torch.cat([places[f.known][s] for f, s in chosen]),
        torch.cat([p.half() for p in predictions], dim=1),
        torch.cat([f.truth[s] for f, s in chosen]),
        torch.cat([f.distance[f.known][s] for f, s in chosen]),
        torch.cat([torch.full_like(f.truth[s], n) for n, (f, s) in enumerate(chosen)]),
        [item for f in folds for item in f.slices],
        *counts,
    )

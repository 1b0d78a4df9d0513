"""The result of stacking: what a network trains on, what it predicts, and out-of-fold scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..data.preprocessing import WorkingVolume
from .out_of_fold import OutOfFold


@dataclass
class Stack:
    """Working volumes whose last channels hold an ensemble of priors and shallow model.

    Attributes:
        folds: One training volume per fold with that fold's labels alone and an ensemble that was
            made without them; empty where nothing can be trained out of fold.
        target: The volume to predict; its ensemble is made from all labels.
        prior_only: Classes of which only the priors know, since no two folds show them.
        scores: IoU and Dice per segment, out of fold: priors, shallow models and ensemble weights
            were made without the labels of the fold that is scored (the weights from predictions
            of the other folds, whose priors did know them). None where nothing could be scored, and
            of a segment that a single slice shows.
        in_slice: Whether all annotation lies in one slice: what parts of it that were held out
            say of each other is true in this slice alone, and no score of the volume.
        missing: Why `folds` is empty: 'annotation' or 'time'.
        out_of_fold: The predictions that `scores` are of; None without scores.
        disagreement: Of priors and shallow model in the target, by `ensemble.disagreement`, float16
            (k, j, i) on the CPU; None if it was not computed.
    """

    folds: list[WorkingVolume]
    target: WorkingVolume
    prior_only: tuple[int, ...] = ()
    scores: list[dict] | None = None
    in_slice: bool = False
    missing: str = ""
    out_of_fold: OutOfFold | None = None
    disagreement: torch.Tensor | None = None

    def to(self, device: torch.device) -> Stack:
        """The stack with its volumes on another device."""
        folds = [volume.to(device) for volume in self.folds]
        return replace(self, folds=folds, target=self.target.to(device))

"""Validation scores on held-out slices, and the ensemble weight of the network beside its prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..compute import metrics
from ..prediction.inference import Predictor

if TYPE_CHECKING:
    from .training_set import TrainingSet


def score_held_out(
    training_set: TrainingSet, classes: int, predictor: Predictor
) -> tuple[list[dict], float | None]:
    """Scores a network on the held-out voxels.

    It is a validation score, since the best weights are chosen by it. Beside a prior the score is
    that of the ensemble of network and prior, with shares fitted on other voxels than are scored.

    Args:
        training_set: Holds out a split.
        classes: Labels with background.
        predictor: Predicts with the weights that are scored.

    Returns:
        IoU and Dice per segment; and the share of the network in the ensemble, fitted on all
        held-out voxels, or None without a prior.
    """
    split, scored = training_set.split, training_set.scored
    truth = training_set.truth.cpu().numpy()
    planes = {s: predictor.slice_probabilities(scored, s) for s in split.slices}
    priors = {s: training_set.scored_prior(classes, s) for s in split.slices}
    if any(prior is None for prior in priors.values()):
        predicted = np.zeros_like(truth)
        for item, found in planes.items():
            predicted[item.selector()] = found.argmax(dim=0).numpy()
        return metrics.overlap(predicted, truth, classes - 1, split.scored), None
    inside = {s: split.scored[s.selector()] for s in split.slices}
    rows = torch.cat(
        [
            torch.stack((priors[s], planes[s]))[:, :, torch.from_numpy(inside[s])]
            for s in split.slices
        ],
        dim=2,
    )
    known = torch.cat([torch.from_numpy(truth[s.selector()][inside[s]]) for s in split.slices])
    return score_beside_prior(rows, known, classes, training_set.fit_share)


def score_beside_prior(
    rows: torch.Tensor,
    known: torch.Tensor,
    classes: int,
    fit_share: Callable[[torch.Tensor, torch.Tensor], float],
) -> tuple[list[dict], float]:
    """Scores the ensemble of a prior and a network, each half with the share of the other one.

    Args:
        rows: Probabilities of prior and network (2, classes, voxels).
        known: uint8 (voxels,), their labels.
        classes: Labels with background.
        fit_share: Fits the network's share on such rows and labels.

    Returns:
        IoU and Dice per segment; and the share that is fitted on all.
    """
    share = fit_share(rows, known)
    half = len(known) // 2
    first, second = (rows[:, :, :half], known[:half]), (rows[:, :, half:], known[half:])
    found = torch.cat(
        [
            torch.lerp(*part[0], fit_share(*other)).argmax(dim=0)
            for part, other in ((first, second), (second, first))
            if part[0].shape[2]
        ]
    )
    return metrics.overlap(found.numpy(), known.numpy(), classes - 1), share

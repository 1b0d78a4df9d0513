"""Validation scores on held-out slices, and the ensemble weight of the network beside its prior."""

from __future__ import annotations

import numpy as np
import torch

from ..compute import metrics
from ..prediction.inference import Predictor
from ..stacking.ensemble import fit_ensemble_weights
from ..stacking.prior_inputs import prior_of
from ..stacking.stacker import SHRINKAGE
from .training_set import TrainingSet

# Ensemble weight of the network beside its prior until one is fitted.
DEFAULT_NETWORK_SHARE = 0.1
# The network learns to correct priors made from fewer slices, and is scored beside them. They are
# worse than the one that it corrects in the end, so the fitted share is too large by this.
OPTIMISM = 0.2


def score_held_out(
    training_set: TrainingSet, classes: int, predictor: Predictor
) -> tuple[list[dict], float | None]:
    """Scores a network on the held-out voxels of the first volume.

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
    truth = training_set.target.labels.cpu().numpy()
    planes = {s: predictor.slice_probabilities(scored, s) for s in split.slices}
    if training_set.stack is None:
        predicted = np.zeros_like(truth)
        for item, found in planes.items():
            predicted[item.selector()] = found.argmax(dim=0).numpy()
        return metrics.overlap(predicted, truth, classes - 1, split.scored), None
    inside = {s: split.scored[s.selector()] for s in split.slices}
    priors = {s: prior_of(scored, classes, s.selector()).cpu() for s in split.slices}
    rows = torch.cat(
        [
            torch.stack((priors[s], planes[s]))[:, :, torch.from_numpy(inside[s])]
            for s in split.slices
        ],
        dim=2,
    )
    known = torch.cat([torch.from_numpy(truth[s.selector()][inside[s]]) for s in split.slices])
    share = fit_network_share(rows, known)
    half = len(known) // 2
    first, second = (rows[:, :, :half], known[:half]), (rows[:, :, half:], known[half:])
    found = torch.cat(
        [
            torch.lerp(*part[0], fit_network_share(*other)).argmax(dim=0)
            for part, other in ((first, second), (second, first))
            if part[0].shape[2]
        ]
    )
    return metrics.overlap(found.numpy(), known.numpy(), classes - 1), share


def fit_network_share(rows: torch.Tensor, known: torch.Tensor) -> float:
    """Fits the ensemble weight of the network beside its prior.

    Args:
        rows: Probabilities of prior and network (2, classes, voxels).
        known: uint8 (voxels,), their labels.
    """
    if not len(known):
        return DEFAULT_NETWORK_SHARE
    return SHRINKAGE * max(0.0, float(fit_ensemble_weights(rows, known)[1]) - OPTIMISM)

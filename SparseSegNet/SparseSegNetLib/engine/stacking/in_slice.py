"""Stacking where all annotation lies in one slice.

No slice can be held out then, only parts of the one there is. They tell how well predictors that
begin at labelled voxels or look at the image do at some distance from the labels. Of the labels
propagated to other slices they tell nothing, and nothing of a position across the slice.
"""

from __future__ import annotations

import torch

from ..priors.maker import PRIOR_NAMES
from .ensemble import fit_ensemble_weights

PROPAGATED = PRIOR_NAMES.index("propagated")
SEEDED = [PRIOR_NAMES.index(name) for name in ("random walk", "geodesic")]
JUDGED = [*SEEDED, len(PRIOR_NAMES), len(PRIOR_NAMES) + 1]  # these and the shallow models


def in_slice_weights(
    rows: torch.Tensor, truth: torch.Tensor, default: torch.Tensor
) -> torch.Tensor:
    """Weights of the predictors that held-out parts of a slice can judge; 0 of the others.

    The geometric mean of fitted and default weights: what is of no use in the slice does not
    come back with its default weight, as it would with the arithmetic one.

    Args:
        rows: Class probabilities (priors + 2, classes, voxels), out of fold.
        truth: uint8 (voxels,); the weights are the default ones where there are none.
        default: float32 (priors + 2,).

    Returns:
        float32 (priors + 2,), which sum to 1.
    """
    weights = torch.zeros_like(default)
    weights[JUDGED] = default[JUDGED]
    if len(truth):
        weights[JUDGED] = (default[JUDGED] * fit_ensemble_weights(rows[JUDGED], truth)).sqrt()
    return weights / weights.sum()


def with_propagated(weights: torch.Tensor, default: torch.Tensor) -> torch.Tensor:
    """`in_slice_weights` with that of the propagated labels.

    They carry the labels from place to place, as the priors that begin at labelled voxels do, and
    are trusted as these are: in the proportion of the default weights.
    """
    weights = weights.clone()
    weights[PROPAGATED] = weights[SEEDED].sum() * default[PROPAGATED] / default[SEEDED].sum()
    return weights / weights.sum()

"""Another tool's result as a predictor beside priors and shallow model.

It has not seen the annotation, so each fold can judge it as it is. How good it is nobody knows
before: it counts as far as all folds agree that the ensemble is better with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .ensemble import fit_ensemble_weights, split_background

UNJUDGED = 0.1  # its weight where nothing can be held out
# The others have fewer slices in a fold than in the prediction and look worse than they are, the
# external prior does not: the fitted weight is moved half way to 0 (docs/lab/external-prior.md).
SHRINKAGE = 0.5
LEAST = 0.005  # a weight below is none, and the result the same to the bit as without


@dataclass(frozen=True)
class ExternalPrior:
    """Class probabilities that come from elsewhere.

    Attributes:
        probabilities: float16 (classes, k, j, i) on the working grid.
        known: The foreground classes that it knows; it says nothing of the others.
    """

    probabilities: torch.Tensor
    known: tuple[int, ...]

    def beside(self, others: torch.Tensor, at: tuple = ()) -> torch.Tensor:
        """Its class probabilities, float16 (1, classes, ...), as one predictor among others.

        Its background may be any class that it does not know: it is divided as the others say.

        Args:
            others: Class probabilities (classes, ...) of the other predictors.
            at: An index expression for (k, j, i), where the others are.
        """
        own = self.probabilities[(slice(None), *at)]
        unknown = tuple(n for n in range(1, len(own)) if n not in self.known)
        if not unknown:
            return own[None]
        return split_background(own.float(), others.float(), unknown).half()[None]


def external_weight(
    rows: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], weights: torch.Tensor
) -> float:
    """The weight of an external prior beside the ensemble of all other predictors, 0 to 1.

    Args:
        rows: Per fold class probabilities (n + 1, classes, voxels), those of the external prior
            last.
        truths: Per fold uint8 (voxels,).
        weights: Ensemble weights (n,) of the others.

    Returns:
        Half the least of the weights that the folds support, 0 where that is less than LEAST;
        UNJUDGED where there are no voxels.
    """
    found = [
        _supported(part, truth, weights)
        for part, truth in zip(rows, truths, strict=True)
        if len(truth)
    ]
    if not found:
        return UNJUDGED
    share = SHRINKAGE * min(found)
    return share if share >= LEAST else 0.0


def _supported(rows: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> float:
    ensemble = torch.einsum("n,ncv->cv", weights, rows[:-1].float())
    # Any predictor gets a little weight where the others are sure and wrong. What a constant one
    # would get as well is no merit of it.
    constant = torch.bincount(truth.long(), minlength=len(ensemble)).float()
    constant = (constant / constant.sum())[:, None].expand_as(ensemble)
    fitted = fit_ensemble_weights(torch.stack((ensemble, rows[-1].float(), constant)), truth)
    return float(fitted[1])


def with_external(weights: torch.Tensor, share: float) -> torch.Tensor:
    """Ensemble weights (n + 1,) in which the external prior, the last one, has a share."""
    return torch.cat(((1 - share) * weights, weights.new_tensor([share])))

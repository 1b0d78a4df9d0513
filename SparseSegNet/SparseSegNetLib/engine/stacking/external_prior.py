"""Other tools' results as predictors beside priors and shallow models.

They have not seen the annotation, so each fold can judge them as they are. How good they are nobody
knows before: each counts as far as all folds agree that the ensemble is better with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.external_prior import ExternalPrior
from .ensemble import fit_ensemble_weights, says, split_background

UNJUDGED = 0.1  # the weight of one where nothing can be held out
# The others have fewer slices in a fold than in the prediction and look worse than they are, an
# external prior does not: the fitted weight is moved half way to 0 (docs/lab/external-prior.md).
SHRINKAGE = 0.5
LEAST = 0.005  # a weight below is none, and the result the same to the bit as without


def beside(prior: ExternalPrior, others: torch.Tensor, at: tuple = ()) -> torch.Tensor:
    """Class probabilities of an external prior, as one predictor among others.

    Its background may be any class that it does not know: it is divided as the others say.

    Args:
        prior: The external prior.
        others: Class probabilities (classes, ...) of the other predictors.
        at: An index expression for (k, j, i), where the others are.

    Returns:
        float16 (1, classes, ...), 0 of all classes where it says nothing.
    """
    own, known = prior.probabilities, prior.known.expand(-1, *prior.probabilities.shape[1:])
    own, known = own[(slice(None), *at)], known[(slice(None), *at)]
    if bool(known.all()):
        return own[None]
    found = split_background(own.float(), others.float(), ~known).half()
    return (found * known.any(dim=0))[None]


def external_weights(
    rows: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], weights: torch.Tensor
) -> torch.Tensor:
    """The weights of external priors beside the ensemble of all other predictors.

    Args:
        rows: Per fold class probabilities (n + m, classes, voxels), those of m external priors
            last, 0 where they say nothing.
        truths: Per fold uint8 (voxels,).
        weights: Ensemble weights (n,) of the others.

    Returns:
        float32 (m,): half the least of the weights that the folds support, 0 where that is less
        than LEAST; UNJUDGED where no fold tells. At most SHRINKAGE together.
    """
    shares = []
    for number in range(len(weights), len(rows[0])):
        each = [
            _supported(part, truth, weights, number)
            for part, truth in zip(rows, truths, strict=True)
        ]
        found = [weight for weight in each if weight is not None]
        share = SHRINKAGE * min(found) if found else UNJUDGED
        shares.append(share if share >= LEAST else 0.0)
    # More can only be where they cover different parts of the folds.
    return weights.new_tensor(shares) * min(1.0, SHRINKAGE / max(sum(shares), SHRINKAGE))


def _supported(
    rows: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor, number: int
) -> float | None:
    """The weight that a fold supports for one of the rows; None where it cannot tell."""
    known = says(rows[number : number + 1])[0]
    if not bool(known.all()):
        # What it covers of a fold may be one class alone, which tells nothing.
        rows, truth = rows[:, :, known], truth[known]
        if len(torch.unique(truth)) < 2:
            return None
    if not len(truth):
        return None
    ensemble = torch.einsum("n,ncv->cv", weights, rows[: len(weights)].float())
    external = rows[len(weights) :].float()
    external = torch.where(says(external)[:, None], external, ensemble)
    # Any predictor gets a little weight where the others are sure and wrong. What a constant one
    # would get as well is no merit of it.
    constant = torch.bincount(truth.long(), minlength=len(ensemble)).float()
    constant = (constant / constant.sum())[:, None].expand_as(ensemble)
    fitted = fit_ensemble_weights(torch.cat((ensemble[None], external, constant[None])), truth)
    return float(fitted[1 + number - len(weights)])


def with_external(weights: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Ensemble weights (n + m,) in which external priors, the last m, have these shares (m,)."""
    return torch.cat(((1 - shares.sum()) * weights, shares))

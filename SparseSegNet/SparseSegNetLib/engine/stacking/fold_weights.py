"""Ensemble weights of priors and shallow models, fitted on folds and moved to default ones."""

from __future__ import annotations

import torch

from ..priors.maker import PRIOR_NAMES
from .ensemble import fit_ensemble_weights, weighted_mean
from .external_prior import external_weights, with_external
from .in_slice import in_slice_weights, with_propagated

# Folds have fewer slices, so their priors reach farther than those of the prediction and look worse
# than these are: fitted ensemble weights are moved half way to the default ones.
SHRINKAGE = 0.5
# Of PRIOR_NAMES, the shallow model and that without priors.
DEFAULT_WEIGHTS = (0.0, 0.12, 0.08, 0.28, 0.32, 0.2)


def default_weights(propagated: bool = True) -> torch.Tensor:
    """Weights of priors and shallow models before any is fitted.

    Args:
        propagated: False where nothing is propagated, for want of registration or of complete
            slices: interpolation or background stands in.

    Returns:
        float32 (priors + 2,), which sum to 1.
    """
    weights = torch.tensor(DEFAULT_WEIGHTS)
    if not propagated:
        weights[PRIOR_NAMES.index("propagated")] = weights[PRIOR_NAMES.index("interpolated")]
    return weights / weights.sum()


class FoldWeights:
    """Fits ensemble weights on out-of-fold predictions.

    Args:
        default: float32 (predictors,), without an external prior.
        in_slice: All annotation lies in one slice, see `in_slice`.
        external: How many external priors there are, the last of the predictors.
        partial: Whether some of these say nothing in places, see `ensemble.weighted_mean`.
    """

    def __init__(
        self,
        default: torch.Tensor,
        in_slice: bool = False,
        external: int = 0,
        partial: bool = False,
    ):
        self.default, self.in_slice = default, in_slice
        self.external, self.partial = external, partial

    def fitted(self, rows: list[torch.Tensor], truths: list[torch.Tensor]) -> torch.Tensor:
        """Fits weights on folds and moves them half way to the default ones.

        Args:
            rows: Per fold class probabilities (predictors, classes, voxels).
            truths: Per fold uint8 (voxels,).

        Returns:
            float32 (predictors,); the default ones where nothing is scorable.
        """
        if not self.external:
            return self._own(rows, truths)
        weights = self._own([part[: -self.external] for part in rows], truths)
        return with_external(weights, external_weights(rows, truths, weights))

    def of_prediction(self, weights: torch.Tensor) -> torch.Tensor:
        """Fitted weights as they hold for the whole volume, beyond what folds can judge."""
        if not self.in_slice:
            return weights
        default = self.default.to(weights.device)
        own = with_propagated(weights[: len(default)], default)
        return with_external(own, weights[-self.external :]) if self.external else own

    def mean(self, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The ensemble, float32 (classes, ...), of predictions (predictors, classes, ...)."""
        return weighted_mean(maps, weights, self.partial)

    def _own(self, rows: list[torch.Tensor], truths: list[torch.Tensor]) -> torch.Tensor:
        """The same of priors and shallow models alone."""
        default = self.default.to(rows[0].device)
        if self.in_slice:
            return in_slice_weights(torch.cat(rows, dim=2), torch.cat(truths), default)
        if not sum(map(len, truths)):
            return default
        fitted = fit_ensemble_weights(torch.cat(rows, dim=2), torch.cat(truths))
        return SHRINKAGE * fitted + (1 - SHRINKAGE) * default

    def of_other_folds(
        self, rows: list[torch.Tensor], truths: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """For each fold weights fitted on the others, so that they can be scored on it."""
        if len(rows) == 1:
            return [self.fitted(rows, truths)]
        return [
            self.fitted(rows[:n] + rows[n + 1 :], truths[:n] + truths[n + 1 :])
            for n in range(len(rows))
        ]

    def scored(
        self, rows: list[torch.Tensor], truths: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Ensembles of labelled voxels; of a single fold each half by the other's weights."""
        if len(rows) > 1:
            return [self.mean(r, w) for r, w in zip(rows, weights, strict=True)]
        half = len(truths[0]) // 2
        halves = [rows[0][:, :, :half], rows[0][:, :, half:]]
        fitted = self.of_other_folds(halves, [truths[0][:half], truths[0][half:]])
        found = [self.mean(r, w) for r, w in zip(halves, fitted, strict=True)]
        return [torch.cat(found, dim=1)]

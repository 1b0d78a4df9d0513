"""Ways to blend the predictions that blends.py keeps; the first is the engine's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from SparseSegNetLib.engine.compute.losses import balancing_weights
from SparseSegNetLib.engine.stacking.ensemble import (
    MOST_ROWS,
    fit_ensemble_weights,
    mixture_weights,
    weighted_mean,
    with_classes,
)
from SparseSegNetLib.engine.stacking.fold_weights import SHRINKAGE
from SparseSegNetLib.engine.stacking.stacker import MODELS, SHOWN_ONCE, SHOWN_ONCE_SHARE

POSSIBLE = 0.02  # probability from which a voxel counts for a class's own weights


def pooled_weights(found, default: torch.Tensor, shrinkage: float = SHRINKAGE) -> torch.Tensor:
    """Weights of the first predictors, as many as have default ones, of all classes together."""
    rows, truth = torch.cat(found.rows, dim=2)[: len(default)], torch.cat(found.truths)
    return shrinkage * fit_ensemble_weights(rows, truth) + (1 - shrinkage) * default


def shown_once(found, ensemble: torch.Tensor, share: float) -> torch.Tensor:
    """Classes that one slice alone shows: priors, and a share of the model without priors."""
    if not found.prior_only:
        return ensemble
    chosen, priors = list(found.prior_only), found.default[:-MODELS]
    kept = SHOWN_ONCE * weighted_mean(found.every[:-MODELS], priors / priors.sum())[chosen]
    kept = torch.lerp(kept, found.every[-1, chosen].float(), share)
    return with_classes(ensemble, kept, found.prior_only)


def blend(
    found,
    alone: float | None = None,
    share: float = SHOWN_ONCE_SHARE,
    shrinkage: float = SHRINKAGE,
) -> torch.Tensor:
    """As the engine blends, with other constants.

    Args:
        found: The Predictions.
        alone: Default weight of the model without priors; None for the engine's.
        share: Of that model in classes that one slice alone shows.
        shrinkage: How far fitted weights count.
    """
    default = found.default
    if alone is not None:
        others = default[:-1] / default[:-1].sum()
        default = torch.cat((others * (1 - alone), torch.tensor([alone])))
    weights = pooled_weights(found, default, shrinkage)
    return shown_once(found, weighted_mean(found.every, weights), share)


def one_shallow_model(found) -> torch.Tensor:
    """Without the model that sees no priors."""
    default = found.default[:-1] / found.default[:-1].sum()
    weights = pooled_weights(found, default)
    return shown_once(found, weighted_mean(found.every[:-1], weights), 0.0)


def class_weights(rows: torch.Tensor, truth: torch.Tensor, number: int) -> torch.Tensor | None:
    """Weights fitted on one class against all others, where it is possible; None without it."""
    own = rows[:, number]
    near = (truth == number) | (own.amax(dim=0) > POSSIBLE)
    own, true = own[:, near].float(), truth[near] == number
    if not bool(true.any()):
        return None
    if len(true) > MOST_ROWS:
        every = torch.linspace(0, len(true) - 1, MOST_ROWS).long()
        own, true = own[:, every], true[every]
    chance = torch.where(true, own, 1 - own).clamp_min(1e-3)
    worth = balancing_weights(true.to(torch.uint8), 2, 0.5)[true.long()]
    return mixture_weights(chance, worth)


def per_class(found, slices: float) -> torch.Tensor:
    """Weights per class; the pooled ones count as `slices` slices that show it."""
    pooled = pooled_weights(found, found.default)
    rows, truth = torch.cat(found.rows, dim=2), torch.cat(found.truths)
    weights = pooled[:, None].repeat(1, rows.shape[1])
    for number in range(rows.shape[1]):
        own = class_weights(rows, truth, number)
        if own is not None:
            own = SHRINKAGE * own + (1 - SHRINKAGE) * found.default
            trust = found.shown[number] / (found.shown[number] + slices)
            weights[:, number] = trust * own + (1 - trust) * pooled
    total = torch.zeros(found.every.shape[1:])
    for weight, part in zip(weights, found.every, strict=True):
        total += weight[:, None, None, None] * part.float()
    return shown_once(found, total / total.sum(dim=0), SHOWN_ONCE_SHARE)


def only(found, number: int) -> torch.Tensor:
    """One predictor."""
    return found.every[number].float()


BLENDS: dict[str, Callable] = {
    "engine": blend,
    "one shallow model": one_shallow_model,
    "weights per class": partial(per_class, slices=3),
    "default weight .3": partial(blend, alone=0.3),
    "share .4": partial(blend, share=0.4),
    "fitted by .25": partial(blend, shrinkage=0.25),
    "fitted by .75": partial(blend, shrinkage=0.75),
    "with priors alone": partial(only, number=-2),
    "without priors alone": partial(only, number=-1),
}

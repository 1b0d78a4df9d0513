"""Ways to blend the predictions that blends.py keeps; the first is the engine's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from SparseSegNetLib.engine.compute.losses import balancing_weights
from SparseSegNetLib.engine.stacking.ensemble import (
    MOST_ROWS,
    ROUNDS,
    fit_ensemble_weights,
    weighted_mean,
    with_classes,
)
from SparseSegNetLib.engine.stacking.fold_weights import SHRINKAGE
from SparseSegNetLib.engine.stacking.stacker import SHOWN_ONCE

POSSIBLE = 0.02  # probability from which a voxel counts for a class's own weights


def pooled_weights(found, alone: float = 0.0, shrinkage: float = SHRINKAGE) -> torch.Tensor:
    """Weights of all predictors, with `alone` as the default of the one without priors."""
    rows, truth = torch.cat(found.rows, dim=2), torch.cat(found.truths)
    default = found.default
    if alone:
        default = torch.cat((default * (1 - alone), torch.tensor([alone])))
    else:
        rows = rows[:-1]
    return shrinkage * fit_ensemble_weights(rows, truth) + (1 - shrinkage) * default


def moved(found, shrinkage: float, geometric: bool = False, alone: float = 0.2) -> torch.Tensor:
    """Fitted weights moved otherwise to the default ones."""
    rows, truth = torch.cat(found.rows, dim=2), torch.cat(found.truths)
    default = torch.cat((found.default * (1 - alone), torch.tensor([alone])))
    fitted = fit_ensemble_weights(rows, truth)
    if geometric:
        weights = default ** (1 - shrinkage) * fitted**shrinkage
        weights = weights / weights.sum()
    else:
        weights = shrinkage * fitted + (1 - shrinkage) * default
    return shown_once(found, weighted_mean(found.every, weights), 0.2)


def shown_once(
    found, ensemble: torch.Tensor, share: float = 0.0, how: str = "mean"
) -> torch.Tensor:
    """Classes that one slice alone shows, by priors and the model without priors."""
    if not found.prior_only:
        return ensemble
    chosen, priors = list(found.prior_only), found.default[:-1]
    kept = SHOWN_ONCE * weighted_mean(found.every[:-2], priors / priors.sum())[chosen]
    if share:
        other = found.every[-1, chosen].float()
        kept = (
            (1 - share) * kept + share * other
            if how == "mean"
            else kept.clamp_min(1e-4) ** (1 - share) * other.clamp_min(1e-4) ** share
        )
    return with_classes(ensemble, kept, found.prior_only)


def engine(found) -> torch.Tensor:
    """As the engine blends."""
    return shown_once(found, weighted_mean(found.every[:-1], pooled_weights(found)))


def once(found, share: float, how: str = "mean") -> torch.Tensor:
    ensemble = weighted_mean(found.every[:-1], pooled_weights(found))
    return shown_once(found, ensemble, share, how)


def six(found, alone: float, share: float = 0.0, how: str = "mean") -> torch.Tensor:
    """The model without priors is one predictor more."""
    return shown_once(found, weighted_mean(found.every, pooled_weights(found, alone)), share, how)


def class_weights(rows: torch.Tensor, truth: torch.Tensor, number: int) -> torch.Tensor | None:
    """Weights fitted on one class against all others, where it is possible."""
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
    weights = torch.full((len(rows),), 1 / len(rows))
    for _ in range(ROUNDS):
        share = weights[:, None] * chance
        share = share / share.sum(dim=0)
        weights = (share * worth).sum(dim=1) / worth.sum()
    return weights


def per_class(
    found, slices: float, alone: float = 0.0, share: float = 0.0, shrinkage: float = SHRINKAGE
) -> torch.Tensor:
    """Weights per class, which count as `slices` slices' worth of the pooled ones."""
    pooled = pooled_weights(found, alone, shrinkage)
    count = len(pooled)
    rows, truth = torch.cat([r[:count] for r in found.rows], dim=2), torch.cat(found.truths)
    default = found.default
    if alone:
        default = torch.cat((default * (1 - alone), torch.tensor([alone])))
    weights = pooled[:, None].repeat(1, rows.shape[1])
    for number in range(rows.shape[1]):
        own = class_weights(rows, truth, number)
        if own is not None:
            own = shrinkage * own + (1 - shrinkage) * default
            trust = found.shown[number] / (found.shown[number] + slices)
            weights[:, number] = trust * own + (1 - trust) * pooled
    total = torch.zeros(found.every.shape[1:])
    for weight, part in zip(weights, found.every, strict=False):
        total += weight[:, None, None, None] * part.float()
    total /= total.sum(dim=0)
    return shown_once(found, total, share)


def only(found, numbers: tuple[int, ...]) -> torch.Tensor:
    """Some predictors alone, by their default weights."""
    return weighted_mean(found.every[list(numbers)], torch.full((len(numbers),), 1 / len(numbers)))


BLENDS: dict[str, Callable] = {
    "engine": engine,
    "six .2 once .2": partial(six, alone=0.2, share=0.2),
    "six, fitted .35": partial(moved, shrinkage=0.35),
    "per class 6": partial(per_class, slices=6, alone=0.2, share=0.2),
    "per class 3": partial(per_class, slices=3, alone=0.2, share=0.2),
    "per class 3, .35": partial(per_class, slices=3, alone=0.2, share=0.2, shrinkage=0.35),
    "per class 6, .35": partial(per_class, slices=6, alone=0.2, share=0.2, shrinkage=0.35),
}

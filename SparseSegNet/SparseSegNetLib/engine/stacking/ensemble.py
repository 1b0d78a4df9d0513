"""Ensemble weights: a mixture of predictions, fitted by EM on out-of-fold voxels."""

from __future__ import annotations

import torch

from ..compute.losses import balancing_weights

MOST_ROWS = 50_000  # voxels on which the weights are fitted
ROUNDS = 40  # of expectation and maximisation
PLANES = 16  # at a time, where a volume is looked through
SURE = 0.99  # probability of a class above which a voxel counts as certain


def fit_ensemble_weights(rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Fits the weights of a mixture of predictions.

    The likelihood of the mixture, with classes counting by the square root of their frequency, is
    maximised by expectation and maximisation (Dempster 1977).

    Args:
        rows: Class probabilities (n, classes, voxels) by n predictors that had not seen these
            voxels.
        truth: uint8 (voxels,).

    Returns:
        float32 (n,), which sum to 1.
    """
    if len(truth) > MOST_ROWS:
        every = torch.linspace(0, len(truth) - 1, MOST_ROWS, device=truth.device).long()
        rows, truth = rows[:, :, every], truth[every]
    chance = rows.gather(1, truth.long()[None, None].expand(len(rows), 1, -1))[:, 0].float()
    chance = chance.clamp_min(1e-3)
    return mixture_weights(chance, balancing_weights(truth, rows.shape[1], 0.5)[truth.long()])


def mixture_weights(chance: torch.Tensor, worth: torch.Tensor) -> torch.Tensor:
    """Maximises the likelihood of a mixture of predictions by expectation and maximisation.

    Args:
        chance: float32 (n, voxels), the probability that each of n predictors gives what is true.
        worth: float32 (voxels,), how much each voxel counts.

    Returns:
        float32 (n,), which sum to 1.
    """
    weights = torch.full((len(chance),), 1 / len(chance), device=chance.device)
    for _ in range(ROUNDS):
        share = weights[:, None] * chance
        share = share / share.sum(dim=0)
        weights = (share * worth).sum(dim=1) / worth.sum()
    return weights


def weighted_mean(maps: torch.Tensor, weights: torch.Tensor, partial: bool = False) -> torch.Tensor:
    """Weighted mean, float32, of class probabilities.

    Args:
        maps: (n, classes, ...).
        weights: (n,), which sum to 1.
        partial: Some of the maps say nothing in places, 0 of all classes: there the others share
            their weights.
    """
    total = torch.zeros(maps.shape[1:], device=maps.device)
    for weight, part in zip(weights.tolist(), maps, strict=True):
        total += weight * part
    return total / total.sum(dim=0) if partial else total


def says(maps: torch.Tensor) -> torch.Tensor:
    """True where class probabilities (n, classes, ...) say something, boolean (n, ...)."""
    return maps.sum(dim=1) > 0.5


def with_classes(
    ensemble: torch.Tensor, kept: torch.Tensor, classes: tuple[int, ...]
) -> torch.Tensor:
    """Replaces the probabilities of some classes; the others share what is left.

    Args:
        ensemble: Class probabilities float32 (classes, ...), which are changed.
        kept: Those of the replaced classes, float32 (n, ...); scaled down where they exceed 1.
        classes: Their numbers.
    """
    kept /= kept.sum(dim=0).clamp_min(1.0)
    ensemble[list(classes)] = 0
    ensemble *= (1 - kept.sum(dim=0)) / ensemble.sum(dim=0).clamp_min(1e-6)
    ensemble[list(classes)] = kept
    return ensemble


def split_background(
    ensemble: torch.Tensor, model: torch.Tensor, unknown: torch.Tensor
) -> torch.Tensor:
    """Divides the background among itself and classes that are not told from it.

    Args:
        ensemble: Class probabilities float32 (classes, ...) without the unknown classes.
        model: Class probabilities of a model that knows all classes.
        unknown: The foreground classes that the ensemble does not tell from the background, boolean
            (classes - 1, ...) or the same with a size of 1 along an axis.

    Returns:
        Class probabilities float32 (classes, ...).
    """
    parts = torch.cat((torch.ones_like(unknown[:1]), unknown))
    share = model * parts
    share /= share.sum(dim=0).clamp_min(1e-6)
    return torch.where(parts, share * (ensemble * parts).sum(dim=0), ensemble)


def disagreement(every: torch.Tensor, weights: torch.Tensor, partial: bool = False) -> torch.Tensor:
    """Entropy of the weighted mean minus the weighted mean of the entropies, in nats.

    The Jensen-Shannon divergence of the predictors: the mutual information of predictor and class,
    as in query by committee and in BALD (Houlsby 2011).

    Args:
        every: Class probabilities (n, classes, k, j, i).
        weights: (n,), whose shares count.
        partial: See `weighted_mean`.

    Returns:
        float16 (k, j, i) on the CPU, from 0 to the logarithm of n; 0 where the mean is sure.
    """
    shares, found = (weights / weights.sum()).to(every.device), []
    for part in every.split(PLANES, dim=2):
        mean = weighted_mean(part, shares, partial)
        unsure = mean.amax(dim=0) < SURE
        rows = part[:, :, unsure].float()
        here = shares[:, None]
        if partial:
            here = here * says(rows)
            here /= here.sum(dim=0)
        within = (here * entropy(rows.transpose(0, 1))).sum(dim=0)
        differing = torch.zeros(unsure.shape, dtype=torch.float16)
        differing[unsure.cpu()] = (entropy(mean[:, unsure]) - within).clamp_min(0).half().cpu()
        found.append(differing)
    return torch.cat(found)


def likeliest_class(probabilities: torch.Tensor) -> torch.Tensor:
    """The likeliest class, uint8 (...), of class probabilities (classes, ...)."""
    # On a CPU `argmax` along the first axis takes ten times as long.
    return probabilities.max(dim=0).indices.to(torch.uint8)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy in nats, float32 (...), of class probabilities float32 (classes, ...)."""
    return torch.special.entr(probabilities.clamp_min(0)).sum(dim=0)

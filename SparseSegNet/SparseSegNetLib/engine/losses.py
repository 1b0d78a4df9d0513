"""Losses over labelled voxels only: an unlabelled voxel (255) never reaches a gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..annotation.composition import UNLABELLED


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor,
                         weights: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax cross-entropy averaged over labelled voxels (Cicek 2016, section 3).

    logits: float (n, c, k, j, i).  labels: integer (n, k, j, i), 255 = unlabelled.
    weights: optional (c,) class weights.  Without a labelled voxel the loss is 0.
    """
    total = F.cross_entropy(logits, labels.long(), weights, ignore_index=UNLABELLED,
                            reduction="sum")
    known = labels != UNLABELLED
    if weights is None:
        count = known.sum()
    else:
        count = weights[torch.where(known, labels, 0).long()].mul(known).sum()
    return total / count.clamp_min(1e-6)


def masked_dice_loss(logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1.0,
                     background: bool = False) -> torch.Tensor:
    """1 - soft Dice, averaged over the classes labelled in this batch.

    Every sum runs over the labelled voxels of the whole batch ('batch Dice', which is steadier
    for rare classes). Classes without a labelled voxel in the batch are left out: their Dice
    would only say that nothing was predicted where nothing was asked.
    logits: float (n, c, k, j, i).  labels: integer (n, k, j, i), 255 = unlabelled.
    smooth: voxels added to numerator and denominator.
    """
    known = labels != UNLABELLED
    first = 0 if background else 1
    # Only labelled voxels are gathered: with a few slices these are a few per cent of a patch.
    chosen = logits.movedim(1, -1)[known].float().softmax(dim=-1)[:, first:]
    truth = F.one_hot(labels[known].long(), logits.shape[1])[:, first:].to(chosen.dtype)
    size = truth.sum(dim=0)
    dice = (2 * (chosen * truth).sum(dim=0) + smooth) / (chosen.sum(dim=0) + size + smooth)
    present = (size > 0).to(dice.dtype)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def balancing_weights(labels: torch.Tensor, classes: int, power: float) -> torch.Tensor:
    """Class weights (classes,) from the labelled voxels of a batch: frequency to the power
    -`power`, so that 0 leaves the classes as they are and 1 gives each the same influence
    (Cicek 2016, section 3). Scaled to leave the mean weight of a labelled voxel at 1.

    labels: integer (n, k, j, i), 255 = unlabelled.
    """
    flat = labels.flatten().long()
    # Counted on the device: bincount would make it wait for the CPU.
    count = torch.zeros(256, device=labels.device).index_add_(
        0, flat, torch.ones(flat.shape, device=labels.device))[:classes]
    weights = torch.where(count > 0, count.clamp_min(1) ** -power, torch.zeros_like(count))
    return weights * (count.sum() / (weights * count).sum().clamp_min(1e-12))


def auto_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of the `auto` network: balanced cross-entropy + Dice, both over labelled voxels.

    Half-way balancing: without any, classes of a few voxels are not learnt within the first
    minutes; with all of it the frequent ones suffer (Testing/Benchmark/RESULTS.md).
    """
    logits = logits.float()
    weights = balancing_weights(labels, logits.shape[1], 0.5)
    return masked_cross_entropy(logits, labels, weights) + masked_dice_loss(logits, labels)

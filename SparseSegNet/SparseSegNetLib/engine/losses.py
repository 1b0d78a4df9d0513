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


def auto_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of the `auto` network: cross-entropy + Dice, both over labelled voxels."""
    logits = logits.float()
    return masked_cross_entropy(logits, labels) + masked_dice_loss(logits, labels)

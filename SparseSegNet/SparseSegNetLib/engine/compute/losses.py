"""Losses over labelled voxels only: an unlabelled voxel (255) never reaches a gradient.

The papers' Dice losses are published for dense labels; here each of their sums runs over the
labelled voxels alone. All take logits float (n, c, k, j, i) and labels integer (n, k, j, i) with
255 = unlabelled. Where several ranks train together the sums are over the patches of all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED
from .ranks import total

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def masked_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax cross-entropy averaged over labelled voxels (Cicek 2016, section 3).

    Args:
        logits: float (n, c, k, j, i).
        labels: Integer (n, k, j, i), 255 = unlabelled.
        weights: Class weights (c,) by which the average is weighted, or None.

    Returns:
        The loss; 0 without a labelled voxel.
    """
    wrong = F.cross_entropy(
        logits, labels.long(), weights, ignore_index=UNLABELLED, reduction="sum"
    )
    known = labels != UNLABELLED
    if weights is None:
        count = known.sum()
    else:
        count = weights[torch.where(known, labels, 0).long()].mul(known).sum()
    return total(wrong) / total(count).clamp_min(1e-6)


def _labelled(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class probabilities and one-hot truth, both (voxels, c), 0 where nothing is labelled.

    On the CPU only labelled voxels are gathered: with a few slices they are a few per cent of a
    patch. Elsewhere all are kept: the CPU would wait for the device to count what is gathered.
    """
    work = _gathered if logits.device.type == "cpu" else _masked
    return work(logits.movedim(1, -1), labels)


def _gathered(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_labelled` of logits (n, k, j, i, c), of the labelled voxels alone."""
    known = labels != UNLABELLED
    chance = _softmax(logits[known])
    return chance, F.one_hot(labels[known].long(), logits.shape[-1]).to(chance.dtype)


def _masked(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_labelled` of logits (n, k, j, i, c), of all voxels."""
    known = (labels != UNLABELLED)[..., None]
    chance = torch.where(known, _softmax(logits), 0)
    # No class has the value of an unlabelled voxel.
    truth = labels[..., None] == torch.arange(logits.shape[-1], device=labels.device)
    return chance.flatten(0, -2), truth.flatten(0, -2).to(chance.dtype)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return logits.softmax(dim=-1)


def masked_dice_loss(
    logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1.0, background: bool = False
) -> torch.Tensor:
    """1 - soft Dice, averaged over the classes labelled in this batch.

    Every sum runs over the labelled voxels of the whole batch ('batch Dice', which is steadier
    for rare classes). Classes without a labelled voxel in the batch are left out: their Dice
    would mean nothing.

    Args:
        logits: float (n, c, k, j, i).
        labels: Integer (n, k, j, i), 255 = unlabelled.
        smooth: Voxels added to numerator and denominator.
        background: Whether the background counts as a class.
    """
    first = 0 if background else 1
    chance, truth = (t[:, first:] for t in _labelled(logits, labels))
    size, both, predicted = _sums(truth, chance * truth, chance)
    dice = (2 * both + smooth) / (predicted + size + smooth)
    return _mean_of_present(1 - dice, size)


def vnet_dice(chance: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """D = 2 sum(p g) / (sum(p^2) + sum(g^2)) over the first axis (Milletari 2016, section 3).

    Its gradient is 2 (g_j (sum p^2 + sum g^2) - 2 p_j sum(p g)) / (sum p^2 + sum g^2)^2. Where
    nothing is labelled and nothing predicted D is 0.

    Args:
        chance: Probabilities, float (voxels, ...).
        truth: One-hot labels, float (voxels, ...).
    """
    predicted, size, both = _sums(chance * chance, truth * truth, chance * truth)
    return 2 * both / (predicted + size).clamp_min(torch.finfo(size.dtype).tiny)


def vnet_dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - D of Milletari 2016, with squared denominators, over the labelled voxels.

    The paper has one foreground class; with several, D is averaged over the foreground classes
    that are labelled in the batch.
    """
    chance, truth = (t[:, 1:] for t in _labelled(logits, labels))
    (size,) = _sums(truth)
    return _mean_of_present(1 - vnet_dice(chance, truth), size)


def fcn_dice_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """(1/L) sum over l of w_l L_l with L_l = -2 sum(p r) / (sum(p) + sum(r)) (Roth 2018, II-C).

    Over the labelled voxels of the batch and all L classes with background; from -1 (all right)
    to 0.

    Args:
        logits: float (n, c, k, j, i).
        labels: Integer (n, k, j, i), 255 = unlabelled.
        weights: (c,) w_l; None for 1, as published.
    """
    chance, truth = _labelled(logits, labels)
    predicted, size, both = _sums(chance, truth, chance * truth)
    each = -2 * both / (predicted + size).clamp_min(torch.finfo(size.dtype).tiny)
    return (each if weights is None else weights.to(each) * each).mean()


def _sums(*values: torch.Tensor) -> list[torch.Tensor]:
    """The sum of each over the first axis, and over all ranks."""
    return [total(v.sum(dim=0)) for v in values]


def _mean_of_present(values: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Mean over the classes with labelled voxels; 0 when there is none."""
    present = (size > 0).to(values.dtype)
    return (values * present).sum() / present.sum().clamp_min(1)


def merge_unknown(logits: torch.Tensor, unknown: torch.Tensor | None) -> torch.Tensor:
    """Adds classes that an annotation does not tell from the background to the background.

    Where a volume's annotation lacks a class, its background means 'background or that class'. The
    likelihood of such a label is the sum of both (marginal loss: Shi 2021, Med. Image Anal. 70).

    Args:
        logits: float (n, c, ...) or (..., n, c) of the same number of dimensions as `unknown`.
        unknown: Boolean (n, c) or of the form of the logits, the classes without annotation; None
            if there are none.

    Returns:
        Logits in which unknown classes have probability 0 and the background that of all of them.
    """
    if unknown is None:
        return logits
    axis = 1 if unknown.dim() != logits.dim() else logits.dim() - 1
    logits = logits.float()
    if unknown.dim() != logits.dim():
        unknown = unknown.view(*unknown.shape, *(1 for _ in range(logits.dim() - 2)))
    lowest = torch.finfo(logits.dtype).min
    first = logits.narrow(axis, 0, 1)
    merged = torch.cat((first, logits.masked_fill(~unknown, lowest)), dim=axis)
    background = merged.logsumexp(dim=axis, keepdim=True)
    rest = logits.narrow(axis, 1, logits.shape[axis] - 1)
    # Not minus infinity, whose product with a label of 0 is no number.
    rest = rest.masked_fill(unknown.narrow(axis, 1, logits.shape[axis] - 1), -1e4)
    return torch.cat((background, rest), dim=axis)


def balancing_weights(labels: torch.Tensor, classes: int, power: float) -> torch.Tensor:
    """Class weights that balance frequent and rare classes (Cicek 2016, section 3).

    Args:
        labels: Integer, any shape, 255 = unlabelled.
        classes: Labels with background.
        power: Weights are the frequency to minus this power: 0 leaves the classes as they are, 1
            gives each the same influence.

    Returns:
        float32 (classes,), scaled so that the mean weight of a labelled voxel is 1.
    """
    flat = labels.flatten().long()
    # Counted on the device: bincount would make it wait for the CPU.
    count = torch.zeros(256, device=labels.device).index_add_(
        0, flat, torch.ones(flat.shape, device=labels.device)
    )[:classes]
    count = total(count)
    weights = torch.where(count > 0, count.clamp_min(1) ** -power, torch.zeros_like(count))
    return weights * (count.sum() / (weights * count).sum().clamp_min(1e-12))


def auto_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of the `auto` network: balanced cross-entropy + Dice, both over labelled voxels.

    Half-way balancing: without any, classes of a few voxels are not learnt within the first
    minutes; with all of it the frequent ones suffer (docs/lab/ablation.md).
    """
    logits = logits.float()
    weights = balancing_weights(labels, logits.shape[1], 0.5)
    return masked_cross_entropy(logits, labels, weights) + masked_dice_loss(logits, labels)


# The losses that take class weights get those that balance the whole training set.
LOSSES: dict[str, Callable[[torch.Tensor], Loss]] = {
    "auto": lambda weights: auto_loss,
    "balanced cross-entropy": lambda weights: (
        lambda logits, labels: masked_cross_entropy(logits.float(), labels, weights)
    ),
    "Dice, squared": lambda weights: vnet_dice_loss,
    "Dice, all classes": lambda weights: fcn_dice_loss,
}


def make_loss(name: str, weights: torch.Tensor) -> Loss:
    """Makes a loss.

    Args:
        name: A key of `LOSSES`.
        weights: Class weights (c,) that balance the training set.
    """
    return LOSSES[name](weights)

"""An honest score while training: some annotated slices are held out and scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.slices import AnnotatedSlice
from .preprocess import WorkingVolume


@dataclass(frozen=True)
class Split:
    """training: labels uint8 (k, j, i) without the held-out voxels.  slices: those held out.
    mask: boolean (k, j, i), the held-out voxels.  fold: the one of a stack that they are."""

    training: np.ndarray
    mask: np.ndarray
    slices: tuple[AnnotatedSlice, ...]
    fold: WorkingVolume | None = None


def hold_out(labels: np.ndarray, slices: list[AnnotatedSlice], seed: int) -> Split | None:
    """Hold out about every fourth slice, at most one per axis, or None when that cannot be done.

    Voxels that a held-out slice shares with another annotated slice stay in training and are not
    scored. A slice is not held out when a class would lose its last labelled voxels, nor one that
    shows no segment (its Dice says nothing).
    labels: uint8 (k, j, i), 255 = unlabelled.
    """
    if len(slices) < 3:
        return None
    wanted = max(1, min(3, len(slices) // 4))
    order = np.random.default_rng(seed).permutation(len(slices))
    training, mask = labels.copy(), np.zeros(labels.shape, bool)
    needed = set(np.unique(labels)) - {UNLABELLED}
    chosen: list[AnnotatedSlice] = []
    for n in order:
        item = slices[n]
        if len(chosen) == wanted:
            break
        if any(item.axis == c.axis for c in chosen):
            continue
        alone = np.zeros(labels.shape, bool)
        alone[item.selector()] = True
        for other in slices:
            if other != item:
                alone[other.selector()] = False
        alone &= labels != UNLABELLED
        if not (labels[alone] > 0).any():
            continue
        trial = training.copy()
        trial[alone] = UNLABELLED
        if needed <= set(np.unique(trial)):
            training, mask = trial, mask | alone
            chosen.append(item)
    return Split(training, mask, tuple(chosen)) if chosen else None


def hold_out_fold(folds: list[WorkingVolume], labels: np.ndarray, seed: int) -> Split | None:
    """Hold out one fold of a stack, under the conditions of `hold_out`.

    labels: uint8 (k, j, i), all that is annotated.
    """
    needed = set(np.unique(labels)) - {UNLABELLED}
    for number in np.random.default_rng(seed).permutation(len(folds)):
        fold = folds[number]
        mask = np.zeros(labels.shape, bool)
        for item in fold.slices:
            mask[item.selector()] = True
        mask &= fold.labels.cpu().numpy() != UNLABELLED
        training = np.where(mask, UNLABELLED, labels).astype(np.uint8)
        if (labels[mask] > 0).any() and needed <= set(np.unique(training)):
            return Split(training, mask, tuple(fold.slices), fold)
    return None

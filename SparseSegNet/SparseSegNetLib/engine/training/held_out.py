"""Validation slices: what is held out from training, to score on what the network never saw."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AXES, AnnotatedSlice
from ..data.preprocessing import WorkingVolume
from ..stacking.folds import parts_of, planes_of, scorable_voxels

MOST_PLANES = 6  # in which a part that is no slice is scored


@dataclass(frozen=True)
class Split:
    """A division of the labels into training and validation.

    Attributes:
        training: Labels uint8 (k, j, i) without the held-out voxels.
        mask: Boolean (k, j, i), the held-out voxels.
        slices: The planes in which these are scored.
        fold: The fold of a stack that they are, or None.
        whole: Whether the held-out voxels are those of annotated slices.
        scorable: Boolean (k, j, i), see `folds.scorable_voxels`; None for all.
    """

    training: np.ndarray
    mask: np.ndarray
    slices: tuple[AnnotatedSlice, ...]
    fold: WorkingVolume | None = None
    whole: bool = True
    scorable: np.ndarray | None = None

    @property
    def scored(self) -> np.ndarray:
        """Boolean (k, j, i): the held-out voxels that are scored, in `slices`.

        Where the working grid is finer than the image an annotated slice is several planes, of
        which one is scored.
        """
        inside = np.zeros(self.mask.shape, bool)
        for item in self.slices:
            inside[item.selector()] = True
        return inside & self.mask if self.scorable is None else inside & self.mask & self.scorable

    def names(self) -> list[str]:
        """Names of what is held out; a resumed training compares them."""
        slices = [str(s) for s in self.slices]
        return slices if self.whole else [*slices, f"voxels {zlib.crc32(self.mask.tobytes()):x}"]


def hold_out(volume: WorkingVolume, seed: int) -> Split | None:
    """Holds out about every fourth annotated slice, at most one per axis.

    Where slices cannot be held out, about a fourth of the parts of the annotation are. Voxels that
    a held-out slice shares with another annotated slice stay in training and are not scored.
    Nothing is held out when a class would lose its last labelled voxels, nor what shows no segment
    (its Dice would mean nothing).

    Args:
        volume: The working volume with all labels.
        seed: Random seed of the choice.

    Returns:
        The split; None when nothing can be held out.
    """
    labels = volume.labels.cpu().numpy()
    return _hold_out_slices(labels, volume, seed) or _hold_out_parts(labels, volume, seed)


def _hold_out_slices(labels: np.ndarray, volume: WorkingVolume, seed: int) -> Split | None:
    slices = volume.slices
    if len(slices) < 3 or _side_by_side(slices):
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
        alone[planes_of(item, volume)] = True
        for other in slices:
            if other != item:
                alone[planes_of(other, volume)] = False
        alone &= labels != UNLABELLED
        if not (labels[alone] > 0).any():
            continue
        trial = training.copy()
        trial[alone] = UNLABELLED
        if needed <= set(np.unique(trial)):
            training, mask = trial, mask | alone
            chosen.append(item)
    return Split(training, mask, tuple(chosen)) if chosen else None


def _side_by_side(slices: list[AnnotatedSlice]) -> bool:
    """Tells whether most slices have a neighbour.

    Then they cover a region, and one that is held out would be scored beside training voxels.
    """
    places = {s.place for s in slices}
    beside = sum((s.axis, s.index + 1) in places for s in slices)
    return 2 * beside > len(slices)


def _hold_out_parts(labels: np.ndarray, volume: WorkingVolume, seed: int) -> Split | None:
    parts = parts_of(volume.labels, volume, [])
    if len(parts) < 3:
        return None
    needed = set(np.unique(labels)) - {UNLABELLED}
    training, mask, count = labels.copy(), np.zeros(labels.shape, bool), 0
    for n in np.random.default_rng(seed).permutation(len(parts)):
        trial = training.copy()
        trial.ravel()[parts[n]] = UNLABELLED
        if needed <= set(np.unique(trial)):
            training, count = trial, count + 1
            mask.ravel()[parts[n]] = True
        if count >= max(1, len(parts) // 4):
            break
    scorable = scorable_voxels(volume.labels, volume, []).cpu().numpy()
    if not (labels[mask & scorable] > 0).any():
        return None
    return Split(training, mask, scoring_planes(mask & scorable), whole=False, scorable=scorable)


def hold_out_fold(folds: list[WorkingVolume], labels: np.ndarray, seed: int) -> Split | None:
    """Holds out one fold of a stack, under the conditions of `hold_out`.

    Args:
        folds: The training volumes of a stack.
        labels: uint8 (k, j, i), all that is annotated.
        seed: Random seed of the choice.
    """
    needed = set(np.unique(labels)) - {UNLABELLED}
    for number in np.random.default_rng(seed).permutation(len(folds)):
        fold = folds[number]
        mask = fold.labels.cpu().numpy() != UNLABELLED
        training = np.where(mask, UNLABELLED, labels).astype(np.uint8)
        in_slices = torch.zeros_like(fold.labels, dtype=torch.bool)
        for item in fold.slices:
            in_slices[planes_of(item, fold)] = True
        whole = not mask[~in_slices.cpu().numpy()].any()
        scorable = None if whole else scorable_voxels(fold.labels, fold, fold.slices).cpu().numpy()
        scored = mask if whole else mask & scorable
        if (labels[scored] > 0).any() and needed <= set(np.unique(training)):
            slices = tuple(fold.slices) if whole else scoring_planes(scored)
            return Split(training, mask, slices, fold, whole, scorable)
    return None


def scoring_planes(mask: np.ndarray) -> tuple[AnnotatedSlice, ...]:
    """Chooses a few planes through held-out voxels that lie in no slice.

    They are evenly spread along the axis with the fewest planes that hold such voxels.

    Args:
        mask: Boolean (k, j, i), the held-out voxels.
    """
    hit = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    axis = min(range(3), key=lambda a: len(hit[a]))
    few = hit[axis][np.unique(np.linspace(0, len(hit[axis]) - 1, MOST_PLANES).round().astype(int))]
    return tuple(AnnotatedSlice(AXES[2 - axis], int(n)) for n in few)

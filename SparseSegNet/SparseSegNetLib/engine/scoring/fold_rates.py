"""Overlap in the whole volume, estimated from out-of-fold predictions by their distances.

An annotated slice that is held out lies farther from what taught it than a typical voxel of the
volume does from the annotation, and voxels right beside a crossing slice lie nearer. Rates of right
and wrong voxels are therefore taken for each distance, and added up as often as each distance
occurs in what is predicted: the distances judged then are distributed as those predicted
(Linnenbrink 2024, Geosci. Model Dev. 17, 5897, do this by the choice of folds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..stacking.out_of_fold import OutOfFold
from .borders import near_borders

WIDTH = 0.1  # of a bin of log distance
BINS = 100
LEAST_SHARE = 0.1  # of a class's judged voxels that a rate is taken from, at least
LEAST_VOXELS = 30


@dataclass
class FoldRates:
    """Counts of judged voxels per class and bin of log distance, all float64 (classes, BINS).

    Attributes:
        right: Of the class, and predicted as such.
        invented: Predicted as the class, but of another.
        lost: Of the class, but predicted as another.
        near: Border voxels, in annotated slices, that lie within a voxel of the other border:
            of what was drawn and of what is predicted.
        border: All such border voxels.
    """

    right: np.ndarray
    invented: np.ndarray
    lost: np.ndarray
    near: np.ndarray
    border: np.ndarray

    @classmethod
    def of(cls, found: OutOfFold, labels: torch.Tensor) -> FoldRates:
        """Counts out-of-fold predictions.

        Args:
            found: The predictions.
            labels: uint8 (k, j, i), what is annotated.
        """
        classes = len(found.probabilities)
        predicted = found.probabilities.argmax(dim=0).cpu().numpy()
        truth, bins = found.truth.cpu().numpy(), bins_of(found.distance)

        def count(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            return occurrences(values[chosen], bins[chosen], classes)

        near, border = np.zeros((classes, BINS)), np.zeros((classes, BINS))
        for value, place, is_near in near_borders(found, predicted, labels):
            border[value] += np.bincount(bins[place], minlength=BINS)
            near[value] += np.bincount(bins[place[is_near]], minlength=BINS)
        right = predicted == truth
        return cls(
            count(truth, right), count(predicted, ~right), count(truth, ~right), near, border
        )

    def overlap(self, value: int, occurring: np.ndarray) -> tuple[float, float] | None:
        """Estimates IoU and Dice of a class.

        Args:
            value: The class.
            occurring: float (BINS,), voxels predicted as the class at each distance, without the
                annotated ones.

        Returns:
            IoU and Dice; None where nothing of the class was judged.
        """
        right, invented, lost = self.right[value], self.invented[value], self.lost[value]
        if not (right + invented + lost).sum():
            return None
        if not (right + invented).sum():
            return 0.0, 0.0
        both = other = missed = 0.0
        for part, voxels in self._parts(right + invented, occurring):
            predicted = (right + invented)[part].sum()
            both += voxels * right[part].sum() / predicted
            other += voxels * invented[part].sum() / predicted
            missed += voxels * lost[part].sum() / predicted
        union = both + other + missed
        if not union:
            return 0.0, 0.0
        return both / union, 2 * both / (2 * both + other + missed)

    def near_share(self, value: int, occurring: np.ndarray) -> float | None:
        """Estimates the share of a class's border that lies within one voxel of the true one.

        Args:
            value: The class.
            occurring: float (BINS,), predicted border voxels at each distance.
        """
        if not self.border[value].sum():
            return None
        parts = list(self._parts(self.border[value], occurring))
        total = sum(voxels for _, voxels in parts)
        if not total:
            return None
        return (
            sum(
                voxels * self.near[value][part].sum() / self.border[value][part].sum()
                for part, voxels in parts
            )
            / total
        )

    def uncovered(self, value: int, occurring: np.ndarray) -> float:
        """Share of the voxels predicted as a class that lie farther away than any judged one."""
        judged = np.flatnonzero((self.right + self.invented + self.lost)[value])
        total = occurring.sum()
        if not len(judged) or not total:
            return 0.0
        return float(occurring[judged[-1] + 1 :].sum() / total)

    @staticmethod
    def _parts(judged: np.ndarray, occurring: np.ndarray):
        """Ranges of bins with enough judged voxels, and how many voxels occur in each.

        Yields:
            A slice of bins, and a number of voxels. Distances beyond those judged count as the
            nearest ones that were.
        """
        least = min(judged.sum(), max(LEAST_VOXELS, LEAST_SHARE * judged.sum()))
        ends, held = [], 0.0
        for n, voxels in enumerate(judged):
            held += voxels
            if held >= least:
                ends.append(n + 1)
                held = 0.0
        ends[-1] = len(judged)
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            yield slice(first, last), float(occurring[first:last].sum())


def bins_of(distance: torch.Tensor) -> np.ndarray:
    """Bins int64 of log distances."""
    return (distance.float() / WIDTH).long().clamp(0, BINS - 1).cpu().numpy()


def occurrences(labels: np.ndarray, bins: np.ndarray, classes: int) -> np.ndarray:
    """Counts how often each class occurs at each distance, float64 (classes, BINS).

    Args:
        labels: Integers (voxels,).
        bins: int64 (voxels,).
        classes: Labels with background.
    """
    flat = np.bincount(labels.astype(np.int64) * BINS + bins, minlength=classes * BINS)
    return flat.reshape(classes, BINS).astype(float)

"""Scores of a prediction in the whole volume, without its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.strokes import box_of
from ...annotation.surface_metrics import border
from ..stacking.ensemble import likeliest_class
from ..stacking.out_of_fold import ENOUGH_SLICES, OutOfFold
from .calibration import Calibration, Reliability, reliability
from .fold_rates import BINS, FoldRates, bins_of, occurrences
from .interval import best_estimate, best_near_estimate, interval
from .plug_in import expected_overlap
from .plug_in_border import expected_near_share
from .segment_score import SegmentScore


@dataclass
class Scoring:
    """Knowledge from out-of-fold predictions, kept to score predictions of the same ensemble.

    Attributes:
        rates: Right and wrong voxels by class and distance.
        calibration: Of the probabilities.
        before: Reliability of the probabilities as they are.
        after: Reliability of calibrated ones, each fold calibrated by the others.
        shown: For each class how many slices show it.
        slices: Number of all slices and parts.
    """

    rates: FoldRates
    calibration: Calibration
    before: Reliability
    after: Reliability
    shown: list[int]
    slices: int

    @classmethod
    def of(cls, found: OutOfFold, labels: torch.Tensor) -> Scoring:
        """Learns from out-of-fold predictions.

        Args:
            found: The predictions.
            labels: uint8 (k, j, i), what is annotated.
        """
        return cls(
            FoldRates.of(found, labels),
            Calibration.fit(found),
            *reliability(found),
            found.shown,
            found.drawn,
        )

    def score(
        self, probabilities: torch.Tensor, labels: torch.Tensor, distance: torch.Tensor
    ) -> list[SegmentScore]:
        """Scores a prediction on the voxels that were not annotated.

        Args:
            probabilities: Class probabilities (classes, k, j, i).
            labels: uint8 (k, j, i), what is annotated.
            distance: float16 (k, j, i), log distances to the annotation.
        """
        left = labels == UNLABELLED
        predicted = likeliest_class(probabilities)
        exponent = self.calibration.exponent(distance)
        plug_in = expected_overlap(probabilities, exponent, left)
        bins = bins_of(distance[left])
        occurring = occurrences(predicted[left].cpu().numpy(), bins, len(self.shown))
        whole, inside = predicted.cpu().numpy(), left.cpu().numpy()
        scores = []
        for value in range(1, len(self.shown)):
            folds = self.rates.overlap(value, occurring[value])
            if self.shown[value] < ENOUGH_SLICES or folds is None:
                scores.append(SegmentScore(self.shown[value]))
                continue
            expected = plug_in[value - 1]
            iou = best_estimate(folds[0], folds[0] if expected is None else expected[0])
            places = np.argwhere(_border(whole == value) & inside)
            near = self._near(probabilities, exponent, value, torch.from_numpy(places), distance)
            scores.append(
                SegmentScore(
                    self.shown[value],
                    iou,
                    *interval(iou, self.slices),
                    2 * iou / (1 + iou),
                    None if near[1] is None else best_near_estimate(near[0] or near[1], near[1]),
                    folds[0],
                    None if expected is None else expected[0],
                    *near,
                    self.rates.uncovered(value, occurring[value]),
                )
            )
        return scores

    def _near(
        self,
        probabilities: torch.Tensor,
        exponent: torch.Tensor,
        value: int,
        border: torch.Tensor,
        distance: torch.Tensor,
    ) -> tuple[float | None, float | None]:
        """Two estimates of the share of a border that lies within one voxel of the true one."""
        expected = expected_near_share(probabilities, exponent, value, border)
        occurring = np.bincount(bins_of(distance[tuple(border.T)]), minlength=BINS).astype(float)
        return self.rates.near_share(value, occurring), expected


def _border(mask: np.ndarray) -> np.ndarray:
    """Border voxels of a mask (k, j, i), of its bounding box alone: classes may be many."""
    found = np.zeros(mask.shape, bool)
    if (box := box_of(mask)) is not None:
        found[box] = border(mask[box])
    return found

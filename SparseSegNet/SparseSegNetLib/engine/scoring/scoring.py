"""Scores of a prediction in the whole volume, without its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ...annotation.composition import UNLABELLED
from ..stacking.out_of_fold import ENOUGH_SLICES, OutOfFold
from .calibration import Calibration, Reliability, reliability
from .fold_rates import FoldRates, bins_of, occurrences
from .interval import best_estimate, interval
from .plug_in import expected_overlap
from .segment_score import SegmentScore


@dataclass
class Scoring:
    """What out-of-fold predictions tell, kept to score predictions of the same ensemble.

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
    def of(cls, found: OutOfFold, labels: torch.Tensor, slices: int) -> Scoring:
        """Learns from out-of-fold predictions.

        Args:
            found: The predictions.
            labels: uint8 (k, j, i), what is annotated.
            slices: Number of annotated slices, and of parts without one.
        """
        return cls(
            FoldRates.of(found, labels),
            Calibration.fit(found),
            *reliability(found),
            found.shown,
            slices,
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
        predicted = probabilities.argmax(dim=0).to(torch.uint8)
        plug_in = expected_overlap(probabilities, self.calibration.exponent(distance), left)
        bins = bins_of(distance[left])
        occurring = occurrences(predicted[left].cpu().numpy(), bins, len(self.shown))
        whole, inside = predicted.cpu().numpy(), left.cpu().numpy()
        scores = []
        for value in range(1, len(self.shown)):
            lines = _border(whole == value)[inside]
            scores.append(
                self._segment(
                    value,
                    occurring[value],
                    np.bincount(bins[lines], minlength=occurring.shape[1]).astype(float),
                    plug_in[value - 1],
                )
            )
        return scores

    def _segment(
        self,
        value: int,
        occurring: np.ndarray,
        lines: np.ndarray,
        plug_in: tuple[float, float] | None,
    ) -> SegmentScore:
        folds = self.rates.overlap(value, occurring)
        if self.shown[value] < ENOUGH_SLICES or folds is None:
            return SegmentScore(self.shown[value])
        iou = best_estimate(folds[0], folds[0] if plug_in is None else plug_in[0])
        return SegmentScore(
            self.shown[value],
            iou,
            *interval(iou, self.slices),
            2 * iou / (1 + iou),
            self.rates.near_share(value, lines),
            folds[0],
            None if plug_in is None else plug_in[0],
            self.rates.uncovered(value, occurring),
        )


def _border(mask: np.ndarray) -> np.ndarray:
    """Border voxels of a mask (k, j, i), of its bounding box alone: classes may be many."""
    found = np.zeros(mask.shape, bool)
    for box in ndimage.find_objects(mask.astype(np.uint8)):
        inside = mask[box]
        found[box] = inside & ~ndimage.binary_erosion(inside)
    return found

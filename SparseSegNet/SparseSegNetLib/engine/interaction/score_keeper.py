"""Keeps the expected score of a run: after stacking, of the result, and of newly drawn slices."""

from __future__ import annotations

import numpy as np
import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.inputs import Inputs
from ..data.preprocessing import WorkingVolume
from ..scoring.gain import expected_gains
from ..scoring.new_slices import score_new_slices
from ..scoring.scoring import Scoring
from ..stacking.annotation_distance import log_distance_to_annotation
from ..stacking.ensemble import likeliest_class
from ..stacking.folds import complete_slices
from ..stacking.prior_inputs import prior_of
from ..stacking.stack import Stack
from .reporter import Reporter


class ScoreKeeper:
    """Writes the expected score of the first annotated volume into the run folder.

    Args:
        inputs: The run's volumes.
        reporter: Tells the client.
        classes: Labels with background.
    """

    def __init__(self, inputs: Inputs, reporter: Reporter, classes: int):
        self.inputs, self.reporter, self.classes = inputs, reporter, classes
        self.folder, self.number = inputs.folder, inputs.trained[0]
        self.scoring: Scoring | None = None
        before = self.folder.read_score(self.number + 1)
        self._new_slices = [] if before is None else before["new_slices"]
        self._history = [] if before is None else before["history"]
        self._drawn = None if before is None else _places(before["drawn"])
        if before is not None and self.folder.has_result(self.number + 1):
            predicted = self.folder.read_result(self.number + 1)
            earlier = np.full_like(predicted, UNLABELLED)
            for axis, index in self._drawn or ():  # the result holds them as they were drawn
                earlier[AnnotatedSlice(axis, index).selector()] = 0
            self._judge(predicted, earlier)

    def learn(self, stack: Stack) -> None:
        """Learns from the folds of a stack, and scores its ensemble."""
        if stack.out_of_fold is None:
            return
        volume = stack.target
        self.scoring = Scoring.of(stack.out_of_fold, volume.labels)
        self._write(prior_of(volume, self.classes), volume)

    def exponent(self, probabilities: torch.Tensor, volume: WorkingVolume) -> torch.Tensor | None:
        """Scores the final prediction, and gives the exponents that calibrate it.

        Args:
            probabilities: Class probabilities (classes, k, j, i) of the volume on the CPU.
            volume: The working volume with the labels as they are now.

        Returns:
            float32 (k, j, i) on the CPU; None where nothing could be scored.
        """
        if self.scoring is None:
            return None
        return self.scoring.calibration.exponent(self._write(probabilities, volume))

    def drawn(self, before: np.ndarray) -> None:
        """Scores newly drawn slices by the newest preview. before: uint8 (k, j, i)."""
        predicted = self.folder.read_preview(self.number + 1)
        if predicted is not None:
            self._judge(predicted, before)

    def _judge(self, predicted: np.ndarray, before: np.ndarray) -> None:
        item = self.inputs.items[self.number]
        if self._drawn is not None:
            self._new_slices = self._new_slices + score_new_slices(
                predicted, before, item.labels, item.slices, self._drawn, self.classes - 1
            )
        self._drawn = [s.place for s in item.slices]

    def _write(self, probabilities: torch.Tensor, volume: WorkingVolume) -> torch.Tensor:
        """Writes the score of a prediction; returns the log distances, on the CPU."""
        scoring, labels = self.scoring, volume.labels.cpu()
        assert scoring is not None
        spacing = tuple(volume.spacing.tolist())
        slices = complete_slices(volume.labels, volume.slices)
        distance = log_distance_to_annotation(volume.labels, slices, volume, spacing).cpu()
        probabilities = probabilities.cpu()
        segments = scoring.score(probabilities, labels, distance)
        numbers = [None if s.iou is None else round(s.iou, 4) for s in segments]
        entry = {"slices": scoring.slices, "iou": numbers}
        if self._history and self._history[-1]["slices"] == scoring.slices:
            self._history = self._history[:-1]
        self._history = [*self._history, entry]
        item = self.inputs.items[self.number]
        self._drawn = [s.place for s in item.slices]
        score = {
            "slices": scoring.slices,
            "segments": [s.to_json() for s in segments],
            "calibration": scoring.calibration.to_json(),
            "reliability": {
                "before": scoring.before.to_json(),
                "after": scoring.after.to_json(),
            },
            "gains": expected_gains(
                likeliest_class(probabilities),
                labels,
                volume.slices,
                spacing,
                self._history,
            ),
            "drawn": [{"axis": axis, "index": index} for axis, index in self._drawn],
            "new_slices": self._new_slices,
            "history": self._history,
        }
        number = self.number + 1
        if self.reporter.trying("the score", lambda: self.folder.write_score(number, score)):
            self.reporter.emit("score", input=number)
        return distance


def _places(slices: list[dict]) -> list[tuple[str, int]]:
    return [(one["axis"], one["index"]) for one in slices]

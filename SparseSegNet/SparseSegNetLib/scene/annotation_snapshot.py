"""The annotation of a volume at one moment, without nodes, so that another thread may use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..annotation.composition import UNLABELLED, compose_labels, restrict_to_slices
from ..annotation.drawn import slices_with_strokes
from ..annotation.geometry import Geometry
from ..annotation.slices import AnnotatedSlice, in_slices


@dataclass(frozen=True)
class Snapshot:
    """The labels of an annotation session and its slices.

    Attributes:
        numbers: uint8 (k, j, i), n for the n-th of `ids`; never changed.
        ids: Segment IDs, Background first.
        background: Boolean, by number from 0: True for Background segments.
        slices: The annotated slices, with True for those that were marked as complete.
        waiting: Flat indices of voxels that were taken over from a prediction and do not count.
        grid: The volume's grid.
        predicted: True if nothing counts but what lies in the slices.
    """

    numbers: np.ndarray
    ids: Sequence[str]
    background: np.ndarray
    slices: Mapping[AnnotatedSlice, bool]
    waiting: np.ndarray
    grid: Geometry
    predicted: bool

    def labels(self, classes: Sequence[int]) -> np.ndarray:
        """The label array, as for training but for the search for outlines and strokes.

        Args:
            classes: Number of each segment, without Background, in the array; from 1.

        Returns:
            uint8 (k, j, i): 0 background, 255 unlabelled.
        """
        table = np.zeros(len(self.ids) + 1, np.uint8)
        real = ~self.background
        real[0] = False
        table[real] = classes
        drawn = table[self.numbers]
        background = None
        complete = list(self.slices)
        if self.background.any():
            background = self.background[self.numbers]
            detected = [s for s, stated in self.slices.items() if not stated]
            incomplete = slices_with_strokes(detected, drawn, background)
            complete = [s for s in complete if s not in incomplete]
        labels = compose_labels(drawn, complete, background)
        waiting = self.waiting[~in_slices(self.waiting, complete, self.grid.shape)]
        labels.ravel()[waiting] = UNLABELLED
        return restrict_to_slices(labels, self.slices) if self.predicted else labels

"""The state of an annotation that suggestions go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry, Triple
from ..annotation.slices import AXES, AnnotatedSlice, array_axis
from .anatomy import AxisWords, axis_words
from .extents import Areas, correlation_length, drawn_areas, extent
from .slice_profiles import SliceProfiles

SHOWN = 0.1  # of a segment's largest drawn slice: a slice with less does not show it


@dataclass(frozen=True, eq=False)
class Situation:
    """The annotation of a volume and what is predicted of it.

    Attributes:
        shape: Of the volume (k, j, i).
        spacing: mm between slices of i, j and k.
        names: Of the segments 1..K.
        slices: Drawn, or taken as drawn since they were suggested already.
        shown: Per segment the slices that show it.
        painted: Per segment, whether it is drawn anywhere.
        areas: Voxels per segment and slice, (K, slices) for i, j and k: as predicted; of a segment
            that is not predicted, as drawn.
        profiles: Of the prediction; None without one.
        length: Distance in mm within which slices show nearly the same.
        words: Words for each axis.
    """

    shape: Triple
    spacing: dict[str, float]
    names: tuple[str, ...]
    slices: tuple[AnnotatedSlice, ...]
    shown: tuple[frozenset[AnnotatedSlice], ...]
    painted: tuple[bool, ...]
    areas: Areas
    profiles: SliceProfiles | None
    length: float
    words: dict[str, AxisWords]

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        slices: Sequence[AnnotatedSlice],
        names: Sequence[str],
        geometry: Geometry,
        profiles: SliceProfiles | None,
    ) -> Situation:
        """The situation of an annotation.

        Args:
            labels: uint8 (k, j, i), 255 = unlabelled.
            slices: The annotated slices.
            names: Of the segments 1..K.
            geometry: The volume's grid.
            profiles: Of a prediction; None without one.
        """
        count = len(names)
        areas = drawn_areas(labels, slices, count)
        if profiles is not None:
            for axis in AXES:
                predicted = profiles.areas(axis).astype(float)
                known = predicted.any(axis=1)
                areas[axis][known] = predicted[known]
        spacing = dict(zip(AXES, geometry.spacing, strict=True))
        counts = np.zeros((len(slices), count))
        for row, item in zip(counts, slices, strict=True):
            row[:] = _counts(labels[item.selector()], count)
        largest = counts.max(axis=0, initial=0)
        shown = tuple(
            frozenset(
                item
                for item, row in zip(slices, counts, strict=True)
                if row[n] and row[n] >= SHOWN * largest[n]
            )
            for n in range(count)
        )
        painted = _counts(labels, count) > 0
        return cls(
            geometry.shape,
            spacing,
            tuple(names),
            tuple(slices),
            shown,
            tuple(painted.tolist()),
            areas,
            profiles,
            correlation_length(areas, spacing),
            axis_words(geometry),
        )

    def with_slice(self, item: AnnotatedSlice) -> Situation:
        """The situation once a slice is drawn that shows what is expected there.

        What is drawn nowhere is taken as drawn then: one suggestion at a time looks for it.
        """
        shown = tuple(
            slices | {item} if self.shows(item.axis, n)[item.index] else slices
            for n, slices in enumerate(self.shown)
        )
        painted = tuple(True for _ in self.names)
        return replace(self, slices=(*self.slices, item), shown=shown, painted=painted)

    def shows(self, axis: str, segment: int) -> np.ndarray:
        """Boolean (slices,), the slices of an axis that are expected to show a segment.

        Args:
            axis: 'i', 'j' or 'k'.
            segment: From 0.
        """
        row = self.areas[axis][segment]
        return (row > 0) & (row >= SHOWN * row.max())

    def count(self, axis: str) -> int:
        """Number of slices of an axis."""
        return self.shape[array_axis(axis)]

    def drawn(self, axis: str) -> list[int]:
        """Indices of the drawn slices of an axis, ascending."""
        return sorted({item.index for item in self.slices if item.axis == axis})

    def extent(self, axis: str) -> tuple[int, int]:
        """First and last slice of all segments along an axis; the whole axis if nothing is known.

        Along the axis of the only slices that are drawn nothing is known beyond them.
        """
        found = extent(self.areas[axis].sum(axis=0))
        if found is None or (self.profiles is None and found[0] == found[1]):
            return 0, self.count(axis) - 1
        return found

    def distances(self, axis: str) -> np.ndarray:
        """Distance (slices,) in mm of each slice of an axis to the nearest drawn one beside it."""
        places = np.arange(self.count(axis))
        if not (drawn := self.drawn(axis)):
            return np.full(len(places), np.inf)
        return self.spacing[axis] * np.abs(places[:, None] - np.array(drawn)).min(axis=1)

    def free(self, axis: str) -> np.ndarray:
        """Boolean (slices,), those that show what no drawn slice beside them shows."""
        distances = self.distances(axis)
        return (distances > 0) & (distances >= self.length)


def _counts(labels: np.ndarray, segments: int) -> np.ndarray:
    """Voxels (K,) of each segment."""
    return np.bincount(labels.ravel(), minlength=UNLABELLED + 1)[1 : segments + 1]

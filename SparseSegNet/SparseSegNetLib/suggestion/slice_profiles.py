"""Sums over each slice of a predicted volume: areas, uncertainty, length of contours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple
from ..annotation.orientation import Turn
from ..annotation.slices import array_axis

VALUES = UNLABELLED + 1  # that a label can have


@dataclass(frozen=True, eq=False)
class SliceProfiles:
    """Sums over every slice of a volume along each of its three axes.

    Attributes:
        array: float32 (2 K + 2, slices of constant k, then j, then i) for K segments. Rows: the
            predicted voxels of each segment, the uncertainty of each segment, the entropy, the
            length of the contours.
        shape: Of the volume (k, j, i).
    """

    array: np.ndarray
    shape: Triple

    @classmethod
    def of(
        cls,
        areas: np.ndarray,
        uncertainty: np.ndarray,
        entropy: np.ndarray,
        contours: np.ndarray,
        shape: Triple,
    ) -> SliceProfiles:
        """Profiles from their rows.

        Args:
            areas: (K, slices along k, then j, then i).
            uncertainty: As `areas`.
            entropy: (slices along k, then j, then i).
            contours: As `entropy`.
            shape: Of the volume (k, j, i).
        """
        rows = np.concatenate([areas, uncertainty, entropy[None], contours[None]])
        return cls(rows.astype(np.float32), shape)

    def turned_back(self, turn: Turn) -> SliceProfiles:
        """Profiles of the volume as it was before it was turned."""
        if turn.identity:
            return self
        parts, back = split(self.array, self.shape), turn.inverse
        chosen = [parts[axis] for axis in back.order]
        chosen = [
            part[:, ::-1] if flip else part
            for part, flip in zip(chosen, back.reversed, strict=True)
        ]
        shape = triple(self.shape[axis] for axis in back.order)
        return SliceProfiles(np.concatenate(chosen, axis=1), shape)

    @property
    def segments(self) -> int:
        """Number of segments K."""
        return len(self.array) // 2 - 1

    def areas(self, axis: str) -> np.ndarray:
        """Predicted voxels of each segment in each slice of an axis, (K, slices)."""
        return self._part(axis)[: self.segments]

    def uncertainty(self, axis: str) -> np.ndarray:
        """Uncertainty of each segment in each slice of an axis, (K, slices).

        The sum over voxels of entropy (nats) times disagreement (nats) of the ways that predict,
        for the segment that is the likeliest one there apart from background.
        """
        return self._part(axis)[self.segments : -2]

    def entropy(self, axis: str) -> np.ndarray:
        """The sum of the entropy (nats) over the voxels of each slice of an axis."""
        return self._part(axis)[-2]

    def contours(self, axis: str) -> np.ndarray:
        """Length of the contours in each slice of an axis, in edges of voxels."""
        return self._part(axis)[-1]

    def fault(self) -> str | None:
        """Reason why the sums cannot be used, for a message; None if they can."""
        if not np.isfinite(self.array).all():
            return "it holds values that are not finite"
        return "it holds negative values" if (self.array < 0).any() else None

    def _part(self, axis: str) -> np.ndarray:
        along = array_axis(axis)
        begin = sum(self.shape[:along])
        return self.array[:, begin : begin + self.shape[along]]


def profiles_shape(shape: Sequence[int], segments: int) -> tuple[int, int]:
    """Shape of the array of `SliceProfiles`.

    Args:
        shape: Of the volume (k, j, i).
        segments: Their number.
    """
    return 2 * segments + 2, sum(shape)


def areas_of(labels: np.ndarray, segments: int) -> np.ndarray:
    """Voxels of each segment in each slice, float64 (K, slices along k, then j, then i).

    Args:
        labels: uint8 (k, j, i).
        segments: Their number K.
    """
    _, height, width = labels.shape
    across = [np.zeros((n, VALUES)) for n in labels.shape]
    rows = VALUES * np.arange(height)[:, None]
    columns = VALUES * np.arange(width)
    for k, plane in enumerate(labels):
        counts = np.bincount((plane + rows).ravel(), minlength=VALUES * height)
        across[1] += counts.reshape(height, VALUES)
        across[0][k] = counts.reshape(height, VALUES).sum(axis=0)
        counts = np.bincount((plane + columns).ravel(), minlength=VALUES * width)
        across[2] += counts.reshape(width, VALUES)
    return np.concatenate(across)[:, 1 : segments + 1].T


def contours_of(labels: np.ndarray) -> np.ndarray:
    """Edges between voxels of different labels in each slice (along k, then j, then i).

    Args:
        labels: uint8 (k, j, i).
    """
    across = [np.zeros(n) for n in labels.shape]
    for axis in range(3):
        first, second = (_part(labels, axis, where) for where in (slice(1, None), slice(-1)))
        differ = first != second
        for other in {0, 1, 2} - {axis}:
            across[other] += _sums(differ, other)
    return np.concatenate(across)


def _part(labels: np.ndarray, axis: int, where: slice) -> np.ndarray:
    place: list[slice] = [slice(None)] * 3
    place[axis] = where
    return labels[tuple(place)]


def _sums(array: np.ndarray, axis: int) -> np.ndarray:
    return np.count_nonzero(array, axis=tuple(a for a in range(3) if a != axis))


def split(values: np.ndarray, shape: Iterable[int]) -> list[np.ndarray]:
    """Parts of an array (..., slices along k, then j, then i) along each of the three axes."""
    return np.split(values, np.cumsum(list(shape))[:-1], axis=-1)

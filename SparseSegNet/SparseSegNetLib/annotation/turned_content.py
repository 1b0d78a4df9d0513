"""Recognition of images whose content is turned though their header does not say so.

The training set's mean image, a few thousand values, is compared with an image turned in all ways.
Only turns count that the training set itself tells apart: where its volumes look alike in two
orientations (a symmetric organ, texture), nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from .geometry import triple
from .orientation import Turn

EDGE = 12  # voxels of a thumbnail along each axis
CLEAR = 0.15  # least difference of correlations by which all training volumes tell a turn
TURNS = [
    Turn(triple(order), (k, j, i))
    for order in permutations(range(3))
    for k, j, i in product((False, True), repeat=3)
    if Turn(triple(order), (k, j, i)) != Turn()
]


@dataclass(frozen=True)
class ContentOrientation:
    """Orientation of a training set's content in its arrays.

    Attributes:
        mean: Mean thumbnail, `EDGE`^3 numbers, k first.
        turns: Places in TURNS that every volume of the training set tells from none.
    """

    mean: tuple[float, ...]
    turns: tuple[int, ...]

    @classmethod
    def measure(cls, images: Sequence[np.ndarray]) -> ContentOrientation | None:
        """Measures a training set, each volume against the mean of the others.

        Args:
            images: The first channel of each, (k, j, i), turned to one orientation.

        Returns:
            None where no turn can be told: a single volume, or volumes that look alike turned.
        """
        if len(images) < 2:
            return None
        small = np.stack([thumbnail(image) for image in images])
        told = set(range(len(TURNS)))
        for number, one in enumerate(small):
            others = np.delete(small, number, axis=0).mean(axis=0)
            straight = _likeness(one, others)
            told = {n for n in told if straight - _likeness(TURNS[n].array(one), others) >= CLEAR}
        if not told:
            return None
        mean = small.mean(axis=0)
        return cls(tuple(round(float(v), 4) for v in mean.ravel()), tuple(sorted(told)))

    def turned(self, image: np.ndarray) -> Turn | None:
        """The turn in which an image fits the training set clearly better than as it is.

        Args:
            image: Its first channel, (k, j, i), in the training set's orientation.
        """
        mean = np.reshape(self.mean, (EDGE,) * 3)
        one = thumbnail(image)
        straight = _likeness(one, mean)
        best = max(self.turns, key=lambda n: _likeness(TURNS[n].array(one), mean))
        return TURNS[best] if _likeness(TURNS[best].array(one), mean) - straight >= CLEAR else None


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A reduced image, float (EDGE, EDGE, EDGE), of zero mean and unit variance.

    Args:
        image: (k, j, i); extreme values are clipped.
    """
    step = max(1, round((image.size / 2_000_000) ** (1 / 3)))
    found = np.asarray(image[::step, ::step, ::step], np.float64)
    found = found.clip(*np.percentile(found, (1, 99)))
    for axis, n in enumerate(found.shape):
        at = (np.arange(EDGE + 1) * n / EDGE).astype(int)
        sums = np.concatenate(
            (np.zeros_like(found.take([0], axis)), found.cumsum(axis=axis)), axis=axis
        )
        low, high = at[:-1], np.maximum(at[1:], at[:-1] + 1)
        shape = [1, 1, 1]
        shape[axis] = EDGE
        found = (sums.take(high, axis) - sums.take(low, axis)) / (high - low).reshape(shape)
    return (found - found.mean()) / (found.std() or 1.0)


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two thumbnails."""
    spread = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean()) / (spread or 1.0)

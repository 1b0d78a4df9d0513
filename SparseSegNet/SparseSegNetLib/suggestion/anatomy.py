"""Anatomical words for the slices and the ends of a volume's axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..annotation.geometry import Geometry
from ..annotation.orientation import NEGATIVE, POSITIVE, orientation_of
from ..annotation.slices import AXES

NEAR = 30.0  # degrees between a voxel axis and an anatomical one that names it
PLANES = {"L": "sagittal", "P": "coronal", "S": "axial"}
WORDS = {
    "L": "left",
    "R": "right",
    "P": "posterior",
    "A": "anterior",
    "S": "superior",
    "I": "inferior",
}
OPPOSITE = dict(zip(POSITIVE + NEGATIVE, NEGATIVE + POSITIVE, strict=True))


@dataclass(frozen=True)
class AxisWords:
    """Words for one voxel axis.

    Attributes:
        plane: For a slice across it, such as 'axial'; else its letter, such as 'k'.
        low: For the end at index 0, such as 'inferior'; else 'first'.
        high: For the other end, such as 'superior'; else 'last'.
    """

    plane: str
    low: str
    high: str


def axis_words(geometry: Geometry) -> dict[str, AxisWords]:
    """Words for each of the axes i, j and k.

    An axis that lies more than 30 degrees from every anatomical one has its letter alone.

    Args:
        geometry: The volume's grid.
    """
    matrix = np.abs(np.reshape(geometry.directions, (3, 3)))
    cosines = matrix / np.sqrt((matrix**2).sum(axis=0))
    found = {}
    for column, (axis, letter) in enumerate(zip(AXES, orientation_of(geometry), strict=True)):
        positive = letter if letter in POSITIVE else OPPOSITE[letter]
        cosine = float(cosines[POSITIVE.index(positive), column])
        if cosine >= math.cos(math.radians(NEAR)):
            found[axis] = AxisWords(PLANES[positive], WORDS[OPPOSITE[letter]], WORDS[letter])
        else:
            found[axis] = AxisWords(axis, "first", "last")
    return found

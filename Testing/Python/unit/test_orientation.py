"""Volumes turned to another orientation: voxels keep their place in space, and come back."""

from itertools import permutations, product

import numpy as np
import pytest

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.orientation import Turn, obliqueness, orientation_of
from SparseSegNetLib.annotation.slices import AnnotatedSlice

EVERY = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in permutations(("LR", "PA", "SI"))
    for flips in product((0, 1), repeat=3)
]
TILT = 0.2  # radians


def grid(orientation):
    """A grid of 3x4x5 voxels whose axes lie nearest to these directions, a little tilted."""
    columns = []
    for letter in orientation:
        unit = np.zeros(3)
        axis = next(n for n, pair in enumerate(("LR", "PA", "SI")) if letter in pair)
        unit[axis] = 1 if letter in "LPS" else -1
        columns.append(unit)
    tilt = np.array([[np.cos(TILT), -np.sin(TILT), 0], [np.sin(TILT), np.cos(TILT), 0], [0, 0, 1]])
    matrix = tilt @ np.stack(columns, axis=1)
    return Geometry((3, 4, 5), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), tuple(matrix.ravel()))


@pytest.mark.parametrize("own", EVERY)
@pytest.mark.parametrize("wanted", ["LPS", "PIR", "SAL"])
def test_turned_voxels_keep_their_place(own, wanted):
    geometry = grid(own)
    assert orientation_of(geometry) == own
    assert np.isclose(obliqueness(geometry), np.degrees(TILT))
    array = np.arange(60).reshape(geometry.shape)
    turn = Turn.between(own, wanted)
    turned, there = turn.array(array), turn.geometry(geometry)
    assert orientation_of(there) == wanted and turned.shape == there.shape
    for k, j, i in np.ndindex(*there.shape):
        at = np.argwhere(array == turned[k, j, i])[0]
        assert np.allclose(there.position(i, j, k), geometry.position(*at[::-1]))
    assert np.array_equal(turn.back(turned), array)
    assert turn.identity == (own == wanted)


def test_slices_turn_with_the_voxels():
    geometry = grid("PIR")
    array = np.arange(60).reshape(geometry.shape)
    turn = Turn.between("PIR", "LPS")
    for item in (AnnotatedSlice("i", 1), AnnotatedSlice("j", 3), AnnotatedSlice("k", 0)):
        (moved,) = turn.slices([item], geometry.shape)
        assert set(turn.array(array)[moved.selector()].ravel()) == set(
            array[item.selector()].ravel()
        )


def test_channels_stay_in_front():
    array = np.arange(120).reshape(2, 3, 4, 5)
    turn = Turn.between("SLA", "LPS")
    assert np.array_equal(turn.array(array)[1], turn.array(array[1]))

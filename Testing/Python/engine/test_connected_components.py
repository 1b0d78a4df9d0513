"""Clean-up of what hangs together with nothing drawn."""

import numpy as np
import pytest

from SparseSegNetLib.engine.prediction.connected_components import keep_main_components


@pytest.fixture
def two_kidneys():
    """Two blocks of segment 1, the larger one left; speckles of it; segment 2 around a hole."""
    labels = np.zeros((20, 20, 30), np.uint8)
    labels[4:14, 4:14, 2:12] = 1
    labels[6:12, 6:12, 18:24] = 1
    labels[17, 17, 2] = labels[1, 1, 28] = 1
    labels[14:20, 0:4, 24:30] = 2
    return labels


@pytest.fixture
def nothing(two_kidneys):
    return np.full_like(two_kidneys, 255)


def test_the_largest_piece_stays(two_kidneys, nothing):
    before = two_kidneys.copy()
    changed = keep_main_components(two_kidneys, nothing)
    assert changed == 6 * 6 * 6 + 2
    assert (two_kidneys[..., :12] == 1).sum() == 1000 and not (two_kidneys[..., 12:] == 1).any()
    assert np.array_equal(two_kidneys == 2, before == 2)


def test_a_piece_in_which_something_was_drawn_stays(two_kidneys, nothing):
    nothing[8, 8, 18:24] = 1
    assert keep_main_components(two_kidneys, nothing) == 2
    assert (two_kidneys == 1).sum() == 1000 + 216


def test_what_was_drawn_of_another_segment_does_not_count(two_kidneys, nothing):
    nothing[8, 8, 20] = 2
    two_kidneys[8, 8, 20] = 2  # drawn voxels are in the labels as they were drawn
    keep_main_components(two_kidneys, nothing)
    assert two_kidneys[8, 8, 20] == 2 and (two_kidneys == 1).sum() == 1000


def test_a_drawn_voxel_is_never_changed(two_kidneys, nothing):
    random = np.random.default_rng(0)
    noise = random.random(two_kidneys.shape) < 0.02
    two_kidneys[noise] = random.integers(0, 3, int(noise.sum()))
    drawn = np.where(random.random(two_kidneys.shape) < 0.01, two_kidneys, 255).astype(np.uint8)
    before = two_kidneys.copy()
    changed = keep_main_components(two_kidneys, drawn)
    assert changed == (two_kidneys != before).sum() > 0
    assert np.array_equal(two_kidneys[drawn != 255], drawn[drawn != 255])


def test_a_loose_piece_becomes_what_surrounds_it(nothing):
    labels = np.zeros(nothing.shape, np.uint8)
    labels[2:18, 2:18, 2:18] = 1
    labels[8, 8, 8] = 2  # within segment 1
    labels[5, 5, 20:26] = 2
    keep_main_components(labels, nothing)
    assert labels[8, 8, 8] == 1 and (labels == 2).sum() == 6


def test_pieces_that_touch_at_a_corner_hang_together(nothing):
    labels = np.zeros(nothing.shape, np.uint8)
    for n in range(10):
        labels[n, n, n] = 1
    assert keep_main_components(labels, nothing) == 0 and (labels == 1).sum() == 10


@pytest.mark.parametrize("value", [0, 1])
def test_one_label_everywhere(value, nothing):
    labels = np.full(nothing.shape, value, np.uint8)
    assert keep_main_components(labels, nothing) == 0 and (labels == value).all()

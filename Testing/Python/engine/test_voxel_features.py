"""What a shallow model gets to see: positions, waves, distances."""

import math

import numpy as np
import pytest
import torch
from test_priors import ellipsoid, working

from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.stacking import filters
from SparseSegNetLib.engine.stacking.voxel_features import (
    feature_count,
    log_distance_to,
    voxel_features,
    waves,
)


def test_channels():
    """Two waves need three slices, four need five; with five everywhere nothing is missing."""
    truth = ellipsoid((12, 14, 16))
    for counts, number in (
        ((1, 1, 1), 0),
        ((2, 2, 1), 2 + 2),
        ((3, 3, 2), 4 + 4 + 2),
        ((5, 5, 3), 6 + 6 + 4),
        ((5, 5, 5), 18),
    ):
        volume = working(truth, spread_slices(counts, truth.shape))
        found = voxel_features(volume, (1.0, 1.0, 1.0))
        assert found.shape == (filters.count(1) + 3 + number, *truth.shape)
        assert found.dtype == torch.half and torch.isfinite(found).all()
    assert len(found) == feature_count(1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_waves_have_their_length(axis):
    position = torch.zeros(3, 4, 4, 4)
    along = torch.linspace(-1, 1, 4)
    position[axis] = along.view([-1 if a == axis else 1 for a in range(3)])
    found = waves(position, [AnnotatedSlice("kji"[axis], n) for n in range(3)])
    assert len(found) == 4, "sine and cosine of one half wave and of two"
    for halves, (sine, cosine) in zip((1, 2), (found[:2], found[2:]), strict=True):
        angle = halves * math.pi * (along.numpy() + 1) / 2
        for wave, exact in ((sine, np.sin(angle)), (cosine, np.cos(angle))):
            assert np.allclose(wave[0].movedim(axis, 0)[:, 0, 0].numpy(), exact, atol=2e-3)


def test_distance_to_the_nearest_slice_in_units_of_the_finest_spacing():
    truth = ellipsoid((10, 12, 14))
    volume = working(truth, [AnnotatedSlice("k", 2), AnnotatedSlice("i", 13)])
    found = log_distance_to(volume.slices, volume, (3.0, 1.0, 1.5)).float().expm1()
    assert found[2].abs().max() == 0 and found[:, :, 13].abs().max() == 0
    assert float(found[4, 5, 0]) == pytest.approx(6.0, rel=1e-2)
    assert float(found[9, 5, 11]) == pytest.approx(3.0, rel=1e-2)

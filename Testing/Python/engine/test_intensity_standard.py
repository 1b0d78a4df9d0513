"""Normalisation that carries over from a training set to other volumes."""

import json

import numpy as np
import pytest

from SparseSegNetLib.engine.data.intensity_standard import IntensityStandard, intensity_ranges

SHAPE = (12, 14, 16)


def tissue(seed, scale=1.0, shift=0.0):
    """An image of air, fat, tissue and bone, in Hounsfield units before scale and shift."""
    random = np.random.default_rng(seed)
    values = random.choice([-1000.0, -90.0, 45.0, 700.0], SHAPE, p=[0.4, 0.15, 0.4, 0.05])
    return (scale * (values + random.normal(0, 12, SHAPE)) + shift)[None]


def test_ct_keeps_its_units():
    """A scan with more air is normalised as the others are: the same tissue, the same value."""
    standard = IntensityStandard.measure([tissue(0), tissue(1)])
    assert standard.modality == "ct"
    new = tissue(2)
    new[:, :6] = -1000.0

    def soft(image):
        """Mean normalised value of soft tissue."""
        found = standard.normalisation_of(image).apply(image)
        return found[abs(image - 45) < 20].mean()

    assert abs(soft(new) - soft(tissue(0))) < 0.02


def test_other_modalities_have_scales_of_their_own():
    standard = IntensityStandard.measure([tissue(0, 0.3, 400), tissue(1, 2.0, 90)])
    assert standard.modality == "other"
    found = [standard.normalisation_of(i).apply(i) for i in (tissue(2), tissue(2, 7.0, 5000))]
    assert np.allclose(*found, atol=1e-3)


def test_the_modality_may_be_named():
    images = [tissue(0)]
    assert IntensityStandard.measure(images, "other").modality == "other"
    assert IntensityStandard.measure([tissue(0, 0.3, 400)], "ct").modality == "ct"


def test_histograms_are_matched():
    """Another contrast (a power of the intensities) comes out as the training set's."""
    images = [tissue(n, 0.1, 200) for n in range(3)]
    standard = IntensityStandard.measure(images, "other", match=True)
    new = images[0] ** 2.5
    plain = standard.normalisation_of(new).apply(new)
    wanted = standard.normalisation_of(images[0]).apply(images[0])
    before = np.abs(plain - wanted).mean()
    matched = standard.matched(plain.copy())
    assert np.abs(matched - wanted).mean() < 0.3 * before
    again = IntensityStandard.measure(images, "other")
    assert np.array_equal(again.matched(plain.copy()), plain), "only where it is wanted"


def test_a_background_of_zeros_does_not_confuse_it():
    images = [np.where(tissue(n) < -500, 0, tissue(n) + 200) for n in range(2)]
    standard = IntensityStandard.measure(images, "other", match=True)
    found = standard.matched(standard.normalisation_of(images[0]).apply(images[0]))
    assert np.isfinite(found).all() and found.std() > 0.1


@pytest.mark.parametrize("match", [False, True])
def test_it_comes_back(match):
    standard = IntensityStandard.measure([tissue(0, 0.1, 200)] * 2, "other", match)
    assert IntensityStandard.from_json(json.loads(json.dumps(standard.to_json()))) == standard


def test_ranges_are_those_of_all_volumes():
    ((low, high),) = intensity_ranges([tissue(0), tissue(1, 2.0)])
    assert low < -1900 and high > 1300

"""Class probabilities evened out between neighbouring voxels."""

import pytest

torch = pytest.importorskip("torch")

from SparseSegNetLib.engine.stacking.smoothing import ACROSS, smooth_probabilities

CUBES = (1.0, 1.0, 1.0)


def noisy(truth, generator, share=0.2):
    """Two classes' probabilities of which this share of the voxels says the opposite."""
    wrong = torch.rand(truth.shape, generator=generator) < share
    foreground = torch.where(truth ^ wrong, 0.8, 0.2)
    return torch.stack((1 - foreground, foreground))


def errors(probabilities, truth):
    return float(((probabilities[1] > 0.5) != truth).float().mean())


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def block(generator):
    """Truth, image with its border and a little noise, probabilities."""
    truth = torch.zeros(20, 20, 20, dtype=torch.bool)
    truth[5:15, 5:15, 5:15] = True
    image = truth.float()[None] + 0.05 * torch.randn((1, 20, 20, 20), generator=generator)
    return truth, image, noisy(truth, generator)


def test_probabilities_stay_probabilities(block):
    _, image, before = block
    after = smooth_probabilities(before, image, CUBES)
    assert after.shape == before.shape and after.dtype == torch.float32
    assert torch.allclose(after.sum(dim=0), torch.ones(after.shape[1:]), atol=1e-5)
    assert float(after.min()) >= 0.2 - 1e-6 and float(after.max()) <= 0.8 + 1e-6


def test_what_was_given_is_not_changed(block):
    _, image, before = block
    kept = before.clone()
    smooth_probabilities(before, image, CUBES)
    assert torch.equal(before, kept)


def test_single_wrong_voxels_go(block):
    truth, image, before = block
    assert errors(before, truth) > 0.15
    assert errors(smooth_probabilities(before, image, CUBES), truth) < 0.03


def test_a_border_in_the_image_holds_it_up(block):
    truth, image, _ = block
    sure = torch.stack((~truth, truth)).float()
    seen = smooth_probabilities(sure, image, CUBES)
    unseen = smooth_probabilities(sure, torch.zeros_like(image), CUBES)
    inside = truth & ~torch.nn.functional.max_pool3d((~truth).float()[None], 3, 1, 1)[0].bool()
    rim = truth & ~inside
    assert float(seen[1][rim].mean()) > float(unseen[1][rim].mean()) + 0.1
    # Two voxels from the border there is nothing left to even out.
    assert torch.allclose(unseen[1][9:11, 9:11, 9:11], torch.ones(2, 2, 2))


def test_a_vessel_one_voxel_thick_survives_where_the_image_shows_it():
    truth = torch.zeros(9, 9, 12, dtype=torch.bool)
    truth[4, 4] = True
    sure = torch.stack((~truth, truth)).float()
    seen = smooth_probabilities(sure, truth.float()[None], CUBES)
    unseen = smooth_probabilities(sure, torch.zeros(1, 9, 9, 12), CUBES)
    assert errors(seen, truth) == 0
    assert not bool((unseen[1] > 0.5).any())


def test_thick_slices_count_less_across_than_within():
    at_one_voxel = torch.zeros(2, 7, 7, 7)
    at_one_voxel[0] = 1
    at_one_voxel[:, 3, 3, 3] = torch.tensor([0.0, 1.0])
    after = smooth_probabilities(at_one_voxel, torch.zeros(1, 7, 7, 7), (3.0, 1.0, 1.0))
    assert float(after[1, 3, 3, 2]) == pytest.approx(9 * float(after[1, 2, 3, 3]), rel=1e-4)


def test_all_channels_of_the_image_show_borders():
    truth = torch.zeros(9, 12, 12, dtype=torch.bool)
    truth[4] = True
    sure = torch.stack((~truth, truth)).float()
    image = torch.stack((torch.zeros(9, 12, 12), 10 * truth.float()))
    among = smooth_probabilities(sure, image, CUBES)[1][4].mean()
    alone = smooth_probabilities(sure, image[:1], CUBES)[1][4].mean()
    assert float(among) > float(alone)


@pytest.mark.parametrize("shape", [(1, 6, 6), (6, 1, 6), (1, 1, 1)])
def test_volumes_of_one_slice(shape):
    before = torch.rand((3, *shape)).softmax(dim=0)
    after = smooth_probabilities(before, torch.zeros((1, *shape)), CUBES)
    assert torch.allclose(after.sum(dim=0), torch.ones(shape), atol=1e-5)
    if shape == (1, 1, 1):
        assert torch.allclose(after, before)


def test_across_the_strongest_border_something_is_left():
    assert 0 < ACROSS < 1
    image = torch.zeros(1, 2, 30, 30)
    image[:, 0, 0, 0] = 1e6
    before = torch.rand((2, 2, 30, 30)).softmax(dim=0)
    assert torch.isfinite(smooth_probabilities(before, image, CUBES)).all()

"""Dense prediction: every voxel once, seams invisible, any size."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.prediction.inference import Predictor, finish
from SparseSegNetLib.engine.prediction.tiling import tile_starts


class Threshold(torch.nn.Module):
    """A 'network' whose answer is known: class 1 where the image is positive."""

    def forward(self, x):
        return torch.cat((-10 * x[:, :1], 10 * x[:, :1]), dim=1)


def predictor_of(network, tile=(16, 16, 16), position=False, classes=2):
    plan = Plan(
        (1, 1, 1), (1.0, 1.0, 1.0), tile, tile, ((8, 8, 8),), ((3, 3, 3),), 4, 1, position=position
    )
    return Predictor(network, classes, plan)


def volume(shape, seed=0):
    image = torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
    return WorkingVolume(image, torch.full(shape, 255, dtype=torch.uint8), torch.ones(3), shape)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [(100, 32, 0.25), (33, 32, 0.25), (64, 32, 0), (5, 8, 0.25), (1000, 48, 0.5)],
)
def test_tiles_cover_everything_and_overlap_enough(size, tile, overlap):
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0 and starts[-1] + tile >= size
    assert all(b - a <= max(1, tile * (1 - overlap)) + 1 for a, b in pairwise(starts))
    assert starts[-1] + tile <= max(size, tile)


@pytest.mark.parametrize("shape", [(20, 30, 40), (16, 17, 50), (8, 8, 8), (1, 20, 33)])
def test_every_voxel_gets_its_own_answer(shape):
    vol = volume(shape)
    predictor = predictor_of(Threshold())
    found = predictor.probabilities(vol)
    assert found.shape == (2, *shape)
    assert torch.equal(found.argmax(0), (vol.image[0] > 0).long())
    assert torch.allclose(found.sum(0), torch.ones(shape), atol=1e-5)


def test_a_box_is_the_same_as_that_part_of_the_whole():
    vol = volume((30, 40, 50))
    predictor = predictor_of(Threshold())
    whole = predictor.probabilities(vol)
    part = predictor.probabilities(vol, (4, 0, 9), (20, 40, 31))
    assert torch.allclose(part, whole[:, 4:20, :, 9:31], atol=1e-5)


@pytest.mark.parametrize("position", [False, True])
def test_a_network_gives_nearly_the_same_labels_whatever_the_tiling(position):
    torch.manual_seed(0)
    vol = volume((40, 48, 56))
    vol.image = torch.nn.functional.avg_pool3d(vol.image[None], 5, 1, 2)[0] * 8
    plan = replace(
        make_plan(Fingerprint((40, 48, 56), (1, 1, 1), 1, 3, 100, 5), width=4), priors=False
    )
    network = build(plan, 4 if position else 1, 3)
    network(torch.randn(4, 4 if position else 1, *plan.patch))  # sets the running statistics
    labels = [
        Predictor(network.eval(), 3, replace(plan, tile=tile, position=position))
        .probabilities(vol)
        .argmax(0)
        for tile in ((40, 48, 56), (32, 32, 32))
    ]
    assert (labels[0] == labels[1]).float().mean() > 0.97


def test_progress_is_told_and_can_break_off():
    shares = []

    def step(share):
        shares.append(share)
        if len(shares) == 3:
            raise InterruptedError

    predictor = predictor_of(Threshold())
    with pytest.raises(InterruptedError):
        predictor.probabilities(volume((40, 40, 40)), step=step)
    assert shares[0] == 0 and shares == sorted(shares)


def test_finish_on_the_same_grid():
    chance = torch.tensor([0.5, 0.9, 0.1]).repeat(40, 3, 1).movedim(-1, 0)[None]
    chance = torch.cat((1 - chance, chance)).reshape(2, 3, 40, 3).movedim(1, -1).contiguous()
    labels, uncertainty = finish(chance, (40, 3, 3), planes=16)
    assert (labels == chance.argmax(0)).all()
    assert uncertainty[0, 0].tolist() == pytest.approx([255, 51, 51], abs=1)


def test_finish_enlarges_a_reduced_grid_without_shifting_it():
    coarse = torch.zeros(2, 10, 12, 14)
    coarse[1, 3:7, 4:8, 5:9] = 1
    coarse[0] = 1 - coarse[1]
    labels, _ = finish(coarse, (30, 36, 42), planes=7)
    wanted = torch.zeros(30, 36, 42, dtype=torch.bool)
    wanted[9:21, 12:24, 15:27] = True
    both = ((labels == 1) & wanted).sum() / ((labels == 1) | wanted).sum()
    assert both > 0.85
    centre = torch.nonzero(labels == 1).float().mean(0)
    assert torch.allclose(centre, torch.tensor([14.5, 17.5, 20.5]), atol=0.1)

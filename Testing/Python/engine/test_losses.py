"""Losses see labelled voxels alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from SparseSegNetLib.engine.compute import losses
from SparseSegNetLib.engine.compute.losses import (
    auto_loss,
    balancing_weights,
    fcn_dice_loss,
    make_loss,
    masked_cross_entropy,
    masked_dice_loss,
    vnet_dice,
    vnet_dice_loss,
)

WEIGHTS = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
LOSSES = [
    masked_cross_entropy,
    masked_dice_loss,
    auto_loss,
    vnet_dice_loss,
    fcn_dice_loss,
    lambda logits, labels: masked_cross_entropy(logits, labels, WEIGHTS.to(logits)),
    lambda logits, labels: fcn_dice_loss(logits, labels, WEIGHTS),
    *(make_loss(name, WEIGHTS.float()) for name in losses.LOSSES),
]


@pytest.fixture(scope="module", params=["on the CPU", "on a card"])
def way(request):
    """Labelled voxels are gathered, or the others are masked."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "on a card":
            patch.setattr(losses, "_gathered", losses._masked)
        yield


def test_both_ways_give_the_same(monkeypatch):
    logits = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4, 5, 6)).to(torch.uint8)
    labels[torch.rand(labels.shape) < 0.8] = 255
    found = []
    for way in (losses._gathered, losses._masked):
        monkeypatch.setattr(losses, "_gathered", way)
        for loss in LOSSES:
            values = logits.clone().requires_grad_()
            value = loss(values, labels)
            value.backward()
            found.append((value.detach(), values.grad))
    half = len(found) // 2
    for (value, gradient), (other, same) in zip(found[:half], found[half:], strict=True):
        assert torch.isclose(value, other) and torch.allclose(gradient, same, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_an_unlabelled_voxel_changes_no_gradient(way, loss, seed, share):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 3, 4, 5), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 3, 4, 5), generator=generator).to(torch.uint8)
    unlabelled = torch.rand(labels.shape, generator=generator) < share
    labels[unlabelled] = 255

    def gradient(values):
        values = values.clone().requires_grad_()
        loss(values, labels).backward()
        return values.grad

    other = torch.where(
        unlabelled[:, None],
        10 * torch.randn(logits.shape, generator=generator, dtype=torch.float64),
        logits,
    )
    first, second = gradient(logits), gradient(other)
    spread = unlabelled[:, None].expand_as(logits)
    assert (first[spread] == 0).all() and (second[spread] == 0).all()
    assert torch.equal(first[~spread], second[~spread])


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_labelled_gives_zero_and_no_nan(way, loss):
    logits = torch.randn(1, 3, 2, 2, 2).requires_grad_()
    value = loss(logits, torch.full((1, 2, 2, 2), 255, dtype=torch.uint8))
    value.backward()
    assert value == 0 and (logits.grad == 0).all()


def test_cross_entropy_is_the_mean_over_labelled_voxels():
    logits = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64)
    labels = torch.full((1, 2, 2, 2), 255, dtype=torch.uint8)
    labels[0, 0, 0, 0], labels[0, 1, 1, 1] = 2, 0
    chance = logits.softmax(1)
    wanted = -(chance[0, 2, 0, 0, 0].log() + chance[0, 0, 1, 1, 1].log()) / 2
    assert torch.isclose(masked_cross_entropy(logits, labels), wanted)


def test_class_weights_weigh_and_normalise():
    logits = torch.randn(1, 2, 1, 1, 2, dtype=torch.float64)
    labels = torch.tensor([[[[0, 1]]]], dtype=torch.uint8)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    chance = logits.softmax(1)
    wanted = -(chance[0, 0, 0, 0, 0].log() + 3 * chance[0, 1, 0, 0, 1].log()) / 4
    assert torch.isclose(masked_cross_entropy(logits, labels, weights), wanted)


def test_balancing_evens_out_the_classes():
    labels = torch.tensor([0] * 16 + [1] * 4 + [255] * 9, dtype=torch.uint8).reshape(1, 1, 1, -1)
    assert torch.allclose(balancing_weights(labels, 3, 0.0), torch.tensor([1.0, 1.0, 0.0]))
    full = balancing_weights(labels, 3, 1.0)
    assert torch.isclose(full[0] * 16, full[1] * 4) and full[2] == 0
    half = balancing_weights(labels, 3, 0.5)
    assert torch.isclose(half[1] / half[0], torch.tensor(2.0))
    assert torch.isclose(half[0] * 16 + half[1] * 4, torch.tensor(20.0))


def test_dice_by_hand():
    logits = torch.zeros(1, 2, 1, 1, 4, dtype=torch.float64)  # probability one half everywhere
    labels = torch.tensor([[[[1, 1, 0, 255]]]], dtype=torch.uint8)
    # Over the three labelled voxels: 2 * (2 * 0.5) / (3 * 0.5 + 2) with smoothing 0.
    loss = masked_dice_loss(logits, labels, smooth=0.0)
    assert torch.isclose(loss, torch.tensor(1 - 2 / 3.5).double())


def test_a_perfect_prediction_costs_next_to_nothing():
    labels = torch.randint(0, 3, (1, 4, 4, 4)).to(torch.uint8)
    logits = 40.0 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1)
    assert auto_loss(logits, labels) < 1e-3


def test_vnet_dice_has_the_gradient_of_the_paper():
    """Milletari 2016, section 3: 2 (g_j (sum p^2 + sum g^2) - 2 p_j sum(p g)) / (...)^2."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(500, generator=generator, dtype=torch.float64).requires_grad_()
    g = (torch.rand(500, generator=generator) < 0.3).double()
    vnet_dice(p, g).backward()
    with torch.no_grad():
        squares, both = (p * p).sum() + (g * g).sum(), (p * g).sum()
        wanted = 2 * (g * squares - 2 * p * both) / squares**2
    assert torch.allclose(p.grad, wanted, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda x: vnet_dice(x, g), p)


def test_vnet_loss_counts_the_labelled_foreground_classes():
    labels = torch.tensor([[[[0, 1, 1, 255, 255]]]], dtype=torch.uint8)
    logits = torch.randn(1, 3, 1, 1, 5, dtype=torch.float64)
    p = logits.softmax(1)[0, 1, 0, 0, :3]
    dice = 2 * (p[1] + p[2]) / ((p * p).sum() + 2)  # class 2 is not labelled here
    assert torch.isclose(vnet_dice_loss(logits, labels), 1 - dice)


def test_fcn_loss_by_hand():
    """Roth 2018: (1/L) sum of w_l (-2 sum(p r) / (sum(p) + sum(r))), with background."""
    labels = torch.tensor([[[[0, 1, 1, 255]]]], dtype=torch.uint8)
    logits = torch.randn(1, 2, 1, 1, 4, dtype=torch.float64)
    p = logits.softmax(1)[0, :, 0, 0, :3]
    background = -2 * p[0, 0] / (p[0].sum() + 1)
    inside = -2 * (p[1, 1] + p[1, 2]) / (p[1].sum() + 2)
    assert torch.isclose(fcn_dice_loss(logits, labels), (background + inside) / 2)
    weighted = fcn_dice_loss(logits, labels, torch.tensor([1.0, 3.0]))
    assert torch.isclose(weighted, (background + 3 * inside) / 2)


class TestAgainstMonai:
    """MONAI has the same formulas for dense labels; a masked loss equals the dense one of the
    labelled voxels alone."""

    @pytest.fixture(params=[0.0, 0.7])
    def voxels(self, request):
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn((2, 3, 4, 5, 6), generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 3, (2, 4, 5, 6), generator=generator).to(torch.uint8)
        labels[torch.rand(labels.shape, generator=generator) < request.param] = 255
        known = labels != 255
        dense = logits.movedim(1, -1)[known].T[None, :, :, None, None]
        return logits, labels, dense, labels[known].long()[None, None, :, None, None]

    def monai(self, dense, truth, **settings):
        from monai.losses import DiceLoss

        return DiceLoss(softmax=True, to_onehot_y=True, batch=True, **settings)(dense, truth)

    def test_dice(self, voxels):
        logits, labels, dense, truth = voxels
        wanted = self.monai(dense, truth, include_background=False, smooth_nr=1.0, smooth_dr=1.0)
        assert torch.isclose(masked_dice_loss(logits, labels), wanted)

    def test_dice_with_squares(self, voxels):
        logits, labels, dense, truth = voxels
        wanted = self.monai(
            dense, truth, include_background=False, squared_pred=True, smooth_nr=0.0, smooth_dr=0.0
        )
        assert torch.isclose(vnet_dice_loss(logits, labels), wanted)

    def test_dice_of_all_classes(self, voxels):
        logits, labels, dense, truth = voxels
        wanted = self.monai(dense, truth, include_background=True, smooth_nr=0.0, smooth_dr=0.0)
        assert torch.isclose(fcn_dice_loss(logits, labels), wanted - 1)

    def test_dice_plus_weighted_cross_entropy(self, voxels):
        from monai.losses import DiceCELoss

        logits, labels, dense, truth = voxels
        wanted = DiceCELoss(
            softmax=True,
            to_onehot_y=True,
            batch=True,
            weight=WEIGHTS,
            include_background=True,
            smooth_nr=0.0,
            smooth_dr=0.0,
            lambda_dice=0.0,
        )(dense, truth)
        assert torch.isclose(masked_cross_entropy(logits, labels, WEIGHTS), wanted)

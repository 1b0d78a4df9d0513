"""Losses see labelled voxels alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from SparseSegNetLib.engine.losses import (
    auto_loss,
    balancing_weights,
    masked_cross_entropy,
    masked_dice_loss,
)

LOSSES = [masked_cross_entropy, masked_dice_loss, auto_loss]


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_an_unlabelled_voxel_changes_no_gradient(loss, seed, share):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 3, 4, 5), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 3, 4, 5), generator=generator).to(torch.uint8)
    unlabelled = torch.rand(labels.shape, generator=generator) < share
    labels[unlabelled] = 255

    def gradient(values):
        values = values.clone().requires_grad_()
        loss(values, labels).backward()
        return values.grad

    other = torch.where(unlabelled[:, None], 10 * torch.randn(logits.shape, generator=generator,
                                                              dtype=torch.float64), logits)
    first, second = gradient(logits), gradient(other)
    spread = unlabelled[:, None].expand_as(logits)
    assert (first[spread] == 0).all() and (second[spread] == 0).all()
    assert torch.equal(first[~spread], second[~spread])


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_labelled_gives_zero_and_no_nan(loss):
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
    assert torch.isclose(loss, torch.tensor(1 - 2 / 3.5).float(), atol=1e-6)


def test_a_perfect_prediction_costs_next_to_nothing():
    labels = torch.randint(0, 3, (1, 4, 4, 4)).to(torch.uint8)
    logits = 40.0 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1)
    assert auto_loss(logits, labels) < 1e-3

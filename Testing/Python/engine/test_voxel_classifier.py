"""Shallow models taught at once: each learns from its own groups, as if it were alone."""

import pytest
import torch

from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.voxel_classifier import ClassifierFitter, fastest_threads


def lessons(groups=3, voxels=1000):
    """Evidence per group, labels that a straight line cannot tell apart."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(voxels, 5, generator=generator) for _ in range(groups)]
    return features, [(e[:, 0] * e[:, 1] > 0).to(torch.uint8) for e in features]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_learns_and_repeats_itself(dtype):
    features, labels = lessons()
    grid = torch.randn(5, 10, 10, 10, generator=torch.Generator().manual_seed(1))
    truth = grid[0] * grid[1] > 0
    first, again = (
        ClassifierFitter(features, labels, 2, 0, dtype).fit([[0, 1, 2], [0, 2], [1]], 200)
        for _ in range(2)
    )
    for one, other in zip(first, again, strict=True):
        found = one.probabilities(grid)
        assert found.shape == (2, 10, 10, 10)
        assert torch.allclose(found.sum(dim=0), torch.ones(()), atol=1e-5)
        assert torch.equal(found, other.probabilities(grid))
        assert (found.argmax(dim=0) == truth).float().mean() > 0.93


def test_no_model_learns_from_a_group_that_it_is_not_to_use():
    features, labels = lessons()
    changed = [*labels[:2], 1 - labels[2]]
    before, after = (
        ClassifierFitter(features, given, 2, 0).fit([[0, 1, 2], [0, 1]], 50)
        for given in (labels, changed)
    )
    grid = features[0].T
    assert torch.equal(before[1].probabilities(grid), after[1].probabilities(grid))
    assert not torch.allclose(before[0].probabilities(grid), after[0].probabilities(grid), atol=0.1)


def test_a_step_is_that_of_torchs_own_layers_loss_and_optimiser(monkeypatch):
    """Against nn.Linear, CrossEntropyLoss and AdamW, for the second of two models."""
    features, labels = lessons(2, 40)
    labels[1][:5] = 2  # classes of unequal size
    shown = []

    def watched(layers, x):
        shown.append(x.detach()[1])
        return original(layers, x)

    original = voxel_classifier.forward
    monkeypatch.setattr(voxel_classifier, "forward", watched)
    monkeypatch.setattr(voxel_classifier, "NOISE", 0.0)
    fitter, steps = ClassifierFitter(features, labels, 3), 4
    begun, learnt = (fitter.fit([[0], [1]], n)[1] for n in (0, steps))
    linear = [torch.nn.Linear(*w.shape) for w, _ in begun.layers]
    for layer, (weight, bias) in zip(linear, begun.layers, strict=True):
        layer.load_state_dict({"weight": weight.T.clone(), "bias": bias[0].clone()})
    network = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1], torch.nn.ReLU(), linear[2])
    loss = torch.nn.CrossEntropyLoss(voxel_classifier.balancing_weights(labels[1], 3, 0.5))
    optimiser = torch.optim.AdamW(network.parameters())
    rows = fitter.rows[40:]
    for number, x in enumerate(shown):
        which = (x[:, None] == rows[None]).all(dim=2).float().argmax(dim=1)
        optimiser.zero_grad()
        loss(network(x), labels[1].long()[which]).backward()
        rate, beta = voxel_classifier.one_cycle(number, steps)
        optimiser.param_groups[0].update(lr=voxel_classifier.RATE * rate, betas=(beta, 0.999))
        optimiser.step()
    assert len(shown) == steps
    for layer, (weight, bias) in zip(linear, learnt.layers, strict=True):
        assert torch.allclose(layer.weight.T, weight, atol=1e-4)
        assert torch.allclose(layer.bias, bias[0], atol=1e-4)
        assert not torch.allclose(layer.weight.T, begun.layers[linear.index(layer)][0], atol=1e-3)


def test_layers_begin_as_torchs_own():
    features, labels = lessons(1, 40)
    (begun,) = ClassifierFitter(features, labels, 3).fit([[0]], 0)
    for weight, bias in begun.layers:
        theirs = torch.nn.Linear(*weight.shape)
        for mine, other in ((weight, theirs.weight), (bias, theirs.bias)):
            assert mine.abs().max() <= weight.shape[0] ** -0.5
            if mine.numel() > 50:
                assert mine.std() == pytest.approx(float(other.detach().std()), rel=0.3)


def test_of_many_voxels_some_of_every_group_are_drawn(monkeypatch):
    monkeypatch.setattr(voxel_classifier, "MOST_ROWS", 100)
    features, labels = zip(
        *[
            (torch.randn(n, 2), torch.full((n,), c, dtype=torch.uint8))
            for c, n in enumerate((1, 2, 5000, 200))
        ],
        strict=True,
    )
    fitter = ClassifierFitter(features, labels, 4)
    counted = torch.bincount(fitter.labels, minlength=4).tolist()
    assert counted[:2] == [1, 1] and 90 < sum(counted) <= 102 and counted[2] > 20 * counted[3]
    found = fitter.fit([[0], [1, 2]], 3)
    assert all(torch.isfinite(m.probabilities(torch.randn(2, 9))).all() for m in found)


@pytest.mark.parametrize(("voxels", "steps"), [(50, 100), (10_000, 585), (300_000, 1600)])
def test_steps_are_as_many_as_the_voxels_ask_for(voxels, steps):
    fitter = ClassifierFitter([torch.zeros(voxels, 1)], [torch.zeros(voxels, dtype=torch.uint8)], 2)
    assert fitter.steps == steps


def test_the_callers_random_numbers_are_untouched():
    features, labels = lessons()
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    ClassifierFitter(features, labels, 2).fit([[0]], 3)
    assert torch.equal(torch.rand(3), before)


def test_it_can_be_broken_off():
    def refuse():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ClassifierFitter(*lessons(), 2, check=refuse).fit([[0]], 1)


@pytest.mark.parametrize("best", [1, 2])
def test_as_many_threads_as_teach_fastest(best, monkeypatch):
    fitter, usual = ClassifierFitter(*lessons(), 2), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(
            fitter, "seconds_per_step", lambda models: float(torch.get_num_threads() != best)
        )
        with pytest.raises(KeyboardInterrupt), fastest_threads(fitter, 3) as pace:
            assert torch.get_num_threads() == best and pace == 0.0
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)

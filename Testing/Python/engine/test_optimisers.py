"""The optimiser beside torch's own, and what an engine's start must not bring along."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import SparseSegNetLib
from SparseSegNetLib.engine.compute.optimisers import AdamW
from SparseSegNetLib.engine.compute.schedules import one_cycle

STEPS, RATE = 47, 5e-3


def learnt(optimiser_of, before=lambda optimiser, number: None, after=lambda: None):
    """An optimiser that has moved a small network's weights for some steps."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(9, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))
    rows, labels = torch.randn(200, 9), torch.randint(3, (200,))
    optimiser = optimiser_of(network.parameters())
    for number in range(STEPS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(rows), labels).backward()
        before(optimiser, number)
        optimiser.step()
        after()
    return optimiser


def ours(weights):
    return AdamW(weights, RATE, weight_decay=0.1)


def theirs(weights):
    return torch.optim.AdamW(weights, RATE, weight_decay=0.1)


def weights_of(optimiser):
    return optimiser.param_groups[0]["params"]


def equal(one, other, **tolerance):
    return all(
        torch.allclose(a, b, **tolerance)
        for a, b in zip(weights_of(one), weights_of(other), strict=True)
    )


def test_as_torch_computes_it():
    assert equal(learnt(ours), learnt(theirs), rtol=0, atol=0)


def test_one_cycle_as_torch_computes_it():
    schedule = None

    def scheduled(weights):
        nonlocal schedule
        optimiser = theirs(weights)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
        return optimiser

    def cycled(optimiser, number):
        rate, beta = one_cycle(number, STEPS)
        optimiser.param_groups[0].update(lr=RATE * rate, betas=(beta, 0.999))

    assert equal(
        learnt(ours, before=cycled), learnt(scheduled, after=lambda: schedule.step()), atol=1e-6
    )


@pytest.mark.parametrize("kind", [ours, theirs])
def test_its_state_is_torchs_and_goes_on_to_the_bit(kind):
    first = learnt(ours)
    second = kind([torch.nn.Parameter(w.detach().clone()) for w in weights_of(first)])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimiser in (first, second):
        for weight in weights_of(optimiser):
            weight.grad = torch.ones_like(weight)
        optimiser.step()
    assert equal(first, second, rtol=0, atol=0)


def test_a_state_of_other_weights_is_refused():
    state = learnt(ours).state_dict()
    with pytest.raises(ValueError, match="another network"):
        ours([torch.nn.Parameter(torch.zeros(4))]).load_state_dict(state)


def test_learning_waits_for_neither_torchs_compiler_nor_simpleitk():
    program = """
import sys, torch
import SparseSegNetLib.engine.job
from SparseSegNetLib.engine.scoring.calibration import Calibration
from SparseSegNetLib.engine.stacking.out_of_fold import OutOfFold
from SparseSegNetLib.engine.stacking.voxel_classifier import ClassifierFitter
ClassifierFitter([torch.randn(50, 4)], [torch.randint(2, (50,)).byte()], 2).fit([[0]], 2)
drawn, found = torch.randint(2, (500,)).byte(), torch.rand(2, 500)
assert Calibration.fit(OutOfFold(drawn, found, drawn, found[0], drawn, [], [], 0)).level
print([name for name in ("torch._dynamo", "SimpleITK") if name in sys.modules])"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        cwd=Path(SparseSegNetLib.__file__).parents[1],
        check=True,
    )
    assert ended.stdout.strip() == "[]"

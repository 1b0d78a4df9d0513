"""Plans for cards of which only memory and speed are known: what fits, and pays within the time."""

import math
from dataclasses import replace

import pytest
import torch

from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning import auto_plan, probe, sizes
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.sizes import Measured
from SparseSegNetLib.runfolder.options import Options

SHAPE, CLASSES = (200, 220, 240), 9
FREE = 0.87  # of a card's memory, beside driver and desktop
PER_STEP, PER_TILE = 67, 25  # bytes per voxel and channel at the finest level, 16 bits (counted)
OPERATIONS = 1030  # per voxel and squared channels
BATCHES, WIDTHS = (
    {"cpu": (16**3, 32), "cuda": (48**3, 12)},
    ((32, 800), (24, 500), (16, 120), (8, 0)),
)


@pytest.fixture
def planned(monkeypatch):
    """Gives the plan for a card and a time, and all plans that were measured for it."""
    for name, value in BATCHES.items():
        monkeypatch.setitem(auto_plan.BATCHES, name, value)
    monkeypatch.setattr(probe, "WIDTHS", WIDTHS)
    monkeypatch.setattr(probe, "MIDDLE", 16)

    def planned(gigabytes, speed, seconds, kind="cuda", formats=("bfloat16",), shape=SHAPE):
        tried = []

        def measure(plan, volume, classes, check):
            tried.append(plan)
            half = 1 if plan.dtype != "float32" else 2
            voxels = plan.batch * math.prod(plan.patch)
            step = OPERATIONS * plan.width**2 * voxels / speed + 0.003
            known = kind == "cuda"
            return Measured(
                half * step,
                0.05,
                plan,
                known * half * PER_STEP * plan.width * voxels,
                known * half * PER_TILE * plan.width * math.prod(plan.tile),
            )

        monkeypatch.setattr(probe, "measure", measure)
        monkeypatch.setattr(probe, "free_memory", lambda device: FREE * gigabytes * 1e9)
        monkeypatch.setattr(probe, "candidate_formats", lambda device: list(formats))
        volume = WorkingVolume(
            torch.zeros(1, 1, 1, 1), torch.zeros(1).byte().expand(shape), None, shape
        )
        plan, _ = probe.choose_plan(
            Fingerprint(shape, (1.0, 1.0, 1.0), 1, CLASSES, 1000, 8),
            Options(),
            lambda grid: volume,
            torch.device(kind),
            seconds,
            shape,
        )
        return plan, tried

    return planned


def taken(plan):
    half = 1 if plan.dtype != "float32" else 2
    return half * PER_STEP * plan.width * plan.batch * math.prod(plan.patch)


@pytest.mark.parametrize("seconds", [10.0, 60.0, 600.0, 3600.0])
@pytest.mark.parametrize("speed", [2e12, 10e12, 50e12, 150e12])
@pytest.mark.parametrize("gigabytes", [2, 4, 8, 24, 80])
def test_what_is_planned_fits_and_pays(planned, gigabytes, speed, seconds):
    plan, tried = planned(gigabytes, speed, seconds)
    room = sizes.NETWORK_SHARE * FREE * gigabytes * 1e9
    assert taken(plan) <= room and plan.trainable
    assert PER_TILE * plan.width * math.prod(plan.tile) <= room
    # Half of the free memory is for the volume.
    assert taken(plan) + 0.5 * FREE * gigabytes * 1e9 < 0.8 * gigabytes * 1e9
    # The first, of the usual size, is measured whatever it takes; in it patches are made fewer.
    assert all(taken(p) <= room for p in tried[1:])
    steps = {size.width: size.steps for size in sizes.sizes_on("cuda", BATCHES["cuda"], WIDTHS)}
    assert seconds / plan.seconds_per_step >= (steps[plan.width] if plan.width > 8 else 0)
    assert len(tried) <= 4, "what is not worth its time is not measured"


@pytest.mark.parametrize("gigabytes", [2, 4, 8, 24, 80])
def test_more_time_and_a_faster_card_are_spent_on_larger_networks(planned, gigabytes):
    def work(speed, seconds):
        plan, _ = planned(gigabytes, speed, seconds)
        return plan.width, plan.batch * math.prod(plan.patch)

    for speed in (2e12, 10e12, 150e12):
        found = [work(speed, seconds) for seconds in (10.0, 60.0, 600.0, 3600.0)]
        assert found == sorted(found)
    if gigabytes >= 8:  # with less memory that is the limit
        assert work(150e12, 60.0) > work(10e12, 60.0)


def test_sizes_by_memory_in_an_hour(planned):
    found = {}
    for gigabytes in (4, 8, 24, 80):
        plan, _ = planned(gigabytes, 100e12, 3600.0)
        found[gigabytes] = plan.width, round(math.prod(plan.patch) ** (1 / 3)), plan.batch
    assert found == {4: (32, 48, 5), 8: (48, 48, 7), 24: (64, 64, 7), 80: (64, 80, 8)}


@pytest.mark.parametrize("speed", [5e12, 10e12])
def test_a_minute_on_a_slow_card_is_worth_more_than_ten_on_the_cpu(planned, speed):
    """More voxels and more operations; from 10 TFLOP/s, about an RTX 3060, as wide a network."""
    card, _ = planned(6, speed, 60.0)
    cpu, _ = planned(16, 0.13e12, 600.0, kind="cpu")
    voxels = [
        seconds / plan.seconds_per_step * plan.batch * math.prod(plan.patch)
        for plan, seconds in ((card, 60.0), (cpu, 600.0))
    ]
    assert voxels[0] > 5 * voxels[1]
    assert voxels[0] * card.width**2 > 2 * voxels[1] * cpu.width**2
    assert speed < 10e12 or card.width >= cpu.width


def test_the_cpu_plans_as_ever(planned):
    """Whatever its memory is said to be: how much is taken is not measured there."""
    for seconds, width in ((5.0, 8), (60.0, 16), (600.0, 24), (3600.0, 32)):
        for gigabytes in (1, 64):
            plan, _ = planned(gigabytes, 0.13e12, seconds, kind="cpu")
            assert (plan.width, plan.batch, plan.patch) == (width, 32, (16, 16, 16))


def test_in_float32_half_as_much_fits(planned):
    half, _ = planned(8, 10e12, 3600.0)
    whole, _ = planned(8, 20e12, 3600.0, formats=("float32",))
    assert whole.dtype == "float32" and taken(whole) <= sizes.NETWORK_SHARE * FREE * 8e9
    assert taken(half) / taken(whole) == pytest.approx(1, abs=0.2)
    assert whole.width < half.width or whole.batch < half.batch


def test_a_small_volume_is_one_patch(planned):
    plan, _ = planned(80, 150e12, 3600.0, shape=(34, 47, 40))
    assert all(p < n + d for p, n, d in zip(plan.patch, plan.shape, plan.divisor, strict=True))


@pytest.mark.parametrize(
    ("spacing", "shape"), [((1.0, 1.0, 1.0), (60, 64, 68)), ((5.0, 0.8, 0.8), (16, 90, 90))]
)
@pytest.mark.parametrize("width", [8, 16])
def test_memory_grows_with_channels_and_voxels(spacing, shape, width):
    """The rule by which larger sizes are judged, counted on what a forward pass keeps."""

    def kept(width, batch):
        plan = make_plan(Fingerprint(shape, spacing, 1, 3, 1000, 8), width=width)
        network = build(plan, 6, 3).train()
        weights = {tuple(p.shape) for p in network.parameters()}
        found = {}

        def pack(tensor):
            if tuple(tensor.shape) not in weights:
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = network(torch.zeros(batch, 6, *plan.patch))
        assert out.requires_grad
        return sum(found.values()), replace(plan, batch=batch)

    one, plan = kept(width, 2)
    measured = Measured(1.0, 1.0, plan, one, 0)
    for wider, batch in ((2 * width, 2), (width, 6)):
        other, planned = kept(wider, batch)
        assert sizes.fitted(planned, measured, 1.15 * other).batch == batch
        assert sizes.fitted(planned, measured, 0.85 * other) is None or batch > 4
    four, planned = kept(width, 4)
    fewer = sizes.fitted(replace(planned, batch=8), measured, 1.1 * four)
    assert fewer is not None and fewer.batch == 4

"""What there is time for on a CPU, and memory that is kept."""

import math
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from test_priors import ellipsoid, working

from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.compute import allocation
from SparseSegNetLib.engine.planning import feasibility

SHAPE, CUBES = (24, 28, 30), (1.0, 1.0, 1.0)
LARGE = (200, 200, 200)


@pytest.fixture
def made():
    """Makes a working volume for any shape, and remembers the shapes."""
    truth = ellipsoid(SHAPE)
    volume = working(truth, spread_slices((2, 2, 1), SHAPE, truth > 0))
    shapes = []

    def make(shape):
        shapes.append(shape)
        return volume

    make.shapes = shapes
    return make


@pytest.fixture
def seen(monkeypatch, made):
    """What is seen ahead where one suggestion of LARGE takes `once` seconds."""

    def look(once, left, grid=LARGE):
        share = math.prod(SHAPE) / math.prod(LARGE)

        def taken(action, _):
            action()
            return once * share

        monkeypatch.setattr(feasibility, "seconds_taken", taken)
        return feasibility.assess_feasibility(grid, CUBES, made, 3, left, lambda: None)

    return look


def test_with_time_enough_a_network_is_worth_its_probe(seen):
    assert seen(1.0, 120.0) == feasibility.Feasibility(LARGE, network=True)


def test_where_the_shallow_model_takes_the_time_there_is_no_network_but_the_whole_grid(seen):
    assert seen(3.0, 30.0) == feasibility.Feasibility(LARGE, network=False)


@pytest.mark.parametrize(("once", "left"), [(60.0, 30.0), (20.0, 8.0)])
def test_where_even_the_suggestions_take_too_long_the_grid_becomes_coarser(seen, once, left):
    found = seen(once, left)
    assert not found.network
    least = feasibility.FOR_A_RESULT if left > 10 else feasibility.FOR_PRIORS
    takes = least * once * math.prod(found.grid) / math.prod(LARGE)
    assert 0.7 * left < takes < left
    assert len(set(found.grid)) == 1


def test_a_small_volume_is_not_measured_where_time_is_short(made):
    found = feasibility.assess_feasibility((50, 60, 70), CUBES, made, 3, 8.0, lambda: None)
    assert found == feasibility.Feasibility((50, 60, 70), network=False) and not made.shapes


def test_it_is_measured_on_a_coarse_grid(seen, made):
    seen(1.0, 120.0)
    assert [math.prod(shape) <= feasibility.SAMPLED for shape in made.shapes] == [True]


def test_it_can_be_broken_off(made):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feasibility.assess_feasibility(LARGE, CUBES, made, 3, 120.0, check)


PROGRAM = """
import resource, sys, torch
if sys.argv[1] == "kept":
    from SparseSegNetLib.engine.compute.allocation import keep_freed_memory
    keep_freed_memory()
for _ in range(60):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(allocation.ctypes.CDLL(None), "mallopt"),
    reason="glibc alone maps large blocks anew each time",
)
def test_memory_of_a_tensor_is_kept_for_the_next_one():
    def faults(what):
        out = subprocess.run(
            [sys.executable, "-c", PROGRAM, what], capture_output=True, encoding="utf-8", check=True
        ).stdout
        return [int(n) for n in out.split()]

    kept, not_kept = faults("kept"), faults("not kept")
    assert sum(kept) < sum(not_kept) / 2


def test_systems_without_the_switch_do_without(monkeypatch):
    def missing(_):
        raise OSError("no such library")

    monkeypatch.setattr(allocation.ctypes, "CDLL", missing)
    allocation.keep_freed_memory()
    monkeypatch.setattr(allocation.sys, "platform", "win32")
    allocation.keep_freed_memory()

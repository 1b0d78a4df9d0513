"""Sums over the slices of a prediction: on coarse, fine and turned grids, away from slices."""

import math
import time

import numpy as np
import pytest
import torch
from phantom import nested
from test_priors import working

from SparseSegNetLib.annotation.composition import UNLABELLED, keep_drawn, restrict_to_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice, parse_slices
from SparseSegNetLib.engine.data.preprocessing import Normalisation, working_volume
from SparseSegNetLib.engine.interaction.commands import Commands
from SparseSegNetLib.engine.interaction.slice_sums import slice_sums
from SparseSegNetLib.engine.job import Job
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking.ensemble import disagreement
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (20, 24, 28)
SMALL = (12, 14, 16)


def case(slices, shape=SHAPE, working_shape=None, spacing=(1.0, 1.0, 1.0)):
    """A volume of a shell around a core, on a working grid, and its truth."""
    image, truth = nested(shape)
    grid = Geometry(tuple(reversed(shape)), spacing, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    drawn = parse_slices([slices])
    item = RunInput(image[None], restrict_to_slices(truth, drawn), grid, drawn)
    volume = working_volume(
        item, working_shape or shape, Normalisation.measure(item.image), torch.device("cpu")
    )
    return volume, truth


def even_probabilities(shape, classes=3):
    return torch.full((classes, *shape), 1 / classes)


class TestDisagreement:
    def test_none_where_all_say_the_same(self):
        one = torch.rand(3, 4, 5, 6).softmax(dim=0)
        found = disagreement(torch.stack((one, one, one)), torch.tensor((0.2, 0.3, 0.5)))
        assert found.shape == (4, 5, 6) and float(found.abs().max()) < 1e-3

    def test_two_sure_ways_that_contradict_each_other(self):
        every = torch.zeros(2, 2, 1, 1, 1)
        every[0, 0], every[1, 1] = 1, 1
        found = disagreement(every.half(), torch.tensor((1.0, 1.0)))
        assert float(found) == pytest.approx(math.log(2), abs=1e-3)

    def test_a_way_without_weight_does_not_count(self):
        every = torch.zeros(2, 2, 1, 1, 1)
        every[0, 0], every[1, 1] = 1, 1
        assert float(disagreement(every, torch.tensor((1.0, 0.0)))) == 0

    def test_where_the_mean_is_sure_it_does_not_count(self):
        every = torch.tensor([[0.995, 0.005], [0.999, 0.001]])[:, :, None, None, None]
        assert float(disagreement(every, torch.tensor((0.5, 0.5)))) == 0

    def test_in_blocks_as_at_once(self):
        every = torch.rand(4, 3, 37, 3, 2).softmax(dim=1)
        weights = torch.tensor((0.1, 0.2, 0.3, 0.4))
        parts = [disagreement(every[:, :, n : n + 1], weights) for n in range(37)]
        assert torch.equal(torch.cat(parts), disagreement(every, weights))


class TestSums:
    def test_entropy_of_each_slice(self):
        volume, truth = case("k:10")
        found = slice_sums(even_probabilities(SHAPE), None, volume, truth, (1, 1, 1))
        for axis, size in zip("kji", SHAPE, strict=True):
            voxels = math.prod(SHAPE) / size
            assert found.entropy(axis) == pytest.approx(voxels * math.log(3), rel=1e-5)

    def test_what_lies_near_a_slice_is_left_out(self):
        volume, truth = case("k:10 j:12")
        found = slice_sums(even_probabilities(SHAPE), None, volume, truth, (1, 1, 1))
        unsure = {axis: found.uncertainty(axis).sum(axis=0) for axis in "kji"}
        assert unsure["k"][10] == 0 and unsure["j"][12] == 0
        assert (unsure["k"][[5, 15]] > 0).all() and (unsure["i"] > 0).all()
        gone = SHAPE[2] * math.log(3) * np.count_nonzero(unsure["j"] == 0)
        assert unsure["k"][5] == pytest.approx(
            SHAPE[1] * SHAPE[2] * math.log(3) - gone, rel=1e-5
        ), "the lines near the other slice"

    def test_a_slice_annotated_in_part_explains_nothing_else(self):
        volume, truth = case("k:10")
        volume.labels[10, :12] = UNLABELLED
        found = slice_sums(even_probabilities(SHAPE), None, volume, truth, (1, 1, 1))
        assert (found.uncertainty("k").sum(axis=0) > 0).all()

    def test_for_the_likeliest_segment_also_where_background_is_likelier(self):
        volume, truth = case("k:10")
        probabilities = torch.zeros(3, *SHAPE)
        probabilities[0], probabilities[1], probabilities[2] = 0.6, 0.1, 0.3
        found = slice_sums(probabilities, torch.ones(SHAPE), volume, truth, (1, 1, 1))
        assert found.uncertainty("j")[0].sum() == 0 and found.uncertainty("j")[1].sum() > 0

    def test_disagreement_multiplies(self):
        volume, truth = case("k:10")
        differing = torch.zeros(SHAPE)
        differing[:, :, 7] = 2
        found = slice_sums(even_probabilities(SHAPE), differing, volume, truth, (1, 1, 1))
        alone = slice_sums(even_probabilities(SHAPE), None, volume, truth, (1, 1, 1))
        assert found.uncertainty("i")[:, 7] == pytest.approx(2 * alone.uncertainty("i")[:, 7])
        assert found.uncertainty("i").sum() == pytest.approx(found.uncertainty("i")[:, 7].sum())

    @pytest.mark.parametrize("shape", [(10, 12, 14), (20, 12, 28), (40, 24, 28)])
    def test_another_working_grid(self, shape):
        """Sums are those of the original grid, whatever grid was worked on."""
        volume, truth = case("k:10", working_shape=shape)
        ramp = torch.linspace(0.0, 1.0, shape[2]).expand(shape)
        found = slice_sums(even_probabilities(shape), ramp, volume, truth, (1, 1, 1))
        assert found.shape == SHAPE
        for axis, size in zip("kji", SHAPE, strict=True):
            voxels = math.prod(SHAPE) / size
            assert found.entropy(axis) == pytest.approx(voxels * math.log(3), rel=1e-4)
        along = found.uncertainty("i").sum(axis=0)
        assert (np.diff(along) >= 0).all() and along[-1] > 10 * along[0]
        assert found.areas("k")[:, 10].tolist() == [(truth[10] == n).sum() for n in (1, 2)]


@pytest.mark.usefixtures("small_training")
def test_of_a_stack():
    """Unsure between the slices, where the object is, and not at them."""
    truth = nested(SMALL)[1]
    slices = [AnnotatedSlice(*one) for one in (("k", 4), ("k", 8), ("j", 6), ("i", 8))]
    volume = working(truth, slices)
    stack = Stacker(PriorMaker(volume, 3)).stack(volume.labels, volume.slices)
    assert stack.disagreement.shape == SMALL and stack.disagreement.dtype == torch.float16
    found = prior_of(stack.target, 3)
    labels = keep_drawn(found.argmax(dim=0).numpy().astype(np.uint8), volume.labels.numpy())
    sums = slice_sums(found, stack.disagreement, volume, labels, (1, 1, 1))
    assert sums.fault() is None
    unsure = sums.uncertainty("k").sum(axis=0)
    assert unsure[[4, 8]].max() == 0 and unsure.argmax() not in (0, SMALL[0] - 1)
    assert sums.uncertainty("j").sum() == pytest.approx(unsure.sum(), rel=1e-4)


@pytest.mark.usefixtures("small_training")
def test_they_are_there_before_the_training_ends(tmp_path):
    """Written after stacking, and again with the result."""
    image, truth = nested(SMALL)
    drawn = parse_slices(["k:4,8 j:6 i:8"])
    grid = Geometry(SMALL[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    item = RunInput(image[None], restrict_to_slices(truth, drawn), grid, drawn)
    segments = [Segment.numbered(value, value - 1) for value in (1, 2)]
    options = Options(max_steps=2, device="cpu")
    folder = RunFolder.create(tmp_path / "run", [item], segments, options)
    early = []

    def emit(event, **data):
        if event == "metrics" and not early:
            early.append((folder.read_profiles(), folder.has_result()))

    Job(folder.path, Commands(), emit, time.monotonic()).run()
    ((first, ended),) = early
    assert first is not None and not ended and first.uncertainty("k").any()
    last = folder.read_profiles()
    counts = [(folder.read_result() == value).sum() for value in (1, 2)]
    assert last.areas("k").sum(axis=1).tolist() == counts
    assert not np.array_equal(first.array, last.array), "of the network's prediction too"

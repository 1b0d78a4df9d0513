"""A network that learns on patches read from a store: as in memory, bounded, resumed."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("zarr")

from phantom import nested
from small_models import geometry_of
from zarr_stores import write_store

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.data.lazy_sampling import KEPT_BATCHES, LazySampler
from SparseSegNetLib.engine.data.preprocessing import (
    Normalisation,
    reduce_labels,
    resampled,
    working_volume,
)
from SparseSegNetLib.engine.plan import Fingerprint, Strength
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.stacking.stack import Stack
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files import chunk_cache
from SparseSegNetLib.files.chunk_cache import ChunkCache
from SparseSegNetLib.files.open_stored import open_stored
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.prior_outputs import NO_FOLD, FoldPriors
from SparseSegNetLib.runfolder.run_input import RunInput
from SparseSegNetLib.tiles import fine_set, fine_training
from SparseSegNetLib.tiles.drawn_voxels import Blocks, DrawnVoxels, reduced
from SparseSegNetLib.tiles.fine_set import FineSet, held_fold
from SparseSegNetLib.tiles.fine_training import FineNetwork, FineTraining
from SparseSegNetLib.tiles.fine_volume import FineImage, FineVolume, FoldTable, enlarged
from SparseSegNetLib.tiles.region_labels import RegionLabels

CPU = torch.device("cpu")
SHAPE, CLASSES = (40, 36, 44), 3
IMAGE, TRUTH = nested(SHAPE, 3)
PLANES = (5, 12, 19, 26, 34)
NORMALISATION = Normalisation.measure(IMAGE[None])
EVERYTHING = 1000  # blocks


def labels_of(planes):
    labels = np.full(SHAPE, 255, np.uint8)
    for k in planes:
        labels[k] = TRUTH[k]
    return labels


def priors(coarse, seed):
    """Class probabilities float16 (classes, k, j, i) on a grid, unlike for each seed."""
    random = torch.Generator().manual_seed(seed)
    found = torch.rand((CLASSES, *coarse), generator=random).softmax(dim=0)
    return found.half().numpy()


class Case:
    """Five folds, each a plane, over a store; the priors on a grid of that shape."""

    def __init__(self, folder, coarse=SHAPE, cache=1e9):
        self.store = folder / "a.ome.zarr"
        if not self.store.exists():
            write_store(self.store, IMAGE)
        self.cache = ChunkCache(open_stored(self.store), 0, cache)
        blocks = Blocks(SHAPE, self.cache.block)
        labels = labels_of(PLANES)
        if not DrawnVoxels.written(folder / "drawn"):
            DrawnVoxels.write(folder / "drawn", blocks, box_of(labels))
        self.drawn = DrawnVoxels(folder / "drawn")
        self.fine = FineImage(self.cache, (0, 0, 0), SHAPE, (1.0, 1.0, 1.0), NORMALISATION)
        self.priors = [priors(coarse, n) for n in range(len(PLANES))]
        fold_of = np.full(coarse, NO_FOLD, np.uint8)
        for n, k in enumerate(PLANES):
            fold_of[k * coarse[0] // SHAPE[0]] = n
        self.table = FoldTable(
            self.drawn, FoldPriors(np.stack(self.priors)[:, 1:], fold_of, ()), CLASSES
        )
        self.volumes = [
            FineVolume(self.fine, prior[1:], self.table, n) for n, prior in enumerate(self.priors)
        ]
        fingerprint = Fingerprint(SHAPE, (1.0, 1.0, 1.0), 1, CLASSES, 900, 5)
        plan = make_plan(fingerprint, width=4)
        self.plan = replace(plan, batch=4, held_out_share=0.6)

    def set(self, holding_out=False, most_blocks=EVERYTHING):
        return FineSet(self.volumes, self.table, 0, holding_out, most_blocks)

    def trainer(self, **settings):
        return Trainer(self.plan, [], CLASSES, None, 0, training_set=self.set(**settings))


def box_of(labels):
    def read(low, high):
        return labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]

    return read


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(chunk_cache, "PIECE", 8)
    monkeypatch.setattr(chunk_cache, "FEWEST", 4)
    monkeypatch.setattr(fine_set, "SCORED_BOXES", 3)


def test_the_weights_of_a_training_in_memory(tmp_path, small_pieces):
    case = Case(tmp_path)
    item = RunInput(IMAGE[None], labels_of(PLANES), geometry_of(SHAPE))
    whole = working_volume(item, SHAPE, NORMALISATION, CPU)

    def with_prior(prior, planes):
        return replace(
            whole,
            image=torch.cat((whole.image, torch.from_numpy(prior[1:]).float())),
            labels=torch.from_numpy(labels_of(planes)),
            slices=[AnnotatedSlice("k", k) for k in planes],
        )

    folds = [with_prior(prior, [k]) for prior, k in zip(case.priors, PLANES, strict=True)]
    stack = Stack(folds, with_prior(case.priors[0], PLANES))
    in_memory = Trainer(case.plan, [], CLASSES, None, 0, stack)
    from_chunks = case.trainer()
    before = weights(in_memory).clone()
    assert torch.equal(before, weights(from_chunks))
    for _ in range(3):
        assert from_chunks.step(0.5) == pytest.approx(in_memory.step(0.5), abs=1e-4)
    # Coordinates are rounded to a few millionths of a voxel; training magnifies that.
    moved = (weights(in_memory) - before).norm()
    assert moved > 0.1 and (weights(in_memory) - weights(from_chunks)).norm() < 2e-3 * moved


def test_the_same_bits_whatever_the_cache_holds(tmp_path, small_pieces):
    found = []
    for cache in (1e9, 6 * 8**3 * 2):
        case = Case(tmp_path, cache=cache)
        trainer = case.trainer()
        for _ in range(2):
            trainer.step(0.5)
            assert case.cache.held <= cache
        found.append(weights(trainer))
    assert torch.equal(*found)


def test_few_blocks_at_a_time(tmp_path, monkeypatch):
    shape, patch = (32, 160, 160), (8, 8, 8)
    truth = np.zeros(shape, np.uint8)
    truth[:, 20:140, 20:140] = 1
    truth[:, 70:90, 70:90] = 2  # rare: in few blocks
    labels = np.full(shape, 255, np.uint8)
    labels[5], labels[20] = truth[5], truth[20]
    store = open_stored(write_store(tmp_path / "b.ome.zarr", labels, chunks=(16, 16, 16)))
    monkeypatch.setattr(chunk_cache, "PIECE", 16)
    plan = make_plan(Fingerprint(shape, (1.0, 1.0, 1.0), 1, CLASSES, 900, 5), width=4)
    plan = replace(plan, patch=patch, strength=Strength.none())
    rates, seen = [], set()
    drawn = DrawnVoxels.write(tmp_path / "d", Blocks(shape, (16, 16, 16)), box_of(labels))
    folds = FoldPriors(np.zeros((1, 2, 1, 1, 1)), np.zeros((1, 1, 1), np.uint8), ())
    for most in (EVERYTHING, 6):
        cache = ChunkCache(store, 0, 40 * 16**3)
        fine = FineImage(cache, (0, 0, 0), shape, (1.0, 1.0, 1.0), NORMALISATION)
        volume = FineVolume(fine, folds.priors[0], FoldTable(drawn, folds, CLASSES), 0)
        random = torch.Generator().manual_seed(0)
        sampler = LazySampler([volume], CLASSES, plan, random, most, 0)
        for _ in range(3 * KEPT_BATCHES):
            sampler.batch(8)
            assert len(sampler.window) <= most and len(sampler._index[0]) == CLASSES
            seen |= sampler.window if most == 6 else set()
        rates.append(cache.hit_rate)
    assert rates[1] > 0.8 > 0.5 > rates[0]
    assert len(seen) > 6  # others take their turn


def test_a_fold_that_is_held_out(tmp_path, small_pieces):
    case = Case(tmp_path, coarse=(20, 18, 22))
    trainer = case.trainer(holding_out=True)
    held = trainer.split.number
    assert held == held_fold(case.table.counts.sum(axis=2), 0)
    assert case.volumes[held] not in trainer.training_set.training_volumes()
    scores = trainer.score_held_out()
    assert len(scores) == 2 and all(row["voxels"] for row in scores)
    assert 0 <= trainer.network_share <= 1
    trainer.end_held_out()
    assert case.volumes[held] in trainer.sampler.volumes
    assert held_fold(np.array([[5, 1], [5, 1]]), 0) is None
    assert held_fold(np.array([[5, 0], [5, 1], [5, 0]]), 0) is None


class TestInterrupted:
    """Nothing but the steps since the last checkpoint is lost."""

    def training(self, case, folder, monkeypatch):
        monkeypatch.setattr(fine_training, "CHECKPOINT_EVERY", 1e9)
        options, found = Options(max_steps=4), case.set(True)
        return FineTraining(found, case.plan, CLASSES, (), options, folder, 1.0)

    def test_resumed_it_takes_the_steps_it_would_have_taken(
        self, tmp_path, small_pieces, monkeypatch
    ):
        case = Case(tmp_path)
        whole = self.training(case, tmp_path / "whole", monkeypatch)
        network = whole.train()
        begun, steps = self.training(case, tmp_path / "begun", monkeypatch), []

        def stop(share):
            steps.append(share)
            if len(steps) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            begun.train(stop)
        again = self.training(case, tmp_path / "begun", monkeypatch)
        assert again.trainer.steps == 2
        resumed = again.train()
        assert again.trainer.steps == 4 and resumed.share == network.share
        for name, value in network.network.state_dict().items():
            assert torch.equal(value, resumed.network.state_dict()[name]), name

    def test_a_chunk_that_cannot_be_read(self, tmp_path, small_pieces, monkeypatch):
        case = Case(tmp_path, cache=60 * 8**3 * 2)
        training, chunks = self.training(case, tmp_path / "t", monkeypatch), {}

        def damage(share):
            for file in (case.store / "0" / "c").rglob("*"):
                if file.is_file():
                    chunks[file] = file.read_bytes()
                    file.write_bytes(b"no chunk")

        with pytest.raises(InputError, match=r"the chunk .* cannot be read") as error:
            training.train(damage)
        assert "learnt 1 steps" in str(error.value)
        with pytest.raises(InputError, match="learnt 1 steps"):
            self.training(case, tmp_path / "t", monkeypatch).train()
        for file, content in chunks.items():
            file.write_bytes(content)
        assert self.training(case, tmp_path / "t", monkeypatch).train() is not None


def test_voxels_that_are_not_finite(tmp_path, small_pieces):
    case = Case(tmp_path)
    image = IMAGE.astype(np.float32)
    image[3, 4, 5] = np.nan
    cache = ChunkCache(open_stored(write_store(tmp_path / "n.ome.zarr", image)), 0, 1e9)
    fine = replace(case.fine, cache=cache)
    with pytest.raises(InputError, match=r"box 0:8,0:8,0:8 of level 0 .* 1 voxels"):
        fine.read((0, 0, 0), (8, 8, 8))
    fine = replace(fine, replace_nonfinite=True)
    assert np.isfinite(fine.read((0, 0, 0), (8, 8, 8))).all()


class TestLabelsOfTiles:
    """Tile by tile they are what they are at once, and probabilities are enlarged, not labels."""

    @pytest.mark.parametrize("network", [False, True])
    def test_in_parts_as_at_once(self, tmp_path, small_pieces, network):
        case = Case(tmp_path, coarse=(20, 18, 22))
        fine = None
        if network:
            trainer = case.trainer()
            for _ in range(3):
                trainer.step(0.5)
            fine = FineNetwork(trainer.average, trainer.plan, 0.7)
            fine.save(tmp_path / "n.safetensors")
            fine = FineNetwork.load(tmp_path / "n.safetensors", 3, CLASSES, CPU)
        volume = FineVolume(case.fine, case.priors[1][1:])
        region = RegionLabels(SHAPE, None, case.priors[1], volume, fine)
        whole = region.labels((0, 0, 0), SHAPE)
        alone = resampled(torch.from_numpy(case.priors[1]).float(), SHAPE).argmax(dim=0).numpy()
        assert (whole == alone).all() != network
        assert region.tile((16, 16, 16), 0) == (16, 16, 16)
        assert region.tile((16, 16, 16), 2e6) == (32, 16, 16)
        assert region.tile((16, 16, 16), 1e9) == (48, 48, 48)
        for low, high in [((0, 0, 0), (16, 16, 16)), ((16, 16, 16), (32, 32, 44))]:
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            assert (region.labels(low, high) == whole[box]).all()

    def test_on_a_level_finer_than_the_networks(self, tmp_path, small_pieces):
        case = Case(tmp_path, coarse=(20, 18, 22))
        fine = FineNetwork(case.trainer().average, case.plan, 1.0)
        volume, double = FineVolume(case.fine, case.priors[1][1:]), tuple(2 * n for n in SHAPE)
        region = RegionLabels(double, None, case.priors[1], volume, fine)
        # An untrained network leaves the prior as it is; enlarged twice it is a little smoother.
        found = region.labels((10, 10, 10), (40, 40, 40))
        once = enlarged(case.priors[1], SHAPE, (0, 0, 0), SHAPE)
        expected = resampled(once, double).argmax(dim=0).numpy()[10:40, 10:40, 10:40]
        assert (found == expected).mean() > 0.999

    def test_a_damaged_network(self, tmp_path):
        (tmp_path / "n.safetensors").write_bytes(b"nothing")
        with pytest.raises(InputError, match="trains the network again"):
            FineNetwork.load(tmp_path / "n.safetensors", 3, CLASSES, CPU)


class TestDrawnVoxels:
    """What is drawn, kept sparse."""

    def test_boxes_and_coarser_grids(self, tmp_path):
        labels = labels_of(PLANES)
        labels[:, 7, 3:9] = TRUTH[:, 7, 3:9]
        blocks = Blocks(SHAPE, (16, 10, 64), (3, 0, 5))
        drawn = DrawnVoxels.write(tmp_path / "d", blocks, box_of(labels))
        assert drawn.count == (labels != 255).sum() and drawn.blocks == blocks
        for low, high in [((0, 0, 0), SHAPE), ((4, 9, 1), (6, 31, 44)), ((6, 8, 10), (11, 9, 20))]:
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            assert (drawn.box(low, high) == labels[box]).all()
        for coarse in ((20, 18, 22), (13, 36, 9)):
            expected = reduce_labels(labels, coarse)
            assert (reduced(drawn, coarse, (0, 0, 0), coarse) == expected).all()
            assert (reduced(drawn, coarse, (3, 4, 5), (9, 12, 8)) == expected[3:9, 4:12, 5:8]).all()

    def test_damaged(self, tmp_path):
        folder = tmp_path / "d"
        DrawnVoxels.write(folder, Blocks(SHAPE, (16, 16, 16)), box_of(labels_of(PLANES)))
        content = (folder / "places.u4").read_bytes()
        (folder / "places.u4").write_bytes(content[:-4])
        with pytest.raises(InputError, match=r"places\.u4 is damaged"):
            DrawnVoxels(folder)
        (folder / "places.u4").write_bytes(content)
        DrawnVoxels(folder).check(SHAPE, 2)
        for shape, segments in (((1, 2, 3), 2), (SHAPE, 1)):
            with pytest.raises(InputError, match="not those of this run"):
                DrawnVoxels(folder).check(shape, segments)
        (folder / "places.u4").write_bytes(b"\xff" * len(content))
        with pytest.raises(InputError, match="are damaged"):
            DrawnVoxels(folder).box((0, 0, 0), SHAPE)

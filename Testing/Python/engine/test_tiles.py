"""Volumes segmented tile by tile: the same labels as in memory, and tiles that can be resumed."""

import pickle
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("zarr")

from phantom import nested
from small_models import geometry_of, small_model
from zarr_stores import write_store

from SparseSegNetLib.annotation.orientation import Turn, orientation_of
from SparseSegNetLib.engine.data.preprocessing import Part, resampled, working_volume
from SparseSegNetLib.engine.data.windows import applied, boxed, interpolation
from SparseSegNetLib.engine.prediction.inference import Predictor, finish
from SparseSegNetLib.engine.prediction.model import grid_of
from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.files.open_stored import open_stored
from SparseSegNetLib.runfolder.run_input import RunInput
from SparseSegNetLib.tiles import segment_tile as tile_function
from SparseSegNetLib.tiles import whole_volume
from SparseSegNetLib.tiles.segmenting import begin
from SparseSegNetLib.tiles.tile_list import parse_region, tiles_of

CPU = torch.device("cpu")
SHAPE = (20, 26, 34)


@cache
def fitted(network, shallow):
    return small_model(network, shallow)


def in_memory(model, image, spacing=1.0):
    """Labels as `segment` makes them of an image in memory."""
    geometry = geometry_of(SHAPE, (spacing,) * 3)
    turn = Turn.between(orientation_of(geometry), model.description.orientation)
    empty = np.full(SHAPE, 255, np.uint8)
    item = RunInput(turn.array(image[None]), turn.array(empty), turn.geometry(geometry))
    normalised = model.intensities.normalisation_of(item.image).apply(item.image)
    grid = grid_of(item.labels.shape, item.geometry.spacing_kji, model.spacing)
    volume = working_volume(item, grid, model.intensities.matched(normalised), CPU)
    labels, _ = finish(model.probabilities(volume), item.labels.shape)
    return turn.back(labels.numpy())


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A function that begins a segmentation of a phantom by tiles of 16 voxels."""
    monkeypatch.setattr(ngff_labels, "CHUNK", 16)
    image, _ = nested(SHAPE, 3)

    def make(model, spacing=1.0, **settings):
        model.save(tmp_path / "m.safetensors")
        store = tmp_path / "a.ome.zarr"
        if not store.exists():
            write_store(store, image, spacing=(spacing,) * 3)
        settings = {"memory": 0.0, "accept": ("spacing",), **settings}
        output = tmp_path / "out.ome.zarr"
        return begin(tmp_path / "m.safetensors", open_stored(store), output, **settings)

    return make, image


@pytest.mark.parametrize(
    ("kind", "spacing", "orientation"),
    [
        (("auto", False), 1.0, "LPS"),
        ((None, True), 1.0, "SAR"),
        (("auto", True), 0.8, "LPS"),
        ((None, True), 1.3, "LPS"),
    ],
)
def test_labels_are_those_of_the_volume_in_memory(case, kind, spacing, orientation):
    make, image = case
    model = fitted(*kind)
    model = replace(model, description=replace(model.description, orientation=orientation))
    work = make(model, spacing)
    assert len(work.tiles) == 12 and work.tiles[0].high == (16, 16, 16)
    for tile in reversed(work.tiles):
        work.compute(tile)
    expected = in_memory(model, image, spacing)
    assert len(np.unique(expected)) > 1
    assert (work.store.array()[:] == expected).all()


def test_a_network_on_slices_and_valid_convolutions_predict_parts_of_a_whole():
    """Through the parts alone: their published tiles take seconds."""
    usual = replace(fitted("auto", False).plan, strides=())
    for plan in (
        replace(usual, tile=(1, 8, 8)),
        replace(usual, tile=(10, 10, 10), margin=(1, 1, 1), mirror=True),
    ):
        planar = plan.tile[0] == 1
        plan = replace(plan, strength=replace(plan.strength, planar=planar), overlap=0.3)
        kernel, padding = ((1, 3, 3), (0, 1, 1)) if planar else (3, 0)
        torch.manual_seed(0)
        predictor = Predictor(torch.nn.Conv3d(1, 3, kernel, padding=padding), 3, plan)
        item = RunInput(np.zeros((1, *SHAPE)), np.zeros(SHAPE, np.uint8), geometry_of(SHAPE))
        volume = working_volume(item, SHAPE, np.float32(nested(SHAPE)[0])[None] / 100, CPU)
        expected = predictor.probabilities(volume)
        low, high = (3, 5, 17), (9, 20, 30)
        first, last = predictor.reach(SHAPE, low, high)
        assert first != (0, 0, 0) or last != SHAPE
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        part = replace(
            volume,
            image=volume.image[(slice(None), *box)],
            labels=volume.labels[box],
            part=Part(first, SHAPE),
        )
        wanted = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        found = predictor.within_whole(part, low, high)
        assert torch.equal(found, expected[(slice(None), *wanted)])


@pytest.mark.parametrize("grid", [(20, 26, 34), (13, 26, 40), (25, 40, 11)])
def test_parts_are_resampled_as_the_whole(grid):
    whole = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(0))
    low, high = (3, 5, 2), (11, 24, 10)
    first, last, weights = boxed(low, high, SHAPE, grid)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    wanted = (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
    found = applied(whole[(slice(None), *box)], weights)
    assert torch.allclose(found, resampled(whole, grid)[wanted], atol=1e-5)
    first, last, weights = boxed(low, high, SHAPE, grid, interpolation)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    found = applied(whole[(slice(None), *box)], weights)
    linear = torch.nn.functional.interpolate(whole[None], size=grid, mode="trilinear")[0]
    assert torch.allclose(found, linear[wanted], atol=1e-5)


def test_goes_on_with_the_tiles_that_are_not_done(case, monkeypatch):
    make, _ = case
    model = fitted(None, True)
    work = make(model)
    for tile in work.tiles[:2]:
        work.compute(tile)
    with work.done.path.open("a") as file:
        file.write("7")  # a line that was cut off
    again = make(model, resume=True)
    assert [tile.number for tile in again.waiting] == list(range(2, 12))
    assert again.whole == work.whole
    again.compute(again.waiting[0])
    assert work.done.path.read_text(encoding="utf-8").split("\n")[1:] == ["0", "1", "2", ""]
    with pytest.raises(InputError, match=r"another --region \(None"):
        make(model, resume=True, region=parse_region("0:9,:,:", SHAPE))

    def full(*arguments):
        raise OSError(28, "No space left on device", "c/0/0/0")

    monkeypatch.setattr(ngff_labels.LabelStore, "write", full)
    with pytest.raises(EngineError, match="tiles that are done stay") as caught:
        again.compute(again.waiting[0])
    assert caught.value.code == "disk-full" and again.done.done == {0, 1, 2}
    shutil.rmtree(work.store.path)  # as if it had ended before the store was made
    assert make(model, resume=True).waiting == work.tiles
    assert make(model, resume=True).waiting == work.tiles, "what was noted is forgotten"
    with pytest.raises(InputError, match="exists already"):
        make(model)


def test_where_memory_runs_out_tiles_become_smaller_and_it_is_said(case, monkeypatch):
    make, _ = case
    said, real = [], tile_function.predict_tile
    work = make(fitted("auto", False), tell=said.append)
    before = tile_function.load_model(work.model, "cpu").plan.tile

    def short(image, model, *arguments):
        if model.plan.tile == before:
            raise MemoryError
        return real(image, model, *arguments)

    monkeypatch.setattr(tile_function, "predict_tile", short)
    work.compute(work.tiles[0])
    assert said[-1].startswith("memory ran out: the network now works on tiles of")

    def never(*arguments):
        raise MemoryError

    monkeypatch.setattr(tile_function, "predict_tile", never)
    with pytest.raises(EngineError, match="begin again with a smaller --memory") as caught:
        work.compute(work.tiles[1])
    assert caught.value.code == "out-of-memory" and work.done.done == {0}


def test_another_process_needs_the_arguments_alone(case, tmp_path):
    make, image = case
    model = fitted("auto", False)
    work = make(model, region=parse_region("2:18,:,20:", SHAPE))
    packed = pickle.dumps([work.image, work.tiles, work.store, work.whole])
    volume, tiles, store, whole = pickle.loads(packed)
    for tile in tiles:
        tile_function.segment_tile(str(work.model), volume, tile, store, whole)
        work.finished(tile)
    work.complete()
    found = open_stored(tmp_path / "out.ome.zarr").read((0, 0, 0), SHAPE)[0]
    inside = np.zeros(SHAPE, bool)
    inside[2:18, :, 20:] = True
    assert (found == np.where(inside, in_memory(model, image), 0)).all()
    assert not work.done.path.exists()


def test_a_larger_volume_is_measured_on_a_sample(case, tmp_path, monkeypatch):
    make, image = case
    model = fitted(None, True)
    exact = make(model).whole
    monkeypatch.setattr(whole_volume, "EXACT", 1000)
    monkeypatch.setattr(whole_volume, "BLOCKS", 24)
    found = whole_volume.measure(open_stored(tmp_path / "a.ome.zarr"), model, (0,))
    assert exact.exact and not found.exact
    assert found.normalisation.mean[0] == pytest.approx(image.mean(), rel=0.1)
    for own, other in zip(found.usual, exact.usual, strict=True):
        assert own == pytest.approx(other, rel=0.2)


def test_tiles_lie_at_multiples_of_their_size():
    tiles = tiles_of((20, 30, 40), (16, 16, 16), ((3, 0, 30), (18, 16, 40)))
    assert [(tile.number, tile.low, tile.high) for tile in tiles] == [
        (1, (3, 0, 30), (16, 16, 32)),
        (2, (3, 0, 32), (16, 16, 40)),
        (7, (16, 0, 30), (18, 16, 32)),
        (8, (16, 0, 32), (18, 16, 40)),
    ]
    assert len(tiles_of((20, 30, 40), (16, 16, 16))) == 12


@pytest.mark.parametrize("text", ["0:5", "a:b,:,:", "5:5,:,:", "0:21,:,:", "-1:3,:,:", ":,:,:,:"])
def test_a_region_lies_in_the_volume(text):
    with pytest.raises(InputError, match=r"--region .* within 0:20,0:26,0:34"):
        parse_region(text, SHAPE)

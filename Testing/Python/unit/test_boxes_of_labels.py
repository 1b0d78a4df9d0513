"""Chunks in a bounded cache, drawn voxels kept sparse, and labels that are read box by box."""

import numpy as np
import pytest

pytest.importorskip("zarr")
from phantom import nested
from zarr_stores import write_store

from SparseSegNetLib.annotation.slices import parse_slices
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files import chunk_cache
from SparseSegNetLib.files.chunk_cache import ChunkCache
from SparseSegNetLib.files.label_boxes import LabelBoxes
from SparseSegNetLib.files.label_region import LabelSource
from SparseSegNetLib.files.labels import Reading
from SparseSegNetLib.files.open_stored import open_stored

SHAPE = (20, 26, 34)
IMAGE, TRUTH = nested(SHAPE, 3)


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "PIECE", 8)
    return open_stored(write_store(tmp_path / "a.ome.zarr", IMAGE))


class TestCache:
    def test_boxes_within_its_bytes(self, image):
        cache, random = ChunkCache(image, 0, 5 * 8**3 * 2 * 4), np.random.default_rng(0)
        assert cache.block == (8, 8, 8)
        for _ in range(60):
            low = [int(random.integers(0, n)) for n in SHAPE]
            size = [int(random.integers(1, 12)) for _ in SHAPE]
            high = [min(n, a + s) for a, s, n in zip(low, size, SHAPE, strict=True)]
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            assert (cache.read(low, high)[0] == IMAGE[box]).all()
            assert cache.held <= cache.most
        assert cache.found and cache.read_in > 60

    def test_what_was_used_last_stays(self, image):
        cache = ChunkCache(image, 0, 16 * 8**3 * 2)
        places = [(0, 8 * j, 8 * i) for j in range(3) for i in range(4)]
        for low in places:
            cache.read(low, [a + 1 for a in low])
        assert (cache.found, cache.read_in) == (0, 12)
        for low in [*places, *places]:
            cache.read(low, [a + 1 for a in low])
        assert (cache.found, cache.read_in) == (24, 12) and cache.hit_rate == pytest.approx(2 / 3)
        for k in (8, 16):  # eight more: the four that were used longest ago make room
            for low in places[:2]:
                cache.read((k, *low[1:]), (k + 1, *(a + 1 for a in low[1:])))
        cache.read(places[-1], [a + 1 for a in places[-1]])
        assert cache.read_in == 16

    def test_large_chunks_are_divided_and_small_ones_joined(self, tmp_path, monkeypatch):
        store = write_store(tmp_path / "b.ome.zarr", IMAGE, chunks=(20, 26, 34))
        monkeypatch.setattr(chunk_cache, "PIECE", 16)
        volume = open_stored(store)
        assert ChunkCache(volume, 0, 1e6).block == SHAPE
        assert ChunkCache(volume, 0, 1e5).block == (16, 16, 16)
        small = open_stored(write_store(tmp_path / "c.ome.zarr", IMAGE, chunks=(4, 8, 40)))
        assert ChunkCache(small, 0, 1e6).block == (16, 16, 34)


REGION = ((2, 1, 0), (18, 26, 31))


class TestLabels:
    """Read in parts they are what they are when they are read at once."""

    def boxes(self, path, reading, room):
        source = LabelSource(path, open_stored(path).geometry, reading)
        return LabelBoxes(source, REGION, room)

    @pytest.mark.parametrize("slices", [None, "k:3,9 j:12"])
    def test_as_at_once(self, tmp_path, slices):
        labels = np.full(SHAPE, 255, np.uint8)
        labels[9], labels[:, 12] = TRUTH[9] * 7, TRUTH[:, 12] * 7
        properties = [{"label-value": 7, "name": "Shell"}]
        more = {"image-label": {"colors": [], "properties": properties}}
        path = write_store(tmp_path / "l.ome.zarr", labels, more=more)
        reading = Reading(None, parse_slices(slices.split()) if slices else None)
        whole, parts = self.boxes(path, reading, 1e9), self.boxes(path, reading, 0)
        assert whole.segments == parts.segments and parts.segments[0].name == "Shell"
        assert whole.slices and parts.slices == (whole.slices if slices else None)
        for low, high in [((0, 0, 0), (16, 25, 31)), ((5, 3, 8), (9, 20, 9))]:
            assert (whole.read(low, high) == parts.read(low, high)).all()
        assert set(np.unique(parts.read((0, 0, 0), (16, 25, 31)))) == {0, 1, 2, 255}

    def test_chunks_that_are_not_stored(self, tmp_path):
        labels = np.full(SHAPE, 255, np.uint8)
        labels[3, 8:, 8:] = TRUTH[3, 8:, 8:]
        path = write_store(tmp_path / "l.ome.zarr", labels, fill=255)
        whole, parts = self.boxes(path, Reading(), 1e9), self.boxes(path, Reading(), 0)
        everything = (0, 0, 0), (16, 25, 31)
        assert (whole.read(*everything) == parts.read(*everything)).all()
        assert parts.anything((0, 7, 8), (1, 8, 9)) and not parts.anything((0, 0, 0), (6, 7, 8))
        path = write_store(tmp_path / "z.ome.zarr", np.where(labels == 1, labels, 0))
        with pytest.raises(InputError, match="give --unlabelled 0 if nothing was drawn"):
            self.boxes(path, Reading(), 0)

    def test_what_cannot_be_read_in_parts(self, tmp_path):
        path = write_store(tmp_path / "l.ome.zarr", np.where(TRUTH == 1, TRUTH, 0))
        with pytest.raises(InputError, match="do not fit the memory"):  # 0 depends on its slices
            self.boxes(path, Reading(0, parse_slices(["k:3"])), 0)
        assert self.boxes(path, Reading(0, parse_slices(["k:3"])), 1e9).slices

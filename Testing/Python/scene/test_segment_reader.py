"""Only what changed of a segmentation is read again: the labels are those of reading everything."""

import numpy as np
import pytest
import slicer.util

from SparseSegNetLib.annotation import layer_memory
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.layers import Layer, overlaps_of
from SparseSegNetLib.annotation.strokes import box_of
from SparseSegNetLib.scene.paint_observer import PaintObserver
from SparseSegNetLib.scene.segmentations import mergedSegments, orderedSegments

SHAPE = (12, 16, 24)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def balls(*centres):
    grid = np.indices(SHAPE)
    return [sum((x - c) ** 2 for x, c in zip(grid, centre, strict=True)) < 30 for centre in centres]


def whole(node, volume):
    ids = orderedSegments(node.GetSegmentation())
    return mergedSegments(node.GetSegmentation(), ids, volume)


@pytest.fixture
def watched(makeVolume, makeSegmentation, monkeypatch):
    """A volume, a segmentation of two layers with overlaps, its observer, and the boxes read."""
    volume = makeVolume(np.zeros(SHAPE, np.int16))
    one, two, three = balls((5, 6, 7), (6, 8, 12), (6, 8, 13))
    node = makeSegmentation(volume, {"A": one, "B": two & ~one, "C": three})
    boxes, comparing = [], layer_memory.LayerMemory.comparing

    def spied(self, read):
        boxes.append((yield from comparing(self, read)))
        return boxes[-1]

    monkeypatch.setattr(layer_memory.LayerMemory, "comparing", spied)
    return volume, node, PaintObserver(node, volume), boxes


def paint(node, volume, segmentId, where, value):
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
    array = np.zeros(SHAPE, np.uint8) if array is None else np.array(array)
    array[where] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentId, volume)


def test_any_strokes(watched):
    volume, node, observer, boxes = watched
    random = np.random.default_rng(0)
    ids = list(node.GetSegmentation().GetSegmentIDs())
    for _ in range(40):
        low = [int(random.integers(0, n - 2)) for n in SHAPE]
        size = [int(random.integers(1, 6)) for _ in SHAPE]
        where = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        before = observer.labels.copy()
        paint(node, volume, ids[random.integers(len(ids))], where, int(random.integers(2)))
        change = observer.look()
        expected = whole(node, volume)
        assert np.array_equal(observer.labels, expected)
        different = before != expected
        if change is None:
            assert not different.any()
            continue
        found = np.zeros(SHAPE, bool)
        ends = zip(change.offset, change.changed.shape, strict=True)
        found[tuple(slice(a, a + n) for a, n in ends)] = change.changed
        assert np.array_equal(found, different)
    parts = [box for box in boxes if box is not None]
    assert len(parts) >= 20, "most strokes are read by themselves"


def test_what_is_written_in_place(watched):
    volume, node, observer, boxes = watched
    segmentation = node.GetSegmentation()
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "A")
    array[array == segmentation.GetSegment("A").GetLabelValue()] = 0
    segmentation.GetSegment("A").Modified()
    change = observer.look()
    assert change is not None and not change.added.any()
    assert np.array_equal(observer.labels, whole(node, volume)) and boxes[-1] is not None
    assert observer.look() is None


def test_a_name_can_change_the_order(watched):
    volume, node, observer, _ = watched
    before = observer.labels.copy()
    node.GetSegmentation().GetSegment("C").SetName("Background")
    observer.look()
    assert np.array_equal(observer.labels, whole(node, volume))
    assert not np.array_equal(before, observer.labels)


def test_a_segment_that_comes_to_lie_in_another(watched):
    """It is laid over the larger one then, and no longer when it leaves it."""
    volume, node, observer, _ = watched
    paint(node, volume, "B", np.s_[...], 0)
    for place in (np.s_[2:4, 2:4, 2:4], np.s_[5:7, 6:8, 7:9]):
        paint(node, volume, "B", place, 1)
        observer.look()
        assert np.array_equal(observer.labels, whole(node, volume))


def layer(values, start):
    """A layer whose first voxel is `start` (k, j, i) of a grid of SHAPE."""
    i, j, k = (float(n) for n in reversed(start))
    size = tuple(reversed(values.shape))
    return Layer(values, Geometry(size, (1.0, 1.0, 1.0), (i, j, k), AXIAL), {1: 1})


def test_a_layer_that_grows_shrinks_or_moves():
    """Where it was not it was empty: only what is new, or gone, changes."""
    grid = Geometry(tuple(reversed(SHAPE)), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), AXIAL)
    random = np.random.default_rng(2)
    labels = (random.random(SHAPE) < 0.3).astype(np.uint8)
    shown = np.zeros(SHAPE, np.uint8)
    memory = None
    for low, high in (
        ((2, 3, 4), (6, 9, 12)),
        ((1, 3, 0), (9, 9, 24)),
        ((4, 5, 5), (7, 7, 9)),
        ((8, 9, 10), (12, 16, 20)),
        ((0, 0, 0), SHAPE),
    ):
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        now = np.zeros(SHAPE, np.uint8)
        now[part] = labels[part]
        layers = [layer(np.ascontiguousarray(now[part]), low)]
        if memory is None:
            memory = layer_memory.LayerMemory(layers, overlaps_of(layers, 1), grid)
        else:
            box = memory.changed(layers)
            assert box == box_of(now != shown)
            memory.update(layers, box)
            assert np.array_equal(memory.merged([0], box), now[box])
        shown = now


def test_words_are_compared_where_they_lie_in_memory():
    random = np.random.default_rng(1)
    for shape in ((3, 4, 8), (3, 4, 7), (5, 1, 16)):
        for kind in (np.uint8, np.int16):
            one = random.integers(0, 3, shape).astype(kind)
            other = one.copy()
            assert layer_memory._difference(one, other) is None
            other[1, 0, 2:5] += 1
            expected = np.s_[1:2, 0:1, 2:5]
            assert layer_memory._difference(one, other) == expected
            assert layer_memory._difference(one[:, :, ::-1], other[:, :, ::-1]) is not None

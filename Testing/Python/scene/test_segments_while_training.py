"""What happens to segments while a run trains on them; and many of them. No torch."""

import numpy as np
import pytest
import slicer
import slicer.util
from phantom import nested

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene import logic

SHAPE = (16, 18, 20)
PLANES = [5, 8, 11]
HALF = np.indices(SHAPE)[2] < 10


@pytest.fixture(autouse=True)
def goOn(monkeypatch, tmp_path):
    """A file that ends the run once it is there."""
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "go on"))
    return tmp_path / "go on"


@pytest.fixture
def drawn(makeVolume, makeSegmentation):
    image, truth = nested(SHAPE)
    volume = makeVolume(image, seed=5, name="MR")
    inPlanes = np.zeros(SHAPE, bool)
    inPlanes[PLANES] = True
    masks = {name: inPlanes & (truth == n) for n, name in enumerate(("Shell", "Core"), 1)}
    return volume, makeSegmentation(volume, masks), inPlanes


def arrayOf(node, segmentId, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume).astype(bool)


def put(node, segmentId, mask, volume):
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volume)


def begun(volume, node):
    """A run whose engine owns the folder."""
    run, events = logic.densify(volume, node, runFolder=None), []
    run.observe(events.append)
    while not any(e["event"] == "ready" for e in events) and run.state != "failed":
        run.wait(0.05)
    return run


def rename(node, volume, masks):
    node.GetSegmentation().GetSegment("Shell").SetName("Wall")


def recolour(node, volume, masks):
    node.GetSegmentation().GetSegment("Shell").SetColor(0.1, 0.2, 0.3)


def overlap(node, volume, masks):
    """Core is drawn over a part of Shell, too: the later segment counts."""
    put(node, "Core", masks["Core"] | masks["Shell"] & HALF, volume)


def clear_one(node, volume, masks):
    put(node, "Core", np.zeros(SHAPE, bool), volume)


def clear_all(node, volume, masks):
    for segmentId in masks:
        put(node, segmentId, np.zeros(SHAPE, bool), volume)


def remove(node, volume, masks):
    node.GetSegmentation().RemoveSegment("Core")


def reorder(node, volume, masks):
    node.GetSegmentation().SetSegmentIndex("Core", 0)


def add(node, volume, masks):
    node.GetSegmentation().AddEmptySegment("New", "New")
    put(node, "New", masks["Shell"] & HALF, volume)


CHANGED = "segments of 'Drawn' were added, removed or moved since the run began: begin a new one"


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (rename, ""),
        (recolour, ""),
        (overlap, ""),
        (clear_one, ""),
        (clear_all, "no voxel is labelled"),
        (remove, CHANGED),
        (reorder, CHANGED),
        (add, CHANGED),
    ],
)
def test_what_is_done_to_segments(drawn, goOn, change, refused):
    volume, node, inPlanes = drawn
    before = {name: arrayOf(node, name, volume) for name in ("Shell", "Core")}
    run = begun(volume, node)
    change(node, volume, before)
    kept = {i: arrayOf(node, i, volume) for i in node.GetSegmentation().GetSegmentIDs()}
    if refused:
        with pytest.raises(InputError, match=refused):
            run.updateLabels()
        labels = run._run.folder.read_labels()
        for value, mask in enumerate(before.values(), 1):
            assert ((labels == value) == mask).all(), "the run goes on with what it has"
    else:
        run.updateLabels()
    goOn.touch()
    assert run.wait(60) == "done", run.error
    for segmentId, mask in kept.items():
        assert (arrayOf(node, segmentId, volume) == mask).all(), "the annotation is as it was"
    if change is remove:
        with pytest.raises(InputError, match=r"'Name of Core' was removed .* result is kept in"):
            _ = run.result
        return
    found = {name: arrayOf(run.result, name, volume) for name in ("Shell", "Core")}
    assert list(run.result.GetSegmentation().GetSegmentIDs()) == ["Shell", "Core"]
    expected = before if refused else kept
    core = expected["Core"]
    assert (found["Core"] & inPlanes == core).all()
    assert (found["Shell"] & inPlanes == expected["Shell"] & ~core).all()
    shell = run.result.GetSegmentation().GetSegment("Shell")
    assert shell.GetName() == ("Wall" if change is rename else "Name of Shell")
    if change is recolour:
        assert shell.GetColor() == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize("count", [60, 200])
def test_many_segments(makeVolume, makeSegmentation, goOn, count):
    """Each is drawn as a small block in three slices; all come back under their names."""
    goOn.touch()
    shape = (16, 40, 45)
    blocks = np.zeros(shape, np.uint8)
    for n in range(count):
        row, column = divmod(n, 15)
        blocks[3:13, 2 + 2 * row : 4 + 2 * row, 3 * column : 3 * column + 2] = n + 1
    volume = makeVolume(np.where(blocks > 0, 200, 50).astype(np.int16), seed=2, name="Cells")
    inPlanes = np.zeros(shape, bool)
    inPlanes[PLANES] = True
    node = makeSegmentation(
        volume, {f"s{n}": inPlanes & (blocks == n) for n in range(1, count + 1)}
    )
    run = begun(volume, node)
    assert run.wait(60) == "done", run.error
    segmentation = run.result.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == [f"s{n}" for n in range(1, count + 1)]
    for n in (1, 2, count // 2, count):
        assert segmentation.GetSegment(f"s{n}").GetName() == f"Name of s{n}"
        assert (arrayOf(run.result, f"s{n}", volume) & inPlanes == inPlanes & (blocks == n)).all()
    assert run._run.folder.names == [f"Name of s{n}" for n in range(1, count + 1)]

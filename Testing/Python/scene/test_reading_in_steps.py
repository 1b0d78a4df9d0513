"""Reading in steps: what is painted meanwhile is neither lost nor read half."""

import threading

import numpy as np
import pytest
import slicer.util
from test_segment_reader import SHAPE, balls, paint, whole

from SparseSegNetLib.annotation import layer_memory, pieces
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf, readAnnotation
from SparseSegNetLib.scene.logic import densification
from SparseSegNetLib.scene.paint_observer import PaintObserver, lentLayers
from SparseSegNetLib.scene.volumes import readVolume
from SparseSegNetLib.steps import Overtaken, finished


@pytest.fixture
def small(monkeypatch):
    """Steps of one plane each."""
    monkeypatch.setattr(pieces, "PIECE", 1)
    monkeypatch.setattr(layer_memory, "PIECE", 1)


@pytest.fixture
def drawn(makeVolume, makeSegmentation, small):
    volume = makeVolume(np.zeros(SHAPE, np.int16))
    one, two, three = balls((5, 6, 7), (6, 8, 12), (6, 8, 13))
    return volume, makeSegmentation(volume, {"A": one, "B": two & ~one, "C": three})


def answered(steps, wanted):
    """The next thing that these steps want; work is done."""
    return steps.send(None if wanted is None else wanted())


FAR = np.s_[0:1, 0:2, 20:23]


@pytest.mark.parametrize("number", (1, 3, 8, 20, 45))
def test_a_stroke_between_any_two_steps(drawn, number):
    """The reading that it overtakes is given up, and the next one finds both strokes."""
    volume, node = drawn
    observer = PaintObserver(node, volume)
    before = observer.labels.copy()
    paint(node, volume, "A", np.s_[2:3, 2:4, 2:4], 1)
    looking, wanted = observer.looking(), None
    for _ in range(number):
        try:
            wanted = looking.send(None if wanted is None else wanted())
        except StopIteration:
            break
    else:
        paint(node, volume, "B", FAR, 1)
        with pytest.raises(Overtaken):
            answered(looking, wanted)
        assert np.array_equal(observer.labels, before), "nothing is known of half a reading"
        assert observer.dirtySince is not None
        observer.look()
    assert np.array_equal(observer.labels, whole(node, volume))
    assert observer.count == np.count_nonzero(observer.labels)
    assert observer.look() is None


@pytest.mark.parametrize("number", (1, 7))
def test_a_segment_is_removed_between_two_steps(drawn, number):
    volume, node = drawn
    observer = PaintObserver(node, volume)
    paint(node, volume, "A", FAR, 1)
    looking, wanted = observer.looking(), None
    for _ in range(number):
        wanted = answered(looking, wanted)
    node.GetSegmentation().RemoveSegment("A")
    with pytest.raises(Overtaken):
        answered(looking, wanted)
    observer.look()
    assert observer.ids == ["B", "C"] and np.array_equal(observer.labels, whole(node, volume))


def test_what_is_read_otherwise_meanwhile(drawn):
    """Pressing a button reads at once; the reading that went on is given up."""
    volume, node = drawn
    observer = PaintObserver(node, volume)
    paint(node, volume, "A", FAR, 1)
    looking = observer.looking()
    next(looking)
    assert observer.look() is not None
    with pytest.raises(Overtaken):
        next(looking)
    assert np.array_equal(observer.labels, whole(node, volume))


def test_a_step_goes_over_one_piece_and_copies_what_changed(drawn, monkeypatch):
    volume, node = drawn
    observer = PaintObserver(node, volume)
    paint(node, volume, "A", np.s_[5:6, 4:5, 6:8], 0)
    observer.look()  # the layers are others after the first stroke
    compared, copied = [], []
    difference, update = layer_memory._difference, layer_memory.LayerMemory.update

    def comparing(one, other):
        compared.append(one.size)
        return difference(one, other)

    def updating(self, layers, box):
        copied.append(tuple(s.stop - s.start for s in box))
        return update(self, layers, box)

    monkeypatch.setattr(layer_memory, "_difference", comparing)
    monkeypatch.setattr(layer_memory.LayerMemory, "update", updating)
    paint(node, volume, "A", np.s_[5:6, 5:8, 6:8], 0)
    looking, pauses = observer.looking(), 0
    try:
        wanted = next(looking)
        while True:
            before = len(compared)
            wanted = answered(looking, wanted)
            assert len(compared) - before <= 1, "one piece at each step"
            pauses += 1
    except StopIteration:
        pass
    assert max(compared) <= SHAPE[1] * SHAPE[2] and pauses >= SHAPE[0] // 2
    assert copied == [(1, 3, 2)], "of the scene nothing is copied but what changed"


def test_what_is_lent_stays_as_it_is(drawn):
    volume, node = drawn
    session = AnnotationSession(volume, node)
    snapshot, lent = session.snapshot(), lentLayers(node, volume, ["A", "B", "C"])
    labels, values = snapshot.numbers.copy(), [layer.values.copy() for layer in lent]
    paint(node, volume, "A", np.s_[5:6, 5:8, 6:8], 0)
    paint(node, volume, "B", FAR, 1)
    assert lentLayers(node, volume, ["A", "B", "C"]) is None, "it has changed, and is not read yet"
    session.look()
    assert np.array_equal(snapshot.numbers, labels)
    assert all(np.array_equal(a.values, b) for a, b in zip(lent, values, strict=True))
    assert not np.array_equal(session.snapshot().numbers, labels)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.numbers[0, 0, 0] = 1


@pytest.mark.parametrize("finer", [False, True], ids=["same grid", "finer grid"])
def test_the_annotation_of_lent_layers(drawn, makeVolume, finer):
    """It is that of reading the scene, whether or not a session has read it already."""
    volume, node = drawn
    if finer:
        volume = makeVolume(np.zeros((24, 16, 24), np.int16), spacing=(0.7, 1.1, 1.65))
    session = AnnotationSession(volume, node)
    session.mark(AnnotatedSlice("k", 6))
    scene = annotationOf(node, volume, None, trainable=False)
    lent = finished(readAnnotation(node, volume, None, False, lentLayers))
    assert np.array_equal(scene.labels, lent.labels) and scene.warnings == lent.warnings
    assert scene.slices == lent.slices and scene.segments == lent.segments


def test_nothing_drawn_lies_in_an_oblique_volume(drawn, makeVolume):
    far = makeVolume(np.zeros(SHAPE, np.int16), seed=3)
    far.SetOrigin(5000, 5000, 5000)
    session = AnnotationSession(far, drawn[1])
    assert session.rows() == [] and session.share() == 0


def test_a_stroke_while_the_annotation_is_read(drawn):
    """Without a session: it is read anew, at once, so that no half of a stroke is in it."""
    volume, node = drawn
    reading = readAnnotation(node, volume, None, False)
    wanted = next(reading)
    for _ in range(4):
        wanted = answered(reading, wanted)
    paint(node, volume, "B", FAR, 1)
    with pytest.raises(StopIteration) as end:
        while True:
            wanted = answered(reading, wanted)
    expected = annotationOf(node, volume, None, trainable=False)
    assert np.array_equal(end.value.value.labels, expected.labels)


def test_a_volume_that_changes_while_it_is_copied(makeVolume, small):
    volume = makeVolume(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    reading = readVolume([volume])
    wanted = next(reading)
    for _ in range(5):
        wanted = answered(reading, wanted)
    slicer.util.updateVolumeFromArray(volume, np.full(SHAPE, 7, np.int16))
    with pytest.raises(StopIteration) as end:
        while True:
            wanted = answered(reading, wanted)
    assert (end.value.value == 7).all()


def stepsUntil(start, reached):
    """Takes steps until something is so; work in a thread, as the panel does."""
    result = None
    while True:
        wanted = start.send(result)
        result = None
        if wanted is not None:
            found = []
            thread = threading.Thread(target=lambda: found.append(wanted()))  # noqa: B023
            thread.start()
            thread.join()
            if reached():
                return
            (result,) = found


def test_a_start_that_is_given_up_leaves_no_folder(drawn, tmp_path):
    volume, node = drawn
    AnnotationSession(volume, node).close()
    folder = tmp_path / "run"
    start = densification([volume], node, Options(), runFolder=folder)
    stepsUntil(start, (folder / "run.json").is_file)
    start.close()
    assert not folder.exists(), "as if it had never begun"


def test_a_start_in_a_folder_of_others_leaves_it_alone(drawn, tmp_path):
    volume, node = drawn
    AnnotationSession(volume, node).close()
    (tmp_path / "notes.txt").write_text("mine")
    start = densification([volume], node, Options(), runFolder=tmp_path)
    with pytest.raises(InputError, match="exists already"):
        finished(start)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"

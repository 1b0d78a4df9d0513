"""Training on several volumes of a real scene."""

import numpy as np
import pytest
import slicer
import slicer.util
from phantom import nested

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.client import engine_run
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.slice_list import listSlices
from SparseSegNetLib.scene.training_set import train
from SparseSegNetLib.scene.volumes import volumeGeometry


@pytest.fixture
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


@pytest.fixture
def pair(makeVolume, makeSegmentation):
    """pair(name, names of shell and core, shape, ...) -> volume, segmentation, truth."""

    def make(name, names=("Shell", "Core"), shape=(20, 22, 24), planes=(8, 12), seed=0, turn=None):
        image, truth = nested(shape, seed=seed)
        volume = makeVolume(image, seed=turn, name=name, spacing=(0.8, 0.8, 1.2))
        drawn = np.zeros(shape, bool)
        drawn[list(planes)] = True
        masks = {f"s{n}": drawn & (truth == n) for n, called in enumerate(names, 1) if called}
        node = makeSegmentation(volume, masks, name=f"{name} drawn")
        for n, called in enumerate(names, 1):
            if called:
                node.GetSegmentation().GetSegment(f"s{n}").SetName(called)
        return volume, node, truth

    return make


def namesOf(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()]


def arrayOf(node, place, volume):
    segmentId = node.GetSegmentation().GetNthSegmentID(place)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume).astype(bool)


def test_classes_are_merged_by_name_and_unknown_ones_stay_unknown(scene, pair, standIn):
    a = pair("A", ("Shell", "Core"))
    b = pair("B", ("core", None), shape=(16, 18, 22), seed=1, turn=4)
    # What B calls core is the shell of the phantom: only names count.
    run = train([a[:2], b[:2]], wait=True)
    assert run.state == "done", run.error
    folder = run._run.folder
    assert folder.task == "train" and folder.names == ["Shell", "Core"]
    first, second = folder.read_input(1), folder.read_input(2)
    assert first.classes is None and second.classes == (2,)
    assert set(np.unique(first.labels)) == {0, 1, 2, 255}
    assert set(np.unique(second.labels)) == {0, 2, 255}
    assert (second.labels[8] == 2).sum() == (b[2][8] == 1).sum()
    nodes = scene.GetNumberOfNodes()
    results = run.results
    assert run.result is results[0] and run.results == results
    assert scene.GetNumberOfNodes() == nodes + 4, "two segmentations with their display nodes"
    assert [r.GetName() for r in results] == ["A drawn dense", "B drawn dense"]
    assert all(namesOf(r) == ["Shell", "Core"] for r in results)
    assert run.volumeNodes == [a[0], b[0]]
    found = arrayOf(results[1], 0, b[0])
    assert found.shape == b[2].shape and (found & (b[2] == 1)).sum() > 0.8 * (b[2] == 1).sum()
    assert [u.GetImageData().GetDimensions() for u in run.uncertainties] == [
        (24, 22, 20),
        (22, 18, 16),
    ]


def test_a_scan_without_annotation_is_segmented_and_said(pair, makeVolume, makeSegmentation):
    """With the real engine."""
    a, b = pair("A"), pair("B", seed=1)
    unlabelled = makeVolume(nested((20, 22, 24), seed=2)[0], name="C", spacing=(0.8, 0.8, 1.2))
    empty = makeSegmentation(unlabelled, {"x": np.zeros((20, 22, 24), bool)}, name="C drawn")
    run = train([a[:2], b[:2], (unlabelled, empty)], maxSteps=3, wait=True)
    assert run.state == "done", run.error
    assert any("C: nothing is annotated" in text for text in run.warnings)
    item = run._run.folder.read_input(3)
    assert (item.labels == 255).all() and item.classes is None
    third = run.results[2]
    assert namesOf(third) == ["Shell", "Core"] and third.GetName() == "C drawn dense"
    for (volume, _, truth), result in zip((a, b), run.results, strict=False):
        for place in (0, 1):
            drawn = arrayOf(result, place, volume)[[8, 12]]
            assert (drawn == (truth[[8, 12]] == place + 1)).all(), "as it was drawn"


def test_a_model_is_saved_from_it(pair, standIn, tmp_path):
    run = train([pair("A")[:2], pair("B")[:2]])
    with pytest.raises(InputError, match="no trained model"):
        run.saveModel(tmp_path / "m.safetensors")
    assert run.wait(60) == "done"
    path = run.saveModel(tmp_path / "m.safetensors")
    assert path.read_bytes() == run.modelFile.read_bytes()
    with pytest.raises(InputError, match="choose another folder"):
        run.saveModel(tmp_path / "nowhere" / "m.safetensors")
    with pytest.raises(InputError, match="begin a new run"):
        run.takeCorrections()
    run.modelFile.unlink()
    with pytest.raises(InputError, match="has kept no model"):
        run.saveModel(tmp_path / "m2.safetensors")
    with pytest.raises(InputError, match="no densification of one volume"):
        logic.resume(run.folder, run.volumeNode, run.segmentationNode)


def test_channels_are_ordered_by_their_names(pair, makeVolume, standIn):
    def two(case, order):
        volume, node, _ = pair(f"{case} t1")
        image = slicer.util.arrayFromVolume(volume)
        other = makeVolume(image + 1000, name=f"{case} t2", spacing=(0.8, 0.8, 1.2))
        volumes = [volume, other]
        return [volumes[n] for n in order], node

    run = train([two("A", (0, 1)), two("B", (1, 0))])
    second = run._run.folder.read_input(2)
    assert second.channels == ["B t1", "B t2"] and second.image[1].min() > 800
    assert any("taken by their names" in text for text in run.warnings)
    run.cancel()
    with pytest.raises(InputError, match="B t1 has 1 channels and A t1 2"):
        train([two("A", (0, 1)), pair("B t1")[:2]])


def test_the_slices_that_count(pair, standIn):
    a, b = pair("A"), pair("B", planes=(4, 8, 12))
    listSlices(b[1], {}, volumeGeometry(b[0]))
    run = train([a[:2], b[:2]], slices=["k:8", None])
    assert [len(run._run.folder.read_slices(n)) for n in (1, 2)] == [1, 0]
    assert (run._run.folder.read_labels(2) != 0).all(), "no slice of it is complete"
    run.cancel()
    with pytest.raises(InputError, match="one entry for each"):
        train([a[:2], b[:2]], slices="k:8")


def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    pair, standIn, tmp_path, makeVolume
):
    a, other = pair("A"), pair("B", ("Liver", "Spleen"))
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="no class in common"):
        train([a[:2], other[:2]], runFolder=folder)
    with pytest.raises(InputError, match="listed twice"):
        train([a[:2], a[:2]], runFolder=folder)
    with pytest.raises(InputError, match="nothing to train on"):
        train([], runFolder=folder)
    with pytest.raises(InputError, match="no volume is annotated"):
        train([(a[0], None)], runFolder=folder)
    with pytest.raises(InputError, match=r"give \(volume, segmentation\)"):
        train([a[0]], runFolder=folder)
    with pytest.raises(InputError, match="2 names are given for 1"):
        train([a[:2]], names=["x", "y"], runFolder=folder)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    a[0].SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="under the transform 'T'"):
        train([a[:2], other[:2]], runFolder=folder)
    assert not folder.exists()


def test_more_annotation_of_any_volume_flows_to_the_engine(pair, standIn, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "go"))
    a, b = pair("A"), pair("B", ("Core", "Shell"))
    run = train([a[:2], b[:2]])
    sent = []

    def changing(labels, slices, number):
        sent.append((number, labels))
        yield None

    monkeypatch.setattr(run._run, "changing_labels", changing)
    run.updateLabels()
    assert not sent, "nothing has changed"
    drawn = np.zeros(b[2].shape, bool)
    drawn[[8, 12, 14]] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        (drawn & (b[2] == 1)).astype(np.uint8), b[1], "s1", b[0]
    )
    run.updateLabels()
    assert [number for number, _ in sent] == [2]
    assert (sent[0][1][14] == 2).sum() == (b[2][14] == 1).sum(), "B's first segment is Core"
    run.cancel()


def test_results_have_what_the_merged_classes_have(pair, standIn):
    a = pair("A")
    core = a[1].GetSegmentation().GetSegment("s2")
    core.SetTag("TerminologyEntry", "a~b^c^d~e")
    core.SetColor(0.2, 0.4, 0.6)
    b = pair("B", ("Shell", "Core"))
    run = train([a[:2], b[:2]], wait=True)
    segment = run.results[1].GetSegmentation().GetNthSegment(1)
    assert segment.GetColor() == (0.2, 0.4, 0.6)
    assert "a~b^c^d~e" in str(Segment.to_json(run._run.folder.segments[1]))
    assert segment.HasTag("TerminologyEntry")
    assert logic.currentRun() is run

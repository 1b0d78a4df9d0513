"""Models applied to volumes of a real scene; the engine is a stand-in that thresholds."""

import json

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from described_models import SEGMENTS, write_model
from phantom import iou, nested

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.scene.annotation_session import AnnotationSession
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.model_use import segment, uncertainShare
from SparseSegNetLib.scene.prediction_start import annotationFrom, startedFromPrediction
from SparseSegNetLib.scene.results import isResult
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.training_set import train

SHAPE = (20, 22, 24)


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "nested.safetensors")


@pytest.fixture
def scan(makeVolume):
    def make(name="MR new", spacing=(0.8, 0.8, 1.2), seed=5):
        image, truth = nested(SHAPE, seed=seed)
        return makeVolume(image, name=name, spacing=spacing), truth

    return make


def dense(node, volume):
    segmentation = node.GetSegmentation()
    return mergedSegments(segmentation, list(segmentation.GetSegmentIDs()), volume)


def test_a_volume_is_segmented_with_the_models_classes(scene, scan, model):
    volume, truth = scan()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Visit 2")
    hierarchy.CreateItem(study, volume)
    run = segment(model, volume)
    with pytest.raises(InputError, match="no result"):
        _ = run.result
    assert run.wait(60) == "done", run.error
    assert run._run.folder.task == "segment" and run.segmentationNode is None
    result = run.result
    assert result.GetName() == "MR new segmentation" and isResult(result)
    segmentation = result.GetSegmentation()
    for place, wanted in enumerate(SEGMENTS):
        mine = segmentation.GetNthSegment(place)
        assert mine.GetName() == wanted.name and mine.GetColor() == wanted.color
    tag = vtk.reference("")
    assert segmentation.GetNthSegment(0).GetTag("TerminologyEntry", tag)
    assert str(tag) == SEGMENTS[0].tags["TerminologyEntry"]
    assert result.GetNodeReference(result.GetReferenceImageGeometryReferenceRole()) is volume
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    assert iou(dense(result, volume), truth) > 0.5
    assert run.uncertainty.GetName() == "MR new uncertainty"
    assert run.updatePreview() is None
    run.updateLabels()  # there are none, and that is no error


def test_the_model_of_a_run_is_used_at_once(scan, model, makeSegmentation):
    volume, truth = scan("A")
    drawn = np.zeros(SHAPE, bool)
    drawn[[6, 12]] = True
    node = makeSegmentation(volume, {"S": drawn & (truth == 1), "C": drawn & (truth == 2)})
    trained = train([(volume, node)])
    other, _ = scan("B")
    with pytest.raises(InputError, match="no trained model"):
        segment(trained, other)
    trained.wait(60)
    run = segment(trained, other, wait=True)
    assert run.state == "done"
    names = [s.name for s in trained._run.folder.segments]
    segmentation = run.result.GetSegmentation()
    assert [segmentation.GetNthSegment(n).GetName() for n in (0, 1)] == names
    assert run.modelFile.read_bytes() == trained.modelFile.read_bytes()


def test_what_does_not_fit_is_refused_before_anything_is_written(scan, model, tmp_path):
    thick, _ = scan("Thick", (0.8, 0.8, 3.0))
    folder = tmp_path / "run"
    with pytest.raises(InputError, match=r"accept=\['spacing'\]"):
        segment(model, thick, runFolder=folder)
    transformed, _ = scan("T")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    transformed.SetAndObserveTransformNodeID(node.GetID())
    with pytest.raises(InputError, match="under the transform"):
        segment(model, transformed, runFolder=folder)
    with pytest.raises(InputError, match="2 channels"):
        segment(model, [thick, thick], runFolder=folder)
    with pytest.raises(InputError, match="not a SparseSegNet model"):
        segment(tmp_path / "missing.safetensors", thick, runFolder=folder)
    assert not folder.exists()
    run = segment(model, thick, accept=["spacing"], runFolder=folder, wait=True)
    assert run.state == "done" and any("accepted" in text for text in run.warnings)


def test_an_engine_that_fails_says_why(scan, model, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAILS", "heavy")
    run = segment(model, scan("heavy one")[0], wait=True)
    assert run.state == "failed" and "not enough memory" in run.error.cause
    with pytest.raises(EngineError):
        _ = run.result


def test_cancel(scan, model, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_WAITS", str(tmp_path / "never"))
    run = segment(model, scan()[0])
    run.cancel()
    assert run.state == "cancelled"


def test_the_order_of_review():
    labels = np.zeros((4, 4, 4), np.uint8)
    doubt = np.zeros((4, 4, 4), np.uint8)
    assert uncertainShare(labels, doubt) == 1.0, "nothing found: look at it first"
    labels[1:3] = 1
    assert uncertainShare(labels, doubt) == 0.0
    doubt[1] = 200
    assert uncertainShare(labels, doubt) == 0.5
    doubt[0] = 255
    assert uncertainShare(labels, doubt) == pytest.approx(2 / 3)


def test_only_corrected_slices_of_a_prediction_are_annotation(scan, model):
    volume, _ = scan()
    run = segment(model, volume, wait=True)
    node = annotationFrom(run.result, volume, "MR new drawn")
    assert startedFromPrediction(node) and not isResult(node)
    assert (dense(node, volume) == dense(run.result, volume)).all()
    with pytest.raises(InputError, match="no voxel is labelled"):
        annotationOf(node, volume, None)
    session = AnnotationSession(volume, node)
    assert session.slices == {} and session.share() == 0
    before = dense(run.result, volume)

    def put(mask, segmentId="Core"):
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), node, segmentId, volume
        )
        return session.look()

    # Voxels are added in one slice, and erased in another: both are corrections.
    core = before == 2
    core[9, 2:6, 2:6] = True
    assert [str(s) for s in put(core).added] == ["k:9"]
    assert core[12].any()
    core[12] = False
    assert [str(s) for s in put(core).added] == ["k:12"]
    assert session.share() == pytest.approx(2 / SHAPE[0])
    found = annotationOf(node, volume, None)
    assert [s.index for s in found.slices] == [9, 12]
    labelled = found.labels != 255
    assert labelled[[9, 12]].all() and labelled.sum() == 2 * SHAPE[1] * SHAPE[2]
    assert (found.labels[9, 2:6, 2:6] == 2).all() and not (found.labels[12] == 2).any()
    assert (dense(run.result, volume) == before).all(), "the result stays"
    session.close()
    assert json.loads(node.GetAttribute("SparseSegNet.AnnotatedSlices"))["slices"]

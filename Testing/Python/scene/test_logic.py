"""From a real scene through the real engine back into the scene."""

import sys
import tempfile
import time

import numpy as np
import pytest
import slicer.util
import vtk
from phantom import nested

from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene import scene_run as node_run


@pytest.fixture
def annotated(makeVolume, makeSegmentation):
    """An oblique volume of thick slices, and a segmentation drawn in six of its slices."""
    image, truth = nested((26, 34, 38))
    volume = makeVolume(image, seed=11, spacing=(0.8, 0.8, 1.7), name="MR")
    slices = spread_slices((3, 2, 1), truth.shape, truth > 0)
    drawn = np.zeros(truth.shape, bool)
    for item in slices:
        drawn[item.selector()] = True
    node = makeSegmentation(volume, {"Shell": drawn & (truth == 1), "Core": drawn & (truth == 2)})
    core = node.GetSegmentation().GetSegment("Core")
    core.SetTag(core.GetTerminologyEntryTagName(), "a~b^c^d~e")
    return volume, node, truth, drawn


def arrayOf(node, segmentId, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume).astype(bool)


def test_the_whole_way(scene, annotated):
    volume, node, truth, drawn = annotated
    before = {i: arrayOf(node, i, volume).copy() for i in ("Shell", "Core")}
    run = logic.densify(volume, node, maxSteps=25)  # nothing may depend on the clock
    assert not run._run.ended and run._run.plan is None, "it returns before anything is planned"
    nodes = scene.GetNumberOfNodes()
    assert run.wait(120) == "done"
    assert scene.GetNumberOfNodes() == nodes, "nothing appears in the scene by itself"
    result = run.result
    assert result is run.result and result is not node
    assert run.metrics and run.progress["step"] > 0
    for segmentId in ("Shell", "Core"):
        mine = result.GetSegmentation().GetSegment(segmentId)
        theirs = node.GetSegmentation().GetSegment(segmentId)
        assert mine.GetName() == theirs.GetName() and mine.GetColor() == theirs.GetColor()
        assert (arrayOf(node, segmentId, volume) == before[segmentId]).all(), "drawn node changed"
    value = vtk.reference("")
    assert result.GetSegmentation().GetSegment("Core").GetTag("TerminologyEntry", value)
    assert str(value) == "a~b^c^d~e"
    dense = np.where(arrayOf(result, "Shell", volume), 1, 0) + 2 * arrayOf(result, "Core", volume)
    assert (dense[drawn] == truth[drawn]).all(), "every drawn voxel is kept, background too"
    matrices = []
    for owner, get in (
        (volume, "GetIJKToRASMatrix"),
        (
            result.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap"),
            "GetImageToWorldMatrix",
        ),
    ):
        matrix = vtk.vtkMatrix4x4()
        getattr(owner, get)(matrix)
        matrices.append(np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)]))
    assert np.allclose(*matrices, rtol=0, atol=1e-12)
    rows = metrics.overlap(dense, truth, 2, ~drawn)
    assert min(row["iou"] for row in rows) > 0.7
    folder = run.folder
    del run
    assert not folder.exists(), "the temporary run folder goes with the run"


def test_a_run_that_nobody_holds_goes_on(annotated):
    volume, node, *_ = annotated
    folder = logic.densify(volume, node, maxSteps=2).folder
    end = time.monotonic() + 60
    while not (folder / "result" / "1.npy").exists():
        assert time.monotonic() < end and folder.exists()
        time.sleep(0.2)
    mine = [run for run in node_run._active if run.folder == folder]
    for run in mine:
        run.wait(120)
    assert not node_run._active.intersection(mine)


def test_cancel_leaves_the_scene_alone(scene, annotated):
    volume, node, *_ = annotated
    run = logic.densify(volume, node, timeBudget=300)
    nodes = scene.GetNumberOfNodes()
    run.cancel()
    assert run.state == "cancelled" and scene.GetNumberOfNodes() == nodes
    with pytest.raises(InputError, match="cancelled"):
        _ = run.result


@pytest.mark.parametrize(
    ("named", "kept"), [(False, "as long as this run object lives"), (True, "'sparsesegnet export")]
)
def test_nodes_that_are_gone_are_named(scene, annotated, tmp_path, named, kept):
    volume, node, *_ = annotated
    run = logic.densify(volume, node, maxSteps=2, runFolder=tmp_path / "run" if named else None)
    assert run.wait(120) == "done"
    scene.RemoveNode(volume)
    with pytest.raises(InputError, match=f"volume is no longer in the scene.*{kept}"):
        _ = run.result


def test_a_result_never_lands_on_another_patient(scene, annotated, makeVolume, makeSegmentation):
    volume, node, *_ = annotated
    run = logic.densify(volume, node, maxSteps=2)
    assert run.wait(120) == "done"
    ids = volume.GetID(), node.GetID()
    scene.Clear(0)
    image, truth = nested((26, 34, 38), seed=1)
    other = makeVolume(image, seed=11, spacing=(0.8, 0.8, 1.7), name="Patient two")
    theirs = makeSegmentation(other, {"Shell": truth == 1, "Core": truth == 2})
    assert (other.GetID(), theirs.GetID()) == ids, "the trap: another scene, the same IDs"
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="no longer in the scene"):
        _ = run.result
    assert scene.GetNumberOfNodes() == nodes


def test_a_volume_that_was_changed_is_named_and_nothing_is_left_behind(scene, annotated):
    volume, node, *_ = annotated
    run = logic.densify(volume, node, maxSteps=2)
    assert run.wait(120) == "done"
    nodes = scene.GetNumberOfNodes()
    volume.SetSpacing(1, 1, 1)
    with pytest.raises(InputError, match=r"'MR' was changed .*0.8x0.8x1.7 against 1x1x1"):
        _ = run.result
    assert scene.GetNumberOfNodes() == nodes


def test_a_segment_that_was_removed_is_named(annotated):
    volume, node, *_ = annotated
    run = logic.densify(volume, node, maxSteps=2)
    assert run.wait(120) == "done"
    node.GetSegmentation().RemoveSegment("Core")
    with pytest.raises(InputError, match="'Name of Core' was removed"):
        _ = run.result


def test_a_run_can_be_kept_and_its_model_saved(annotated, tmp_path):
    volume, node, *_ = annotated
    run = logic.densify(
        [volume, volume], node, maxSteps=2, runFolder=tmp_path / "run", slices="k:13"
    )
    assert run.wait(120) == "done"
    assert run.saveModel(tmp_path / "m.safetensors").stat().st_size > 1000
    assert np.load(tmp_path / "run" / "inputs" / "1" / "image.npy", mmap_mode="r").shape[0] == 2
    del run
    assert (tmp_path / "run" / "result" / "1.npy").exists()


def test_a_published_network_with_its_options(annotated):
    volume, node, truth, drawn = annotated
    run = logic.densify(
        volume, node, network="fcn3d", tile=(32, 32, 16), width=2, maxSteps=2, device="cpu"
    )
    assert run.wait(120) == "done"
    assert (arrayOf(run.result, "Core", volume) & drawn == (truth == 2) & drawn).all()
    with pytest.raises(InputError, match="nearest is 32x32x16"):
        logic.densify(volume, node, network="fcn3d", tile=(33, 32, 16))


def test_what_cannot_be_used_is_refused_before_anything_starts(scene, annotated, makeSegmentation):
    volume, node, *_ = annotated
    nodes = scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="time budget"):
        logic.densify(volume, node, timeBudget=0)
    with pytest.raises(InputError, match=r"k:99 lies outside"):
        logic.densify(volume, node, slices="k:99")
    with pytest.raises(InputError, match="no volume is chosen"):
        logic.densify(None, node)
    with pytest.raises(InputError, match="no segmentation is chosen"):
        logic.densify(volume, None)
    assert scene.GetNumberOfNodes() == nodes
    empty = makeSegmentation(volume, {"S": np.zeros((26, 34, 38), bool)}, "Empty")
    with pytest.raises(InputError, match="no voxel is labelled"):
        logic.densify(volume, empty)


def test_an_engine_that_does_not_start_leaves_nothing(annotated, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="cannot be started"):
        logic.densify(*annotated[:2])
    assert not list(tmp_path.iterdir())


def test_going_on_changes_nothing_that_another_engine_works_on(annotated, tmp_path, monkeypatch):
    volume, node, truth, _ = annotated
    run = logic.densify(volume, node, maxSteps=2, runFolder=tmp_path / "run")
    run.cancel()
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        (truth == 2).astype(np.uint8), node, "Core", volume
    )
    kept = {
        p: p.read_bytes()
        for p in (run.folder / "run.json", *(run.folder / "inputs" / "1").iterdir())
    }
    monkeypatch.setattr(logic, "ENDING", 0.2)
    with FolderLock(run.folder):
        again = logic.resume(run.folder, volume, node, moreTime=60)
        assert again.wait(60) == "failed"
    assert again.error.code == "locked" and "another engine works on" in again.error.cause
    assert {p: p.read_bytes() for p in kept} == kept

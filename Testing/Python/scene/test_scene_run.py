"""A run followed from the scene: corrections flow to it, previews come back, it pauses."""

import time

import numpy as np
import pytest
import slicer
import slicer.util
from test_logic import annotated, arrayOf  # noqa: F401  a fixture

from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene import logic


def until(run, arrived, timeout=60.0):
    end = time.monotonic() + timeout
    while (
        not arrived()
        and run.state not in ("done", "failed", "cancelled")
        and time.monotonic() < end
    ):
        time.sleep(0.05)
    return arrived()


def draw(node, segmentId, volume, mask):
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volume)


def test_corrections_flow_to_the_engine_and_previews_back(scene, annotated):  # noqa: F811
    volume, node, truth, drawn = annotated
    events = []
    run = logic.densify(volume, node, timeBudget=60)
    run.observe(events.append)
    assert run.updatePreview() is None
    assert until(run, lambda: run.state == "training")
    preview = run.updatePreview()
    assert preview.IsA("vtkMRMLSegmentationNode") and preview is not node
    # One more slice is painted, as the user would.
    index = 5
    assert not drawn[index].all()
    drawn[index] = True
    for segmentId, value in (("Shell", 1), ("Core", 2)):
        draw(node, segmentId, volume, drawn & (truth == value))
    nodes = scene.GetNumberOfNodes()
    run.updateLabels(f"k:{index} " + "k:3,13,22")
    run.requestPreview()
    assert until(run, lambda: any(e["event"] == "labels" for e in events))
    count = sum(e["event"] == "preview" for e in events)
    assert until(run, lambda: sum(e["event"] == "preview" for e in events) > count)
    assert run.updatePreview() is preview and scene.GetNumberOfNodes() == nodes
    assert (arrayOf(preview, "Core", volume)[index] == (truth[index] == 2)).all()
    scene.RemoveNode(preview)
    again = run.updatePreview()
    assert again is not None and again is not preview
    run.pause()
    assert until(run, lambda: run.state == "paused")
    run.resume()
    run.setTimeBudget(5 + run.progress["seconds"])
    assert until(run, lambda: run.state == "done", 60), run.error
    assert (arrayOf(run.result, "Core", volume)[index] == (truth[index] == 2)).all()


def test_what_does_not_fit_the_run_is_refused(annotated):  # noqa: F811
    volume, node, *_ = annotated
    run = logic.densify(volume, node, timeBudget=300)
    with pytest.raises(InputError, match="lies outside"):
        run.updateLabels("k:99")
    node.GetSegmentation().AddEmptySegment("New", "New")
    with pytest.raises(InputError, match="added, removed or moved"):
        run.updateLabels("k:13")
    run.cancel()
    assert run.state == "cancelled"


def test_odd_nodes(annotated, scene):  # noqa: F811
    volume, node, *_ = annotated
    with pytest.raises(InputError, match=r"'MR' is a name: give the volume .*getNode\('MR'\)"):
        logic.densify("MR", node)
    with pytest.raises(InputError, match="'Drawn' is a name: give the segmentation itself"):
        logic.densify(volume, "Drawn")
    with pytest.raises(InputError, match="'Drawn' is no volume"):
        logic.densify(node, node)
    with pytest.raises(InputError, match="'MR' is no segmentation"):
        logic.densify(volume, volume)
    node.GetSegmentation().GetSegment("Core").SetName("")
    run = logic.densify(volume, node, maxSteps=1)
    assert [s.name for s in run._run.folder.segments] == ["Name of Shell", "Core"]
    run.cancel()


def test_a_3d_brush_is_noticed(makeVolume, makeSegmentation):
    volume = makeVolume(np.zeros((20, 20, 20), np.int16))
    ball = sum((x - 9.5) ** 2 for x in np.indices((20, 20, 20))) < 25
    node = makeSegmentation(volume, {"Ball": ball})
    run = logic.densify(volume, node, maxSteps=1)
    assert "3D brush" in run.warnings[0]
    run.cancel()

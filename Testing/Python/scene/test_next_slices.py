"""The next slice to draw, for what is drawn in the scene now."""

import numpy as np
import pytest
import slicer.util
from phantom import nested

from SparseSegNetLib.annotation.slices import AnnotatedSlice, array_axis, parse_slices
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput
from SparseSegNetLib.scene.annotations import annotationOf
from SparseSegNetLib.scene.next_slices import suggestions
from SparseSegNetLib.scene.run_case import RunCase
from SparseSegNetLib.scene.scene_run import SceneRun
from SparseSegNetLib.scene.slice_list import listSlices
from SparseSegNetLib.scene.volumes import volumeArray, volumeGeometry
from SparseSegNetLib.suggestion.slice_profiles import SliceProfiles, areas_of, contours_of

SHAPE = (26, 34, 38)
DRAWN = "i:12,26 j:11,22 k:9,17"


def draw(volume, node, truth, text):
    """Draws slices and lists them as complete."""
    slices = parse_slices([text])
    drawn = np.zeros(truth.shape, bool)
    for item in slices:
        drawn[item.selector()] = True
    for name, value in (("Shell", 1), ("Core", 2)):
        mask = (drawn & (truth == value)).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    listSlices(node, dict.fromkeys(slices, True), volumeGeometry(volume))


@pytest.fixture
def case(scene, makeVolume, makeSegmentation):
    """An oblique volume and a segmentation in which slices are drawn."""
    image, truth = nested(SHAPE)
    volume = makeVolume(image, seed=11, spacing=(0.8, 0.8, 1.0), name="MR")
    node = makeSegmentation(volume, {"Shell": truth == 1, "Core": truth == 2})
    draw(volume, node, truth, DRAWN)
    return volume, node, truth


@pytest.fixture
def folder(case, tmp_path):
    """A run whose model is unsure of the core in one slice: k = 13."""
    volume, node, truth = case
    found = annotationOf(node, volume, None)
    grid = volumeGeometry(volume)
    item = RunInput(volumeArray([volume]), found.labels, grid, found.slices, name="MR")
    run = RunFolder.create(tmp_path / "run", [item], found.segments, Options())
    areas = areas_of(truth, 2)
    unsure = np.zeros_like(areas)
    unsure[1, 13] = 50
    contours = contours_of(truth)
    run.write_profiles(1, SliceProfiles.of(areas, unsure, contours, contours, SHAPE))
    return run


def test_before_anything_is_trained(case):
    volume, node, truth = case
    draw(volume, node, truth, "k:13")
    found = suggestions(volume, node, None)
    assert {one.slice.axis for one in found} == set("ijk")
    for one in found:
        size = SHAPE[array_axis(one.slice.axis)]
        assert 0 <= one.slice.index < size and one.slice.box is None and one.reason
    assert any(
        "Name of Shell and Name of Core are in one slice only" in one.reason for one in found
    )


def test_nothing_is_drawn(case):
    volume, node, truth = case
    draw(volume, node, truth, "none")
    assert len(suggestions(volume, node, None)) == 3


def test_where_the_model_is_unsure(case, folder):
    volume, node, _ = case
    (found,) = suggestions(volume, node, folder, 1)
    assert found.slice == AnnotatedSlice("k", 13) and found.segment == 2
    assert found.reason == "the model is unsure in the middle of Name of Core"
    assert "unsure" not in suggestions(volume, node, None, 1)[0].reason


def test_for_what_is_drawn_now(case, folder):
    """The prediction is older: the slice was drawn since, and more of the segmentation erased."""
    volume, node, truth = case
    draw(volume, node, truth, DRAWN + " k:13")
    assert all(one.slice != AnnotatedSlice("k", 13) for one in suggestions(volume, node, folder))
    draw(volume, node, np.where(truth == 2, 0, truth), DRAWN)
    assert suggestions(volume, node, folder, 1)[0].reason == "Name of Core is not drawn yet"


def test_a_run_on_something_else_does_not_count(case, folder, makeVolume):
    volume, node, _ = case
    other = makeVolume(nested(SHAPE)[0], seed=11, spacing=(0.8, 0.8, 1.1), name="CT")
    found = suggestions(other, node, folder, 1)
    assert all("unsure" not in one.reason for one in found)
    node.GetSegmentation().AddEmptySegment("Vessel", "Vessel")
    assert suggestions(volume, node, folder, 1)[0].reason == "Vessel is not drawn yet"


def test_a_damaged_file_is_noted(case, folder):
    volume, node, _ = case
    (folder.path / "result" / "1-profiles.npy").write_bytes(b"broken")
    assert "unsure" not in suggestions(volume, node, folder, 1)[0].reason
    assert "1-profiles.npy is damaged" in folder.notes[0]


def test_of_a_run(case, folder):
    """`suggestSlices` of the console, as `SceneRun` asks its case."""
    volume, node, _ = case
    ids = [segment.id for segment in folder.segments]
    own = RunCase(1, volume, node, volumeGeometry(volume), ids)
    assert own.suggestions(folder, 3) == suggestions(volume, node, folder)
    with pytest.raises(InputError, match="0 slices cannot be suggested"):
        own.suggestions(folder, 0)
    with pytest.raises(InputError, match="'MR' is not annotated"):
        RunCase(1, volume, None, volumeGeometry(volume)).suggestions(folder, 3)
    node.GetSegmentation().AddEmptySegment("Vessel", "Vessel")
    with pytest.raises(InputError, match="added, removed or moved"):
        own.suggestions(folder, 3)


def test_console(case, folder, monkeypatch):
    volume, node, _ = case
    ids = [segment.id for segment in folder.segments]
    run = object.__new__(SceneRun)
    run._cases = [RunCase(1, volume, node, volumeGeometry(volume), ids)]
    run._run = type("Run", (), {"folder": folder})()
    assert (
        run.suggestSlices(1) == run.suggestSlices(1, volume) == suggestions(volume, node, folder, 1)
    )

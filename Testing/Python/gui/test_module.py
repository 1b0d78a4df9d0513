"""The module file: its console functions as the documentation shows them.

Its self test is in installed_module.py.
"""

import pytest
import slicer
from scenes import SAMPLE, addVolume, annotated, press, training

from SparseSegNetLib.scene.sample import loadSample


@pytest.mark.slow
def test_the_examples_of_the_console(slicerApplication, tmp_path):
    """As on the page on scripting, on the sample: a run kept, corrected, gone on with."""
    import SparseSegNet

    volumeNode, segmentationNode = loadSample(SAMPLE)
    run = SparseSegNet.densify(
        volumeNode, segmentationNode, timeBudget=8, runFolder=tmp_path / "run"
    )
    assert SparseSegNet.currentRun() is run and run.progress is not None
    assert run.wait() == "done", run.error
    assert run.result.IsA("vtkMRMLSegmentationNode")
    assert run.uncertainty.IsA("vtkMRMLScalarVolumeNode") and run.uncertainty is run.uncertainty
    for region in run.disagreements:
        assert set(region) >= {"voxels", "voxel", "drawn", "model"}
    assert run.takeCorrections() == 0, "nothing was corrected"
    result = run.result
    segmentId = result.GetSegmentation().GetNthSegmentID(0)
    erased = slicer.util.arrayFromSegmentBinaryLabelmap(result, segmentId, volumeNode).copy()
    was = erased[30] > 0
    erased[30] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(erased, result, segmentId, volumeNode)
    assert run.takeCorrections() == was.sum()
    drawn = segmentationNode.GetSegmentation()
    background = drawn.GetSegment(drawn.GetNthSegmentID(2))
    assert background.GetName() == "Background"
    again = SparseSegNet.resume(run.folder, volumeNode, segmentationNode, moreTime=5)
    assert again.wait() == "done", again.error
    first = slicer.util.arrayFromSegmentBinaryLabelmap(again.result, segmentId, volumeNode)
    assert not first[30][was].any(), "what was erased stays erased"


def test_channels_of_the_panel(user):
    annotated(user, 60.0)
    second, _ = addVolume("T2")
    user.ui.channelSelector.setCheckState(second, user.qt.Qt.Checked)
    assert user.panel.parameters.channels == [second]
    press(user, "trainButton")
    user.until(lambda: training(user))
    assert user.panel.controller.run._run.folder.read_input(mapped=True).image.shape[0] == 2
    assert user.panel.controller.run._run.folder.description["inputs"][0]["channels"] == [
        "MR",
        "T2",
    ]
    user.click("cancelButton")


def test_the_time_that_is_suggested(slicerApplication):
    """At most what the benchmark says is useful, however busy the computer was when measured."""
    from SparseSegNetLib.widget.data_section import suggestedTime

    assert suggestedTime(1_000_000, 1.7e6) == suggestedTime(1_000_000, 1e5) == 30
    assert suggestedTime(600_000, 1e4) == 20 and suggestedTime(1000, 1e9) == 20
    assert suggestedTime(10**9, 1e6) == 300

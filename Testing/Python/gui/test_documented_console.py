"""The console calls of the documentation run, block by block, on a small volume.

Training ends after three steps (`timeBudget=N` gets `maxSteps=3` beside it); one that a block
leaves running is stopped. Nothing else is replaced. The names that the page takes for granted are
given by the test.
"""

import ast
import re

import numpy as np
import pytest
import slicer.util
from documentation import ROOT, blocks
from scenes import SHAPE, SLICES, addVolume, planeOf

PAGE = ROOT / "docs" / "scripting.md"
CONSOLE = [block.text for block in blocks(PAGE) if block.language == "python" and not block.reason]


def drawn(name):
    """A volume, and a segmentation with its structures drawn in five slices."""
    volume, truth = addVolume(name)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} drawn")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    where = np.zeros(SHAPE, bool)
    for axis, index in SLICES:
        where[planeOf(axis, index)] = True
    for value, title in ((1, "Shell"), (2, "Core")):
        node.GetSegmentation().AddEmptySegment(title, title)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            ((truth == value) & where).astype(np.uint8), node, title, volume
        )
    return volume, node


def run_console(text, names):
    """Run a block as the console does: an expression alone is evaluated too."""
    text = re.sub(r"timeBudget=\d+", r"\g<0>, maxSteps=3", text)
    for statement in ast.parse(text).body:
        exec(compile(ast.Module([statement], []), str(PAGE), "exec"), names)


@pytest.mark.parametrize("number", range(len(CONSOLE)))
def test_runs(number, slicerApplication, tmp_path, monkeypatch):
    import SparseSegNet

    monkeypatch.chdir(tmp_path)
    text = CONSOLE[number]
    names = {"SparseSegNet": SparseSegNet, "folder": tmp_path / "run"}
    if "(ct1, drawn1)" in text:
        names["ct1"], names["drawn1"] = drawn("CT 1")
        names["ct2"], names["drawn2"] = drawn("CT 2")
        names["newVolume"], _ = addVolume("CT 3")
    else:
        names["volumeNode"], names["segmentationNode"] = drawn("MR")
    run_console(text, names)
    run = names["run"]
    if run.poll() not in ("done", "failed"):
        run.stop()
        run.wait()
    assert run.state == "done", run.error
    assert all(node.IsA("vtkMRMLSegmentationNode") for node in run.results)


def test_the_page_has_blocks():
    assert len(CONSOLE) >= 4
    assert all("run." in text for text in CONSOLE)

"""Where runs lie, runs of earlier versions, and the offer to delete when they take too much."""

import os
from pathlib import Path

import numpy as np
import pytest
import slicer
import slicer.util
from scenes import addVolume, annotated, press

from SparseSegNetLib.runfolder.disk_size import size_of
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.runfolder.stored_runs import may_go, stored_runs

MB = 1_000_000


@pytest.fixture
def root():
    return Path(os.environ["SPARSESEGNET_DATA"]) / "runs"


def stored(root, name, age=0, megabytes=1, finished=True):
    """A run folder as the store sees one; larger ones are files with holes."""
    folder = root / name
    for part in ("inputs/1", "result", "checkpoint"):
        (folder / part).mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    with (folder / "checkpoint" / "state.safetensors").open("wb") as file:
        file.truncate(round(megabytes * MB) - 2)
    if finished:
        np.save(folder / "result" / "1.npy", np.zeros(0))
        os.utime(folder / "result" / "1.npy", (2e9 - age, 2e9 - age))
    return folder


def names(root):
    return sorted(p.name for p in root.iterdir())


def looked(user, count):
    user.panel.stored.look()
    user.until(lambda: len(user.panel.stored.runs) == count, 20)
    user.turn()


def test_the_folder_of_runs_cannot_be_written(user, root):
    annotated(user)
    root.parent.mkdir(parents=True)
    root.write_text("in the way")
    press(user, "trainButton")
    assert not user.panel.controller.active and "cannot be created" in user.ui.statusLabel.text
    assert str(root) in user.ui.statusLabel.text
    assert "SPARSESEGNET_DATA" in user.ui.statusLabel.text


def test_old_runs_are_deleted(user, root, monkeypatch):
    annotated(user)
    for name in ("a", "b", "busy"):
        stored(root, name, finished=False)
    (root / "mine").mkdir()
    user.panel.parameters.runFolder = str(root / "b")
    with FolderLock(root / "busy") as lock:
        lock.path.write_text('{"pid": 1, "host": "elsewhere"}')
        looked(user, 3)
        assert user.ui.runsInfoLabel.text == "3, 3.0 MB"
        asked = []
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: asked.append(a))
        user.click("deleteRunsButton")
        assert "a (1.0 MB)" in asked[0][0] and (root / "a").is_dir(), "nothing goes unasked"
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: True)
        user.click("deleteRunsButton")
        user.until(lambda: names(root) == ["b", "busy", "mine"], 20)
        assert not user.ui.deleteRunsButton.enabled


def test_above_the_limit_the_oldest_finished_runs_are_offered(user, root, monkeypatch):
    annotated(user)
    sizes = {"new": 390, "oldest": 300, "old": 510, "shown": 900, "resumable": 700}
    for age, (name, megabytes) in enumerate(sizes.items()):
        stored(root, name, 10 * (5 - age) if name != "new" else 0, megabytes, name != "resumable")
    user.panel.parameters.runFolder = str(root / "shown")
    looked(user, 5)
    assert str(root) in user.ui.runsInfoLabel.toolTip
    assert not user.ui.runsOffer.visible, "2.8 of 20 GB"
    user.ui.runsLimitSpin.value = 2
    assert user.ui.runsOffer.visible and "2.8 GB of 2 GB" in user.ui.runsOfferLabel.text
    assert user.ui.freeRunsButton.text == "Delete the 2 oldest (810.0 MB)…"
    user.ui.advancedGroup.collapsed = False
    user.picture("22-runs-offered")
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: asked.append(a) or True)
    user.click("freeRunsButton")
    assert "oldest (300.0 MB)" in asked[0][0] and "old (510.0 MB)" in asked[0][0]
    user.until(lambda: names(root) == ["new", "resumable", "shown"], 20)
    assert not user.ui.runsOffer.visible
    user.ui.runsLimitSpin.value = 1
    assert user.ui.freeRunsButton.text.startswith("Delete the 1 oldest")
    user.click("freeRunsButton")
    assert not user.ui.freeRunsButton.visible and "see Runs in Advanced" in (
        user.ui.runsOfferLabel.text
    )
    user.until(lambda: names(root) == ["resumable", "shown"], 20)
    assert user.panel.runs.limit == 1
    slicer.app.userSettings().setValue("SparseSegNet/MostGigabytesOfRuns", "nonsense")
    assert user.panel.runs.limit == 20


def test_which_may_go(tmp_path):
    for name, age, megabytes in (("a", 5, 3), ("b", 9, 2), ("c", 7, 1)):
        stored(tmp_path, name, age, megabytes)
    (stored(tmp_path, "several", 99) / "inputs" / "2").mkdir()
    runs = stored_runs(tmp_path)
    assert [run.finished for run in runs] == [True, True, True, False], "one volume has no result"
    assert [round(run.size / MB) for run in runs] == [3, 2, 1, 1]
    assert size_of(tmp_path / "none") == 0
    for most, shown, expected in (
        (7.1, "", ""),
        (6.9, "", "b"),
        (4.5, "", "bc"),
        (4.5, "b", "ca"),
        (0, "", "bca"),
    ):
        found = may_go(runs, most * MB, [tmp_path / name for name in shown])
        assert "".join(run.path.name for run in found) == expected


def test_a_scene_finds_the_run_of_an_earlier_version(makeUser, root, tmp_path):
    """It was saved with the path beside Slicer's settings; the run is moved meanwhile."""
    user = makeUser()
    annotated(user)
    assert user.panel.runs.new("MR 1").parent == root
    old = stored(tmp_path / "settings" / "SparseSegNet-runs", "20260101-120000-MR", megabytes=0.1)
    model = old / "checkpoint" / "state.safetensors"
    user.panel.parameters.runFolder, user.panel.parameters.modelFile = str(old), str(model)
    bundle = str(tmp_path / "session.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    user.widget.exit()
    user.widget.cleanup()
    second = makeUser()  # with the scene that the first one left
    second.until(lambda: not old.parent.exists(), 20)
    new = root / old.name
    second.until(lambda: second.panel.parameters.runFolder == str(new), 20)
    slicer.mrmlScene.Clear(0)
    addVolume("another")
    assert slicer.mrmlScene.ReadFromMRB(bundle, True)
    second.until(lambda: second.panel.session is not None, 5)
    assert second.panel.parameters.runFolder == str(new)
    assert second.panel.parameters.modelFile == str(new / model.relative_to(old))
    looked(second, 1)
    assert not second.ui.deleteRunsButton.enabled, "the scene shows it"


def test_a_move_that_fails_is_told(makeUser, root, tmp_path):
    """The folder of local data cannot be made; the runs stay where they are."""
    old = stored(tmp_path / "settings" / "SparseSegNet-runs", "a", megabytes=0.1)
    root.parent.mkdir(parents=True)
    root.write_text("in the way")
    user = makeUser()
    user.until(lambda: "cannot be moved" in user.ui.statusLabel.text, 20)
    assert str(old.parent) in user.ui.statusLabel.text and (old / "run.json").is_file()

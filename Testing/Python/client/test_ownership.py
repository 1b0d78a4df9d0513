"""Only who holds the lock of a run folder changes it; what is begun is put away again."""

import gc
import sys
import tempfile
import warnings

import numpy as np
import pytest
import torch
from small_runs import run_folder, until, with_slice

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.cli import resume
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.engine.training.checkpoint import load_state, save_state
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.runfolder.changes import Changes
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.protocol import encode


class Told:
    """A transport of which the test says what the engine says."""

    def __init__(self):
        self.said, self.sent = [], []

    def receive(self, timeout=0.0):
        return self.said.pop(0) if self.said else None

    def send(self, line):
        self.sent.append(line)

    def close_input(self):
        pass


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def contents(folder):
    """What the files of a run folder hold, without what an engine says and the lock itself."""
    return {
        p.relative_to(folder.path): p.read_bytes()
        for p in folder.path.rglob("*")
        if p.is_file() and p.name not in ("lock", "log.txt")
    }


def test_the_folder_of_another_engine_stays_as_it_is(tmp_path, temporary):
    folder, truth = run_folder(tmp_path / "run")
    changes = Changes(Options(max_steps=2), *with_slice(folder, truth, "k", 9))
    before = contents(folder)
    with FolderLock(folder.path):
        run = EngineRun(folder, changes=changes, patience=0.2)
        assert run.wait(60) == "failed"
    assert run.error.code == "locked" and "another engine works on" in run.error.cause
    assert contents(folder) == before
    assert not list(temporary.iterdir())


def test_the_command_line_changes_nothing_of_another_engine(tmp_path, monkeypatch, capsys):
    folder, _ = run_folder(tmp_path / "run")
    before = contents(folder)
    monkeypatch.setattr(resume, "ENDING", 0.2)
    with FolderLock(folder.path):
        assert (
            cli.main(
                [
                    "resume",
                    str(folder.path),
                    "-o",
                    str(tmp_path / "o.nrrd"),
                    "--time-budget",
                    "50",
                    "--quiet",
                ]
            )
            == 2
        )
    assert "another engine works on" in capsys.readouterr().err
    assert contents(folder) == before


def test_an_engine_that_ends_is_waited_for(tmp_path):
    folder, truth = run_folder(tmp_path / "run")
    labels, slices = with_slice(folder, truth, "k", 9)
    lock = FolderLock(folder.path)
    run, events = (
        EngineRun(
            folder,
            changes=Changes(Options(max_steps=2, device="cpu"), labels, slices),
            patience=300,
        ),
        [],
    )
    run.observe(events.append)
    assert until(run, lambda: events), "it has begun"
    lock.release()
    assert run.wait(120) == "done", run.error
    assert run.summary["step"] == 2 and RunFolder.open(folder.path).options.max_steps == 2
    assert (folder.read_labels() == labels).all() and folder.read_slices() == slices


def test_labels_drawn_before_the_engine_owns_the_folder_are_kept_back(tmp_path):
    folder, truth = run_folder(tmp_path / "run")
    labels, slices = with_slice(folder, truth, "k", 9)
    before, wire = contents(folder), Told()
    run = EngineRun(folder, wire)
    wire.said.append(("out", encode("event", "started", pid=1)))
    run.poll()
    run.change_labels(labels, slices)
    assert contents(folder) == before and not wire.sent
    wire.said.append(("out", encode("event", "ready", pid=1, device="cpu")))
    run.poll()
    assert (folder.read_labels() == labels).all() and b"labels-changed" in wire.sent[0]


def test_either_generation_of_the_checkpoint_can_be_gone_on_from(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from SparseSegNetLib.widget.run_store import resumable

    folder, _ = run_folder(tmp_path / "run")
    newest, previous = folder.state_paths
    assert not resumable(str(folder.path))
    for step in (1, 2):
        save_state(folder.state_paths, {"weights": torch.zeros(3)}, {"steps": step})
    assert resumable(str(folder.path)) and load_state(folder.state_paths)[1]["steps"] == 2
    newest.write_bytes(newest.read_bytes()[:-1])
    assert resumable(str(folder.path)) and load_state(folder.state_paths)[1]["steps"] == 1
    newest.unlink()
    assert resumable(str(folder.path)) and load_state(folder.state_paths)[1]["steps"] == 1
    previous.write_bytes(b"no state")
    assert not resumable(str(folder.path)) and load_state(folder.state_paths) is None


def test_no_log_is_left_open(tmp_path, monkeypatch):
    folder, _ = run_folder(tmp_path / "run")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        with pytest.raises(EngineError, match="cannot be started"):
            EngineRun(folder)
        EngineRun(folder, Told())  # let go of before it ends
        gc.collect()
    assert not [w for w in noticed if issubclass(w.category, ResourceWarning)]


def test_a_command_whose_engine_does_not_start_leaves_nothing(
    tmp_path, temporary, monkeypatch, capsys
):
    import SimpleITK as sitk

    folder, _ = run_folder(tmp_path / "run")
    item = folder.read_input()
    for name, array in (("image", item.image[0].astype(np.float32)), ("labels", item.labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nrrd"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert (
        cli.main(
            [
                "densify",
                str(tmp_path / "image.nrrd"),
                str(tmp_path / "labels.nrrd"),
                "-o",
                str(tmp_path / "o.nrrd"),
            ]
        )
        == 5
    )
    assert "cannot be started" in capsys.readouterr().err
    assert not list(temporary.iterdir())
    with pytest.raises(EngineError):
        EngineRun(folder, changes=Changes(Options()))
    assert not list(temporary.iterdir())

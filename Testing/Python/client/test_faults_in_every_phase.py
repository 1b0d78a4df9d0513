"""The engine is killed, the disk fills up, the run folder goes away: in every phase."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from injected_faults import VARIABLE, Fault, moved
from small_runs import named, run_folder, until, watched

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.phases import Phase

SHAPE = (8, 9, 10)
STEPS = 3
INPUTS = ("image.npy", "labels.npy", "slices.json", "geometry.json")


@pytest.fixture
def folder(tmp_path):
    """A run folder with a result and a preview of an earlier run, and no checkpoint."""
    made, _ = run_folder(tmp_path / "run", shape=SHAPE, max_steps=STEPS)
    earlier = np.full(SHAPE, 2, np.uint8)
    made.write_result(1, earlier, np.zeros(SHAPE, np.uint8))
    made.write_preview(1, earlier)
    return made


def begun(folder, phase):
    """A run that comes through a phase."""
    opened = RunFolder.open(folder.path)
    steps = 0 if phase is Phase.PROBING else STEPS  # speed is measured where time counts
    opened.options = replace(
        opened.options, max_steps=steps, n4=phase is Phase.CORRECTING_BIAS, time_budget=60.0
    )
    opened.description["options"] = opened.options.to_json()
    opened.save()
    run, events = watched(opened)
    if phase is Phase.PAUSED:
        run.pause()
    return run, events


def contents(path):
    return {name: (path / "inputs" / "1" / name).read_bytes() for name in INPUTS}


def check_readable(path, inputs):
    """Annotation as it was, and what was shown before or something newer, whole."""
    assert contents(path) == inputs
    opened = RunFolder.open(path)
    drawn = opened.read_labels()
    previews = [p for p in [opened.read_preview()] if p is not None]
    assert previews or not (opened.read_result() == 2).all(), "only a result takes its place"
    for found in (opened.read_result(), *previews):
        earlier, newer = (found == 2).all(), (found == drawn)[drawn != UNLABELLED].all()
        assert earlier or newer
    assert not opened.notes


def check_goes_on(path):
    """The run resumes and ends with a result of its own; nothing of the faults is left."""
    run, _ = begun(RunFolder.open(path), None)
    assert run.wait(60) == "done", run.error
    drawn = run.folder.read_labels()
    assert (run.result() == drawn)[drawn != UNLABELLED].all()
    assert not list(path.rglob(".writing-*"))


def test_killed(folder, monkeypatch):
    inputs = contents(folder.path)
    for phase in Phase:
        monkeypatch.setenv(VARIABLE, Fault("killed", str(folder.path), phase).text)
        run, _ = begun(folder, phase)
        assert run.wait(60) == "failed" and run.error.code == "killed", (phase, run.error)
        assert "resume" in run.error.remedy and str(folder.path) in run.error.remedy
        check_readable(folder.path, inputs)
    monkeypatch.delenv(VARIABLE)
    check_goes_on(folder.path)


def ended(folder, phase):
    """A run whose fault does not kill it, followed to its end."""
    run, events = begun(folder, phase)
    if phase is Phase.PAUSED:
        assert until(run, lambda: named(events, "paused"))
        run.resume()
    if phase is Phase.PROBING:
        run.stop()
    run.wait(60)
    return run


@pytest.mark.parametrize(
    ("kind", "code", "cause", "remedy"),
    [
        ("full", "disk-full", "the disk of the run folder {} is full", "Free some space there"),
        ("read-only", "files", "the run folder {} cannot be written to (", "Allow writing there"),
        ("moved", "files", "the run folder {} is gone", "Bring it back to this place"),
    ],
)
def test_nothing_can_be_written(folder, monkeypatch, kind, code, cause, remedy):
    inputs, path = contents(folder.path), folder.path
    for phase in Phase:
        monkeypatch.setenv(VARIABLE, Fault(kind, str(path), phase).text)
        run = ended(folder, phase)
        assert run.state == "failed" and run.error.code == code, (phase, run.error)
        assert cause.format(path) in run.error.cause, phase
        assert remedy in run.error.remedy and f'resume "{path}"' in run.error.remedy, phase
        told = [text for text in run.warnings if "cannot be written" in text]
        assert len(told) <= 1 and all(cause.format(path) in text for text in told), phase
        if kind == "moved":
            assert not path.exists(), "no other folder is made in its place"
            moved(path).rename(path)
        check_readable(path, inputs)
        assert not list(path.rglob(".writing-*"))
    monkeypatch.delenv(VARIABLE)
    check_goes_on(path)


def test_the_folder_is_deleted(folder, monkeypatch):
    aside = folder.path.with_name("aside")
    shutil.copytree(folder.path, aside)
    for phase in Phase:
        monkeypatch.setenv(VARIABLE, Fault("deleted", str(folder.path), phase).text)
        run = ended(folder, phase)
        assert run.state == "failed" and run.error.code == "files", (phase, run.error)
        assert f"{folder.path} is gone" in run.error.cause and not folder.path.exists(), phase
        shutil.copytree(aside, folder.path)


def test_it_goes_on_when_there_is_space_again(folder, monkeypatch):
    """The disk is full from the comparison of slices until the training on all slices."""
    fault = Fault("full", str(folder.path), Phase.COMPARING_SLICES, until=Phase.ALL_SLICES)
    monkeypatch.setenv(VARIABLE, fault.text)
    run = ended(folder, None)
    assert run.state == "done", run.error
    (told,) = (text for text in run.warnings if "cannot be written" in text)
    assert str(folder.path) in told and "Free some space there" in told
    monkeypatch.delenv(VARIABLE)
    assert (folder.path / "checkpoint" / "state.safetensors").is_file()
    check_readable(folder.path, contents(folder.path))
    check_goes_on(folder.path)


# What a run writes, in this order.
WRITTEN = (
    "lock",
    "metrics.jsonl",
    "run.json",
    "preview/1.npy",
    "result/1-profiles.npy",
    "result/1-score.json",
    "checkpoint/state-next.safetensors",
    "checkpoint/state-previous.safetensors",
    "checkpoint/state.safetensors",
    "result/1-disagreements.json",
    "result/1-uncertainty.npy",
    "result/1.npy",
    "checkpoint/model.safetensors",
)


@pytest.fixture
def trained(folder):
    """The folder with a checkpoint, to which a run adds STEPS steps; with a model at its end."""
    folder.description["options"]["save_model"] = True
    folder.save()
    run, _ = begun(folder, None)
    assert run.wait(60) == "done", run.error
    return RunFolder.open(folder.path)


def test_the_files_are_all_that_a_run_writes(trained, monkeypatch, tmp_path):
    record = tmp_path / "record"
    monkeypatch.setenv(VARIABLE, Fault("record", str(trained.path), path=str(record)).text)
    run, _ = longer(trained)
    assert run.wait(60) == "done", run.error
    names = [
        name for name in record.read_text(encoding="utf-8").splitlines() if ".writing-" not in name
    ]
    assert list(dict.fromkeys(names)) == list(WRITTEN)


def longer(folder):
    opened = RunFolder.open(folder.path)
    opened.options = replace(opened.options, max_steps=opened.options.max_steps + STEPS)
    opened.description["options"] = opened.options.to_json()
    opened.save()
    return watched(opened)


def test_killed_while_a_file_is_written(trained, monkeypatch):
    """Between the temporary file and its name, for each file in turn."""
    inputs, steps = contents(trained.path), 0
    for file in WRITTEN:
        monkeypatch.setenv(VARIABLE, Fault("killed", str(trained.path), file=file).text)
        run, events = longer(trained)
        assert run.wait(60) == "failed" and run.error.code == "killed", (file, run.error)
        check_readable(trained.path, inputs)
        (again,) = named(events, "resumed") or [{"step": 0}]
        assert again["step"] >= steps, file
        steps = max(steps, again["step"])
    monkeypatch.delenv(VARIABLE)
    run, events = longer(trained)
    assert run.wait(60) == "done", run.error
    assert named(events, "resumed")[0]["step"] >= max(steps, STEPS)
    check_readable(trained.path, inputs)
    assert not list(trained.path.rglob(".writing-*"))

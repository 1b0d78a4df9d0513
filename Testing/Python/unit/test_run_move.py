"""Runs move to another place once: nothing is lost, nothing is there twice."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from SparseSegNetLib.runfolder import file_retries
from SparseSegNetLib.runfolder.lock import FolderLock
from SparseSegNetLib.runfolder.run_move import found_again, move_runs, moved_from


@pytest.fixture
def places(tmp_path):
    return tmp_path / "roaming" / "SparseSegNet-runs", tmp_path / "local" / "runs"


def run(root, name, content="weights"):
    folder = root / name
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "checkpoint" / "model").write_text(content)
    return folder


def contents(root):
    """Weights of all runs in a place, hidden folders too."""
    if not root.is_dir():
        return {}
    return {
        p.name: (p / "checkpoint/model").read_text(encoding="utf-8")
        for p in root.iterdir()
        if p.is_dir()
    }


@pytest.fixture
def other_disk(monkeypatch, places):
    """Nothing can be renamed from one place to the other."""
    rename = os.rename

    def within(source, target):
        if places[0] in source.parents and places[1] in target.parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(file_retries.os, "rename", within)


@pytest.fixture(params=["the same disk", "another disk"])
def either(request):
    if request.param == "another disk":
        request.getfixturevalue("other_disk")


def test_runs_are_moved_once(places, either):
    old, new = places
    assert move_runs(old, new) == [] and not new.exists(), "nothing is there"
    first, second = run(old, "a"), run(old, "b", "others")
    mtime = (first / "run.json").stat().st_mtime_ns
    assert move_runs(old, new) == [new / "a", new / "b"]
    assert contents(new) == {"a": "weights", "b": "others"} and not old.exists()
    assert (new / "a" / "run.json").stat().st_mtime_ns == mtime
    assert moved_from(new / "a") == str(first)
    assert found_again(str(second), new) == str(new / "b")
    model = second / "checkpoint" / "model"
    assert found_again(str(model), new) == str(new / "b" / "checkpoint" / "model")
    for path in ("", "/not/ours", str(old / "c"), str(new / "a")):
        assert found_again(path, new) == path
    assert move_runs(old, new) == [] and len(contents(new)) == 2


def test_a_name_that_exists_already(places, either):
    old, new = places
    mine = run(old, "a", "mine")
    run(new, "a", "another Slicer's")
    assert move_runs(old, new) == [new / "a-2"]
    assert contents(new) == {"a": "another Slicer's", "a-2": "mine"}
    assert found_again(str(mine), new) == str(new / "a-2")


def test_a_run_that_a_process_works_on_stays(places, either):
    old, new = places
    busy = run(old, "busy")
    run(old, "free")
    (old / "notes.txt").write_text("somebody's")
    with FolderLock(busy):
        assert move_runs(old, new) == [new / "free"]
        assert found_again(str(busy), new) == str(busy)
    assert move_runs(old, new) == [new / "busy"], "next time"
    assert [p.name for p in old.iterdir() if p.name != "lock"] == ["notes.txt"]


def test_two_slicers_at_once(places):
    old, new = places
    run(old, "a")
    with FolderLock(old):
        assert move_runs(old, new) == []
    assert move_runs(old, new) == [new / "a"]


KILLED = """
import errno, os, shutil, sys
from pathlib import Path
from SparseSegNetLib.runfolder import run_move

old, new, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
rename = run_move.rename

def renamed(source, target):
    if source.parent == old and target.parent == new:
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    if step == "rename" and target.parent == new:
        os._exit(9)
    rename(source, target)

def copied(source, target, **options):
    (target / "checkpoint").mkdir(parents=True)
    os._exit(9)

def removed(folder, ignore_errors=False):
    if folder.parent == old:
        (folder / "run.json").unlink()
        if step == "half of it":
            (folder / "moved-from.json").unlink()
        os._exit(9)

run_move.rename = renamed
if step == "copy":
    shutil.copytree = copied
if step in ("deletion", "half of it"):
    run_move.remove_tree = removed
run_move.move_runs(old, new)
"""


@pytest.mark.parametrize("step", ["copy", "rename", "deletion", "half of it"])
def test_killed_half_way_to_another_disk(places, other_disk, step):
    """In the copy, after it, and in the deletion of what was copied: the next start goes on."""
    old, new = places
    path = run(old, "a")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(old), str(new), step],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 9 and not path.exists()
    moved = step in ("deletion", "half of it")
    assert found_again(str(path), new) == str(new / "a" if moved else path)
    assert move_runs(old, new) == [new / "a"]
    assert contents(new) == {"a": "weights"} and not old.exists()
    assert found_again(str(path), new) == str(new / "a")


def test_another_run_of_a_name_that_was_moved_before(places, other_disk):
    old, new = places
    run(old, "a", "first")
    assert move_runs(old, new) == [new / "a"]
    run(old, "a", "second")
    assert move_runs(old, new) == [new / "a-2"]
    assert contents(new) == {"a": "first", "a-2": "second"}


def test_a_full_disk_leaves_the_run_as_it_was(places, other_disk, monkeypatch):
    old, new = places
    path = run(old, "a")

    def full(source, target, **options):
        (target / "checkpoint").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(shutil, "copytree", full)
        move_runs(old, new)
    assert contents(old) == {"a": "weights"} and not contents(new)
    assert found_again(str(path), new) == str(path)
    assert move_runs(old, new) == [new / "a"]


def test_links_are_left_alone(places, tmp_path):
    old, new = places
    elsewhere = run(tmp_path, "elsewhere")
    old.mkdir(parents=True)
    try:
        (old / "link").symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("no links can be made here")
    assert move_runs(old, new) == [] and (elsewhere / "run.json").is_file()
    assert (old / "link").is_symlink()

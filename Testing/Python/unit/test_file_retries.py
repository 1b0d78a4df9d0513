"""Files that a virus scanner holds for a moment, as on Windows; paths that are too long."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder import atomic, file_retries
from SparseSegNetLib.runfolder.file_retries import WAITS, remove, remove_tree, replace, retried
from SparseSegNetLib.runfolder.forms import read_json
from SparseSegNetLib.runfolder.path_length import DEEPEST, check_path, path_fault


@pytest.fixture(autouse=True)
def waited(monkeypatch):
    """The waits; none is waited in truth."""
    waits = []
    monkeypatch.setattr(file_retries, "WINDOWS", True)
    monkeypatch.setattr(file_retries.time, "sleep", waits.append)
    return waits


class Scanner:
    """Holds what is done with files for the first `times` attempts, as Windows reports it."""

    def __init__(self, action, times, code=32):
        self.action, self.left, self.code = action, times, code

    def __get__(self, one, kind):
        return partial(self, one)

    def __call__(self, *args, **options):
        if self.left:
            self.left -= 1
            error = PermissionError(13, "The process cannot access the file", str(args[0]))
            error.winerror = self.code
            raise error
        return self.action(*args, **options)


@pytest.mark.parametrize("code", [5, 32, 33])
def test_a_file_that_is_held_is_written_a_little_later(tmp_path, monkeypatch, waited, code):
    scanner = Scanner(os.replace, 3, code)
    monkeypatch.setattr(os, "replace", scanner)
    atomic.write_json(tmp_path / "run.json", {"a": 1})
    assert (tmp_path / "run.json").read_text(encoding="utf-8").strip() == '{\n  "a": 1\n}'
    assert waited == list(WAITS[:3]) and not scanner.left
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_one_that_stays_held_is_named_with_the_remedy(tmp_path, monkeypatch, waited):
    file = tmp_path / "run.json"
    file.write_text("old")
    monkeypatch.setattr(os, "replace", Scanner(os.replace, 99))
    with pytest.raises(PermissionError) as caught:
        atomic.write_json(file, {})
    assert waited == list(WAITS) and 1.5 < sum(waited) < 2.5 and len(waited) == 9, "ten attempts"
    assert caught.value.filename == str(file) and "virus scanner" in caught.value.strerror
    assert file.read_text(encoding="utf-8") == "old" and [p.name for p in tmp_path.iterdir()] == [
        "run.json"
    ]


def test_deleting_and_reading(tmp_path, monkeypatch, waited):
    file, folder = tmp_path / "f.json", tmp_path / "run"
    file.write_text("1")
    (folder / "sub").mkdir(parents=True)
    monkeypatch.setattr(Path, "open", Scanner(Path.open, 2, 33))
    assert read_json(file, lambda value, where: None, "") == 1
    monkeypatch.setattr(shutil, "rmtree", Scanner(shutil.rmtree, 1))
    remove_tree(folder)
    monkeypatch.setattr(Path, "unlink", Scanner(Path.unlink, 4, 5))
    remove(file)
    assert not list(tmp_path.iterdir()) and len(waited) == 7
    remove(file)
    remove_tree(folder)
    assert len(waited) == 7, "what is not there needs no waiting"
    folder.mkdir()
    monkeypatch.setattr(shutil, "rmtree", Scanner(shutil.rmtree, 11))
    with pytest.raises(PermissionError, match="virus scanner"):
        remove_tree(folder)
    remove_tree(folder, ignore_errors=True)
    assert not folder.exists()


def test_other_errors_and_other_systems_are_not_waited_for(tmp_path, monkeypatch, waited):
    def refused():
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError, match="Permission denied"):
        retried(refused, tmp_path)
    with pytest.raises(PermissionError):
        retried(partial(Scanner(print, 1, 1224), tmp_path), tmp_path)
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "none", tmp_path / "b")
    monkeypatch.setattr(file_retries, "WINDOWS", False)
    with pytest.raises(PermissionError, match="cannot access"):
        retried(partial(Scanner(print, 1), tmp_path), tmp_path)
    assert not waited
    monkeypatch.setattr(file_retries, "WINDOWS", True)
    own, held = [], Scanner(len, 2)
    assert retried(lambda: held("abc"), tmp_path, own.append) == 3
    assert own == list(WAITS[:2]) and not waited


@pytest.mark.parametrize(
    ("path", "below", "system", "said"),
    [
        ("/data/" + 250 * "n", 0, "linux", None),
        ("/data/" + 256 * "n" + "/run", 0, "linux", "256 bytes, and the system takes 255"),
        ("/data/" + 128 * "ü", 0, "linux", "256 bytes"),
        ("/data/" + 128 * "ü", 0, "win32", None),
        ("/data" + 20 * ("/" + 200 * "n"), 0, "linux", None),
        ("/data" + 21 * ("/" + 200 * "n"), 0, "linux", "the system takes 4095"),
        ("/data" + 6 * ("/" + 200 * "n"), 0, "darwin", "the system takes 1023"),
        ("/" + 249 * "n", 0, "win32", None),
        ("/" + 249 * "n", DEEPEST, "win32", "shorter path, or switch long paths on"),
        ("/" + 5 * ("/" + 90 * "n"), 0, "win32", "Windows takes 259"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
def test_paths_that_are_too_long(path, below, system, said):
    fault = path_fault(Path(path), below, system, lambda: False)
    assert fault is None if said is None else said in fault
    if system == "win32":
        found = path_fault(Path(path), below, system, lambda: True)
        assert found is None, "with long paths switched on"
    if system == sys.platform and said is not None:
        with pytest.raises(InputError, match="choose a shorter"):
            check_path(Path(path), below)

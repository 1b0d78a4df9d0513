"""A disk that is full, or cannot be written to, at each step of each writer of a run folder."""

import errno
import itertools
import os
import tempfile

import numpy as np
import pytest

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.runfolder.atomic import write_array, write_json
from SparseSegNetLib.runfolder.changes import Changes
from SparseSegNetLib.runfolder.disk_faults import disk_fault, written
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (3, 4, 5)
GRID = Geometry(SHAPE[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
LABELS = np.full(SHAPE, UNLABELLED, np.uint8)
LABELS[1] = 1
CALLS = ("open", "mkdir", "fsync", "replace")  # of `os`, by which a file or a folder comes to be
OPEN = os.open


class Full:
    """Lets the first calls pass; the next one finds no space."""

    def __init__(self, monkeypatch, passing, names=CALLS, number=errno.ENOSPC):
        self.left, self.number = passing, number
        for name in names:
            monkeypatch.setattr(os, name, self.refusing(getattr(os, name)))

    def refusing(self, call):
        def answer(path, *arguments, **options):
            if call is OPEN and not arguments[0] & os.O_CREAT:
                return call(path, *arguments, **options)  # shutil.rmtree looks into folders
            self.left -= 1
            if self.left < 0:
                raise OSError(self.number, os.strerror(self.number))
            return call(path, *arguments, **options)

        return answer


def create(path):
    item = RunInput(np.zeros((1, *SHAPE), np.int16), LABELS, GRID, [AnnotatedSlice("k", 1)])
    return RunFolder.create(path, [item], [Segment("a", "Shell", (1, 0, 0), 1)], Options())


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    "write", [lambda p: write_json(p, {"a": 1}), lambda p: write_array(p, LABELS)]
)
def test_a_file_stays_as_it_was(tmp_path, monkeypatch, step, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        Full(patch, 0, [step])
        write(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_bytes() != b"old", "there is space again"


@pytest.mark.parametrize("exists", [False, True])
def test_no_half_run_folder_is_left(tmp_path, monkeypatch, exists):
    path = tmp_path / "run"
    for passing in itertools.count():
        if exists:
            path.mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            full = Full(patch, passing)
            try:
                create(path)
            except InputError as error:
                assert str(path) in str(error) and "enough free space" in str(error)
            else:
                break
            finally:
                refused = full.left < 0
        assert refused and path.exists() == exists and not [*tmp_path.rglob("*")][exists:]
    assert passing > 12 and not refused
    assert (RunFolder.open(path).read_labels() == LABELS).all()


@pytest.mark.parametrize("passing", range(6))
def test_new_labels_are_written_whole_or_not_at_all(tmp_path, monkeypatch, passing):
    run = create(tmp_path / "run")
    before = run.read_labels(), run.read_slices()
    other = np.where(LABELS == 1, 0, LABELS).astype(np.uint8)
    with monkeypatch.context() as patch:
        full = Full(patch, passing)
        try:
            with written("the changed labels", run.path):
                run.write_labels(1, other, before[1])
        except EngineError as error:
            assert error.code == "disk-full" and str(run.path) in error.cause
            assert "changed labels" in error.cause and "Free some space there" in error.remedy
    expected = before[0] if full.left < 0 else other
    assert np.array_equal(run.read_labels(), expected) and run.read_slices() == before[1]
    assert not list(run.path.rglob(".writing-*"))


def test_labels_that_cannot_be_handed_to_an_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    changes = Changes(Options(), LABELS, [])
    for passing in range(3):
        with monkeypatch.context() as patch, pytest.raises(EngineError, match="TMPDIR") as caught:
            Full(patch, passing)
            changes.handed()
        assert caught.value.code == "files" and "No space left" in caught.value.cause
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "code", "cause", "remedy"),
    [
        (errno.ENOSPC, "disk-full", "is full", "Free some space"),
        (errno.EROFS, "files", "cannot be written to", "Allow writing"),
        (errno.EACCES, "files", "cannot be written to", "Allow writing"),
        (errno.EIO, "files", "cannot be read or written (Input/output error)", "Check its disk"),
    ],
)
def test_each_answer_of_the_system_is_told_with_the_folder(tmp_path, number, code, cause, remedy):
    fault = disk_fault(OSError(number, os.strerror(number)), tmp_path)
    assert fault.code == code and fault.remedy.startswith(remedy)
    assert f"{tmp_path} {cause}" in fault.cause
    gone = disk_fault(OSError(number, os.strerror(number)), tmp_path / "none")
    assert gone.code == "files" and f"{tmp_path / 'none'} is gone" in gone.cause

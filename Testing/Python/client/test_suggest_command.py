"""`sparsesegnet suggest`: slices with reasons, before and after a run."""

import json
import re

import numpy as np
import pytest
from small_runs import SEGMENTS, run_folder, watched

from SparseSegNetLib.annotation.slices import parse_slices
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.score import worth


@pytest.fixture
def folder(tmp_path):
    return run_folder(tmp_path / "run", (1, 1, 1), max_steps=2)


def suggested(capsys, folder, *arguments):
    code = cli.main(["suggest", str(folder.path), *map(str, arguments)])
    told = capsys.readouterr()
    assert code == 0, told.err
    return told


def refused(capsys, *arguments):
    code = cli.main(["suggest", *map(str, arguments)])
    told = capsys.readouterr()
    assert code == 2 and told.out == "" and "Traceback" not in told.err
    return told.err


class TestBeforeTheRun:
    def test_lines(self, folder, capsys):
        lines = suggested(capsys, folder[0]).out.splitlines()
        assert len(lines) == 3 and all(re.match(r"[ijk]:\d+ +\w", line) for line in lines)

    def test_json(self, folder, capsys):
        (row,) = json.loads(suggested(capsys, folder[0], "-n", 2, "--json").out)
        assert row["input"] == 1 and row["name"] == "input 1" and len(row["slices"]) == 2
        first = row["slices"][0]
        parse_slices([first["slice"]])
        assert first["reason"] and first["segment"] in (None, 1, 2)

    def test_annotation_of_a_file(self, folder, capsys, tmp_path):
        """What was drawn since the run folder was written; a segment may be missing in it."""
        run, truth = folder
        labels = np.where(truth == 1, 1, 0).astype(np.uint8)
        labels[[n for n in range(len(labels)) if n != 9]] = 0
        file = tmp_path / "now.seg.nrrd"
        write_labels(file, labels, run.geometry(), SEGMENTS[:1])
        told = suggested(capsys, run, "--labels", file, "--slices", "k:9").out
        assert "Core is not drawn yet" in told

    def test_segments_of_another_run(self, folder, capsys, tmp_path):
        run, truth = folder
        file = tmp_path / "now.seg.nrrd"
        other = [SEGMENTS[0], type(SEGMENTS[1])("c", "Kidney", (0, 0, 1), 2)]
        write_labels(file, truth, run.geometry(), other)
        said = refused(capsys, run.path, "--labels", file, "--slices", "k:9")
        assert "holds the segment 'Kidney'" in said and "Shell, Core" in said

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["-n", "0"], "-n 0: expected 1 or more"),
            (["--slices", "k:3"], "--slices tells how --labels is read"),
            (["--unlabelled", "0"], "--unlabelled tells how --labels is read"),
        ],
    )
    def test_refused(self, folder, capsys, arguments, said):
        assert said in refused(capsys, folder[0].path, *arguments)

    def test_no_run(self, capsys, tmp_path):
        assert str(tmp_path) in refused(capsys, tmp_path)


def test_with_a_run(folder, capsys):
    """By what the model is unsure of; without that where its file is damaged, which is said."""
    run, _ = watched(folder[0])
    assert run.wait(120) == "done", run.error
    folder = RunFolder.open(folder[0].path)
    found, result = folder.read_profiles(), folder.read_result()
    for axis, along in zip("kji", range(3), strict=True):
        rest = tuple(a for a in range(3) if a != along)
        areas = [(result == value).sum(axis=rest) for value in (1, 2)]
        assert np.array_equal(found.areas(axis), areas)
        drawn = [s.index for s in folder.read_slices() if s.axis == axis]
        assert not found.uncertainty(axis)[:, drawn].any() and found.uncertainty(axis).any()
    told = suggested(capsys, folder, "-n", 3)
    assert "unsure" in told.out
    gain = worth(folder.read_score(), folder.names, folder.geometry())
    assert gain and told.err == f"note: {gain}\n", "what these slices are worth, beside them"
    (folder.path / "result" / "1-profiles.npy").write_bytes(b"broken")
    told = suggested(capsys, folder)
    assert len(told.out.splitlines()) == 3 and "unsure" not in told.out
    assert "1-profiles.npy is damaged" in told.err

"""The expected score: `crossvalidate`, after `densify`, of slices drawn while it trains."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from phantom import nested
from small_runs import named, run_folder, training, until, watched, with_slice
from test_command_line import save

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.score import score_lines

GRID = Geometry((20, 22, 18), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture
def case(tmp_path):
    image, truth = nested((18, 22, 20))
    save(tmp_path / "image.nrrd", image)
    slices = spread_slices((2, 2, 2), truth.shape, truth > 0)
    save(tmp_path / "drawn.nrrd", restrict_to_slices(truth, slices))
    return tmp_path


def test_crossvalidate_prints_a_score_and_leaves_nothing(case, capsys, monkeypatch):
    scratch = case / "temporary"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    files = [str(case / "image.nrrd"), str(case / "drawn.nrrd")]
    assert cli.main(["crossvalidate", *files, "--quiet", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert len(score["segments"]) == len(score["names"]) == 2
    assert [one["slices"] for one in score["segments"]] == [6, 4]
    for one in score["segments"]:
        assert one["low"] < one["iou"] < one["high"]
    assert score["slices"] == 6 and score["history"][0]["slices"] == 6
    assert not list(scratch.iterdir())


def test_where_nothing_can_be_held_out_it_says_so(case, capsys):
    drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "drawn.nrrd")))
    one = np.full_like(drawn, 255)
    one[9] = drawn[9]
    one[9][one[9] == 255] = 0
    save(case / "one.nrrd", one)
    files = [str(case / "image.nrrd"), str(case / "one.nrrd")]
    assert cli.main(["crossvalidate", *files, "--quiet"]) == 2
    assert "no score can be given: it takes two slices" in capsys.readouterr().err
    assert cli.main(["crossvalidate", files[0]]) == 2
    assert "crossvalidate needs at least two files" in capsys.readouterr().err


def test_slices_drawn_while_it_trains_are_scored_before_they_are_learnt(tmp_path):
    folder, truth = run_folder(tmp_path / "run", counts=(2, 2, 1), time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run))
    assert named(events, "score")
    before = folder.read_score()
    assert before["new_slices"] == [] and before["slices"] == 5
    labels, slices = with_slice(folder, truth, "k", 4)
    run.change_labels(labels, slices)
    assert until(run, lambda: named(events, "labels"))
    run.stop()
    assert run.wait(90) == "done", run.error
    score = folder.read_score()
    assert [(one["axis"], one["index"]) for one in score["new_slices"]] == [("k", 4)]
    assert {"axis": "k", "index": 4} in score["drawn"]
    lines = score_lines(score, folder.names, folder.geometry())
    known = [v for v in score["new_slices"][0]["iou"] if v is not None]
    assert np.mean(known) > 0.5
    assert lines[-1] == f"Your last slice, as predicted before you drew: {np.mean(known):.2f}."


def score(segments=((0.8, 4), (None, 1)), gains=(0.03,), new=(), near=0.8, history=()):
    """A score as a run folder holds it."""
    rows = []
    for iou, slices in segments:
        row = dict.fromkeys(
            ("iou", "low", "high", "dice", "near", "folds", "plug_in", "near_folds", "near_plug_in")
        )
        if iou is not None:
            row |= {"iou": iou, "low": iou - 0.1, "high": iou + 0.1, "near": near}
        rows.append({**row, "slices": slices, "uncovered": 0.2})
    diagram = {"voxels": [1], "confidence": [0.5], "accuracy": [0.5], "error": 0.0}
    return {
        "slices": 5,
        "segments": rows,
        "calibration": {"level": 0.0, "slope": 0.0, "middle": 0.0},
        "reliability": {"before": diagram, "after": diagram},
        "gains": [{"axis": "k", "slices": 2, "iou": v} for v in gains],
        "drawn": [],
        "new_slices": [
            {"axis": "k", "index": 3, "iou": [v, None], "prefilled": n > 2}
            for n, v in enumerate(new)
        ],
        "history": list(history),
    }


class TestSentences:
    def lines(self, **about):
        return score_lines(score(**about), ["Liver", "Bladder"], GRID)

    def test_no_number_for_what_one_slice_shows(self):
        first, far = self.lines()
        assert first == "Liver 0.80 (0.70 to 0.90); Bladder: draw it in one more slice"
        assert far.startswith("20 % of Liver lie farther from your slices")

    def test_what_more_slices_are_worth(self):
        both = {"segments": ((0.8, 4), (0.7, 3))}
        assert "Two more axial slices are likely to raise the mean IoU by 0.03." in self.lines(
            **both
        )
        enough = "More slices are likely to change little: enough is drawn."
        assert enough in self.lines(**both, gains=(0.004,))
        exact = self.lines(**both, near=0.97)
        assert enough in exact
        assert exact[1].startswith("Nearly all of the border of Liver, Bladder is expected within")

    def test_the_last_new_slices(self):
        last = self.lines(new=(0.1, 0.91, 0.88, 0.93))[-1]
        assert last == (
            "Your last 3 slices, as predicted before you drew: 0.91, 0.88, 0.93 (began from the "
            "prediction)."
        )

    def test_how_it_grew_with_the_slices(self):
        rows = [(3, (0.6, None)), (5, (0.7, 0.5)), (7, (0.8, 0.6))]
        history = [{"slices": n, "iou": list(iou)} for n, iou in rows]
        # The bladder had no score with three slices, so that a mean with it would not compare.
        curve = "So far: expected mean IoU 0.60 with 3, 0.70 with 5, 0.80 with 7 slices."
        assert curve in self.lines(history=history)
        assert not any("So far" in line for line in self.lines(history=history[:1]))

    def test_not_drawn_at_all(self):
        assert "Bladder: not drawn yet" in self.lines(segments=((0.8, 4), (None, 0)))[0]
        assert score_lines(None, ["Liver"], GRID) == []


def test_a_damaged_score_is_noted_and_left_out(tmp_path):
    folder, _ = run_folder(tmp_path / "run")
    assert folder.read_score() is None and not folder.notes
    folder.write_score(1, score())
    assert folder.read_score()["slices"] == 5
    for broken in ({}, {**score(), "segments": []}, {**score(), "slices": -1}):
        folder.write_score(1, broken)
        fresh = RunFolder.open(folder.path)
        assert fresh.read_score() is None
        assert "1-score.json is damaged" in fresh.notes[0]

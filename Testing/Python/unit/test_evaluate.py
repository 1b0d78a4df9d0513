"""The command evaluate: its figures by hand and by MONAI, and how segments are paired."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.surface_distance import surface_score
from SparseSegNetLib.cli.main import main
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.writing import write_labels

SPACING = (1.0, 2.0, 3.0)  # mm along i, j, k


def boxes(shift=0):
    """Two boxes in a volume, the second moved along i."""
    labels = np.zeros((12, 14, 20), np.uint8)
    labels[3:8, 3:9, 3:9] = 1
    labels[3:8, 3:9, 12 + shift : 16 + shift] = 2
    return labels


def write(path, labels, names=("Liver", "Kidney"), spacing=SPACING):
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing)
    if path.name.endswith(".seg.nrrd"):
        segments = [
            Segment(f"s{n}", name, (1.0, 0.0, 0.0), n) for n, name in enumerate(names, start=1)
        ]
        write_labels(path, labels, geometry_of(image), segments)
    else:
        sitk.WriteImage(image, str(path))
    return str(path)


def figures(capsys, *arguments):
    assert main(["evaluate", *arguments, "--json", "-", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_by_hand(tmp_path, capsys):
    truth = write(tmp_path / "truth.nrrd", boxes())
    found = write(tmp_path / "found.nrrd", boxes(1))
    rows = figures(capsys, found, truth, "--tolerance", "0.5")["segments"]
    assert [row["dice"] for row in rows] == [1.0, 0.75]
    assert rows[1]["iou"] == pytest.approx(0.6)
    assert rows[0]["surface_dice"] == 1.0 and rows[0]["hausdorff95"] == 0.0
    assert rows[1]["surface_dice"] < 1 and rows[1]["hausdorff95"] == 1.0  # one voxel along i
    assert rows[0]["truth_ml"] == pytest.approx(5 * 6 * 6 * 6 / 1000)
    loose = figures(capsys, found, truth, "--tolerance", "1")["segments"]
    assert loose[1]["surface_dice"] == 1.0


def test_the_same_figures_as_monai():
    metrics = pytest.importorskip("monai.metrics")
    import torch

    random = np.random.default_rng(0)
    truth = np.zeros((20, 22, 24), bool)
    truth[5:14, 6:15, 7:18] = True
    found = np.roll(truth, (1, -1, 2), (0, 1, 2)) ^ (random.random(truth.shape) < 0.002)
    ours = surface_score(found, truth, (3.0, 2.0, 1.0), 2.0)
    one_hot = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (found, truth)]
    distance = metrics.compute_hausdorff_distance(*one_hot, percentile=95, spacing=(3.0, 2.0, 1.0))
    dice = metrics.compute_surface_dice(*one_hot, [2.0], spacing=(3.0, 2.0, 1.0))
    assert ours.hausdorff95 == pytest.approx(float(distance), abs=1e-4)
    assert ours.surface_dice == pytest.approx(float(dice), abs=1e-4)


def test_empty_and_missing_masks():
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    some = empty.copy()
    some[1:3, 1:3, 1:3] = True
    assert vars(surface_score(empty, empty, (1, 1, 1), 1)) == {
        "surface_dice": None,
        "hausdorff95": None,
    }
    assert surface_score(some, empty, (1, 1, 1), 1).surface_dice == 0.0
    assert surface_score(full, full, (1, 1, 1), 1).surface_dice is None


def test_segments_are_paired_by_name_then_by_value(tmp_path, capsys):
    truth = write(tmp_path / "truth.seg.nrrd", boxes())
    swapped = np.array([0, 2, 1], np.uint8)[boxes()]
    by_name = write(tmp_path / "a.seg.nrrd", swapped, (" kidney", "LIVER"))
    assert [row["dice"] for row in figures(capsys, by_name, truth)["segments"]] == [1.0, 1.0]
    by_value = write(tmp_path / "b.nrrd", boxes())
    rows = figures(capsys, by_value, truth)["segments"]
    assert [(row["segment"], row["dice"]) for row in rows] == [("Liver", 1.0), ("Kidney", 1.0)]


def test_a_segment_that_only_one_has_is_scored_and_said(tmp_path, capsys):
    truth = write(tmp_path / "truth.seg.nrrd", boxes())
    found = np.where(boxes() == 2, 0, boxes()).astype(np.uint8)
    found[0, 0] = 2
    found = write(tmp_path / "found.seg.nrrd", found, ("Liver", "Spleen"))
    assert main(["evaluate", found, truth, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "'Kidney' is missing" in err and "'Spleen'" in err and "not in the truth" in err
    assert "0.333" in out, "the mean counts all three"


def test_only_voxels_that_were_not_annotated_count(tmp_path, capsys):
    truth, found = boxes(), boxes()
    found[5, 3:9, 3:9] = 0  # wrong in the annotated slice alone
    drawn = np.full(truth.shape, 255, np.uint8)
    drawn[5] = truth[5]
    files = [
        write(tmp_path / f"{name}.nrrd", labels)
        for name, labels in (("found", found), ("truth", truth), ("drawn", drawn))
    ]
    assert figures(capsys, *files[:2])["segments"][0]["dice"] < 1
    only = ("--unannotated", files[2], "--tolerance", "0.5")
    rows = figures(capsys, *files[:2], *only)["segments"]
    assert rows[0]["dice"] == 1.0 and rows[0]["surface_dice"] < 1
    mask = np.zeros(truth.shape, np.uint8)
    mask[6:] = 1
    mask = write(tmp_path / "mask.nrrd", mask)
    assert figures(capsys, *files[:2], "--mask", mask)["segments"][0]["dice"] == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing": (1.0, 2.0, 4.0)}, "another grid"),
        ({"names": ("A", "B")}, "no segment in common"),
    ],
)
def test_what_cannot_be_compared(tmp_path, capsys, change, words):
    kind = "seg.nrrd" if "names" in change else "nrrd"
    truth = write(tmp_path / f"truth.{kind}", boxes())
    found = write(tmp_path / f"found.{kind}", boxes(), **change)
    assert main(["evaluate", found, truth]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--tolerance", "-1"], ["--slices", "k:1"], ["--mask", "missing.nrrd"]]
)
def test_bad_arguments(tmp_path, capsys, arguments):
    truth = write(tmp_path / "truth.nrrd", boxes())
    assert main(["evaluate", truth, truth, *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_json_file_replaces_no_input(tmp_path, capsys):
    truth = write(tmp_path / "truth.nrrd", boxes())
    assert main(["evaluate", truth, truth, "--json", truth]) == 2
    assert main(["evaluate", truth, truth, "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["mean"]["dice"] == 1.0

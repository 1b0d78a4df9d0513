"""`sparsesegnet evaluate`, as users call it: figures, segments that belong together, refusals."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.cli.evaluate_segments import Pair, pair_segments
from SparseSegNetLib.cli.main import main
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.files.dense import Dense

SHAPE = (8, 9, 10)
SPACING = (0.5, 0.7, 2.0)  # i, j, k
OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
ORGAN, CORE = np.s_[1:7, 2:8, 2:8], np.s_[3:5, 4:6, 4:6]


def grid(array, vector=False):
    image = sitk.GetImageFromArray(np.asarray(array), isVector=vector)
    image.SetSpacing(SPACING)
    image.SetOrigin((-3.0, 4.0, 50.0))
    image.SetDirection(OBLIQUE)
    return image


def labels(*places, shape=SHAPE):
    """Label n in the n-th place."""
    array = np.zeros(shape, np.uint8)
    for number, place in enumerate(places, start=1):
        array[place] = number
    return array


def shifted(array):
    return np.roll(array, 1, axis=2)


@pytest.fixture
def save(tmp_path):
    def save(name, array):
        image = array if isinstance(array, sitk.Image) else grid(array)
        sitk.WriteImage(image, str(tmp_path / name))
        return str(tmp_path / name)

    return save


@pytest.fixture
def segmentation(save):
    def segmentation(name, part=np.s_[:, :, :], **masks):
        """A layer for each segment, as Slicer writes those that overlap; all have the value 1.

        part: the voxels (i, j, k) that the file covers.
        """
        stacked = np.stack([mask.astype(np.uint8) for mask in masks.values()], axis=-1)
        image = grid(stacked, True)[part]
        for number, title in enumerate(masks):
            head = {"ID": f"s{number}", "Name": title, "LabelValue": "1", "Layer": str(number)}
            for key, text in head.items():
                image.SetMetaData(f"Segment{number}_{key}", text)
        return save(name, image)

    return segmentation


@pytest.fixture
def figures(capsys):
    """The figures of a comparison, and what was said."""

    def figures(*arguments):
        code = main(["evaluate", *map(str, arguments), "--json", "-"])
        out, err = capsys.readouterr()
        assert code == 0, err
        found = json.loads(out)
        return {row["name"]: row for row in found["segments"]}, found, " ".join(err.split())

    return figures


@pytest.fixture
def refusal(capsys):
    def refusal(*arguments):
        assert main(["evaluate", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("sparsesegnet: error: ") and err.count("\n") == 1
        return err

    return refusal


class TestFigures:
    def test_overlap_surfaces_and_volumes(self, save, figures):
        truth = labels(ORGAN)
        rows, found, _ = figures(save("p.nrrd", shifted(truth)), save("t.nrrd", truth))
        row = rows["Label 1"]
        assert row["dice"] == pytest.approx(5 / 6) and row["iou"] == pytest.approx(5 / 7)
        assert row["truth_ml"] == row["prediction_ml"] == pytest.approx(216 * 0.7 / 1000)
        assert row["hausdorff95_mm"] == pytest.approx(0.5), "one voxel along i"
        assert row["surface_dice"] == 1 and found["tolerance_mm"] == 0.5, "the finest spacing"
        rows, *_ = figures(save("p.nrrd", shifted(truth)), save("t.nrrd", truth), "--tolerance", 0)
        assert 0.5 < rows["Label 1"]["surface_dice"] < 0.9

    def test_the_table(self, save, capsys):
        truth = labels(ORGAN, CORE)
        empty = np.where(truth == 2, 0, truth)
        assert main(["evaluate", save("p.nrrd", empty), save("t.nrrd", truth), "--quiet"]) == 0
        out, err = capsys.readouterr()
        title, organ, core, mean = (line.split("  ") for line in out.splitlines())
        assert title[0] == "segment" and "surface Dice (0.5 mm)" in title
        assert organ[:2] == ["Label 1", "1.000"] and core[:2] == ["Label 2", "0.000"]
        assert mean[0].strip() == "mean" and "0.500" in mean
        assert "only t.nrrd has 'Label 2'" in err and "|" not in err, "no progress bar"

    def test_json_in_a_file(self, save, tmp_path, capsys):
        truth = save("t.nrrd", labels(ORGAN))
        assert main(["evaluate", truth, truth, "--json", str(tmp_path / "o.json")]) == 0
        assert "mean" in capsys.readouterr().out
        found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
        perfect = {"dice": 1, "iou": 1, "surface_dice": 1, "hausdorff95_mm": 0}
        assert found["mean"] == perfect and found["counted_voxels"] == found["voxels"] == 720


def test_torch_is_not_needed(save):
    path = save("t.nrrd", labels(ORGAN))
    code = "import sys; from SparseSegNetLib.cli.main import main; sys.modules['torch'] = None; "
    code += f"sys.exit(main(['evaluate', {path!r}, {path!r}]))"
    assert subprocess.run([sys.executable, "-c", code], env=engine_environment()).returncode == 0


class TestSegments:
    def test_overlapping_segments_are_scored_whole(self, segmentation, save, figures):
        organ, core = labels(ORGAN) == 1, labels(CORE) == 1
        one = segmentation("p.seg.nrrd", Organ=organ, Core=core)
        two = segmentation("t.seg.nrrd", core=core, organ=organ)
        rows, found, said = figures(one, two)
        assert list(rows) == ["core", "organ"] and found["mean"]["dice"] == 1
        assert rows["organ"]["truth_ml"] == pytest.approx(216 * 0.7 / 1000), "with its core"
        assert "terminology" not in said

    def test_names_come_before_values(self, segmentation, save, figures):
        a, b = labels(np.s_[:3]) == 1, labels(np.s_[4:]) == 1
        rows, *_ = figures(
            segmentation("p.seg.nrrd", A=a, B=b), segmentation("t.seg.nrrd", B=b, A=a)
        )
        assert rows["A"]["dice"] == rows["B"]["dice"] == 1

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_label_image_is_compared_by_value(self, segmentation, save, figures, turned):
        one = segmentation("p.seg.nrrd", A=labels(np.s_[:3]) == 1, B=labels(np.s_[4:]) == 1)
        two = save("t.nii.gz", labels(np.s_[:3], np.s_[4:], np.s_[3, :1]))
        rows, _, said = figures(*((two, one) if turned else (one, two)))
        assert rows["A"]["dice"] == rows["B"]["dice"] == 1
        assert rows["Label 3"]["dice"] == 0 and rows["Label 3"]["hausdorff95_mm"] is None
        side = "prediction" if turned else "truth"
        assert rows["Label 3"]["only_in"] == side and "only t.nii.gz has 'Label 3'" in said

    def test_what_nobody_has_is_no_score(self, segmentation, figures):
        organ, nothing = labels(ORGAN) == 1, np.zeros(SHAPE, bool)
        path = segmentation("p.seg.nrrd", Organ=organ, Core=nothing)
        rows, found, said = figures(path, path)
        assert rows["Core"]["dice"] is None and found["mean"]["dice"] == 1
        assert "neither file has voxels that count of 'Core'" in said

    def test_an_empty_prediction_has_found_nothing(self, save, figures):
        rows, found, said = figures(
            save("p.nrrd", labels()), save("t.nrrd", labels(ORGAN)), "--quiet"
        )
        assert rows["Label 1"]["dice"] == 0 and found["mean"]["hausdorff95_mm"] is None
        assert "only t.nrrd has 'Label 1'" in said

    def test_nothing_in_common(self, segmentation, save, refusal):
        said = refusal(
            segmentation("p.seg.nrrd", Liver=labels(ORGAN) == 1), save("t.nrrd", 7 * labels(ORGAN))
        )
        assert "no segment in common" in said and "'Liver' (value 1)" in said
        assert "the value 7" in said and "same name" in said
        assert "nothing to compare" in refusal(*[save("p.nrrd", labels())] * 2)

    def test_terminology_stands_in_for_a_name(self, tmp_path):
        liver = {"TerminologyEntry": "x~SCT^123037004^Anatomy~SCT^10200004^Liver~^^~y~^^~^^"}
        one, other = (
            Dense(tmp_path, None, [], [Segment("s", name, (1, 0, 0), 1, liver)], True)
            for name in ("Leber", "Liver")
        )
        assert pair_segments(one, other) == [Pair("Liver", 1, 1, "Leber")]

    def test_background_and_values_without_a_segment_are_told(self, save, figures):
        image = grid(labels(ORGAN, CORE, np.s_[7:]))
        for number, (name, value) in enumerate({"Organ": 1, "Background": 3}.items()):
            for key, text in {"ID": name, "Name": name, "LabelValue": value, "Layer": 0}.items():
                image.SetMetaData(f"Segment{number}_{key}", str(text))
        path = save("p.seg.nrrd", image)
        rows, _, said = figures(path, path)
        assert list(rows) == ["Organ"] and "'Background' is background" in said
        assert "8 voxels have a label value that no segment has" in said


class TestWhatCounts:
    def test_a_mask(self, save, figures):
        truth, wrong = labels(ORGAN), labels(ORGAN)
        wrong[:4] = 0
        mask = save("m.nrrd", labels(np.s_[4:]).astype(np.float32) * 0.5)
        rows, found, said = figures(
            save("p.nrrd", wrong), save("t.nrrd", truth), "--mask", mask, "--tolerance", 0
        )
        assert rows["Label 1"]["dice"] == 1 and found["counted_voxels"] == 4 * 90
        assert rows["Label 1"]["truth_ml"] == pytest.approx(3 * 36 * 0.7 / 1000)
        assert "360 of 720 voxels count" in said

    @pytest.mark.parametrize("drawn", ["label image", "segmentation", "named slices"])
    def test_voxels_that_were_not_annotated(self, save, segmentation, figures, drawn):
        """What was drawn is right, all else is empty: its score is 0."""
        truth = labels(ORGAN)
        prediction = np.zeros_like(truth)
        prediction[[2, 5]] = truth[[2, 5]]
        sparse = np.full(SHAPE, UNLABELLED, np.uint8)
        sparse[[2, 5]] = truth[[2, 5]]
        options = ["--unannotated"]
        if drawn == "label image":
            options += [save("a.nrrd", sparse)]
        elif drawn == "segmentation":
            options += [segmentation("a.seg.nrrd", Organ=prediction == 1)]
        else:
            options += [save("a.nrrd", prediction), "--slices", "k:2", "k:5"]
        inputs = save("p.nrrd", prediction), save("t.nrrd", truth)
        rows, found, said = figures(*inputs, *options)
        assert rows["Label 1"]["dice"] == 0 and found["counted_voxels"] == 6 * 90
        assert "annotated slices: k:2,5" in said
        assert figures(*inputs)[0]["Label 1"]["dice"] == 0.5

    def test_truth_in_a_part_of_the_volume(self, save, figures):
        truth = labels(ORGAN)
        known = np.full(SHAPE, UNLABELLED, np.uint8)
        known[3] = truth[3]
        inputs = save("p.nrrd", truth), save("t.nrrd", known)
        rows, found, said = figures(*inputs, "--unlabelled", 255)
        assert rows["Label 1"]["dice"] == 1 and found["counted_voxels"] == 90
        assert "630 voxels of t.nrrd are unlabelled" in said
        rows, _, said = figures(*inputs)
        assert rows["Label 255"]["dice"] == 0 and "give --unlabelled 255" in said

    def test_nothing_counts(self, save, refusal):
        truth = save("t.nrrd", labels(ORGAN))
        assert "no voxel is left" in refusal(truth, truth, "--mask", save("m.nrrd", labels()))
        assert "nothing to densify" in refusal(truth, truth, "--unannotated", truth)


class TestGrids:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_flipped_and_permuted_axes(self, save, figures, order):
        truth = grid(labels(ORGAN, CORE))
        turned = sitk.Flip(sitk.PermuteAxes(truth, order), (True, False, True), False)
        paths = save("p.nrrd", turned), save("t.nrrd", truth)
        for inputs in (paths, paths[::-1]):
            _, found, _ = figures(*inputs, "--mask", paths[1])
            assert found["mean"]["dice"] == 1 and found["counted_voxels"] == 216

    def test_a_cropped_segmentation_is_empty_beyond(self, save, segmentation, figures, refusal):
        organ = labels(ORGAN) == 1
        cropped = segmentation("p.seg.nrrd", np.s_[1:9, 1:9, 1:8], Organ=organ)
        other = segmentation("o.seg.nrrd", np.s_[0:9, 2:9, 0:5], Organ=organ)
        truth = save("t.nrrd", labels(ORGAN))
        for inputs in ((cropped, truth), (truth, cropped), (cropped, other)):
            rows, *_ = figures(*inputs)
            expected = 8 / 10 if other in inputs else 1  # 4 of its 6 slices
            assert rows["Organ"]["dice"] == pytest.approx(expected)
        assert "size" in refusal(save("c.nrrd", grid(labels(ORGAN))[1:9, 1:9, 1:8]), truth)

    def test_other_voxels_are_refused(self, save, refusal):
        moved = grid(labels(ORGAN))
        moved.SetOrigin((-3.0, 4.0, 51.0))
        paths = save("p.nrrd", moved), save("t.nrrd", labels(ORGAN))
        said = refusal(*paths)
        assert "different grids: origin" in said and "Resample" in said and "p.nrrd" in said
        assert "the mask" in refusal(paths[1], paths[1], "--mask", paths[0])

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_format_without_position_gets_the_others(self, save, figures, turned):
        paths = save("p.tif", labels(ORGAN)), save("t.nrrd", labels(ORGAN))
        rows, _, said = figures(*(paths[::-1] if turned else paths))
        assert rows["Label 1"]["truth_ml"] == pytest.approx(216 * 0.7 / 1000)
        assert "p.tif differs in" in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--tolerance", "-1"], "--tolerance -1"),
        (["--tolerance", "nan"], "--tolerance nan"),
        (["--slices", "k:3"], "--unannotated LABELS"),
        (["--resample-labels"], "--unannotated LABELS"),
        (["--json", "t.nrrd"], "would overwrite the input"),
        (["--mask", "none.nrrd"], "none.nrrd does not exist"),
    ],
)
def test_options_that_cannot_be(save, refusal, monkeypatch, tmp_path, options, text):
    monkeypatch.chdir(tmp_path)
    save("t.nrrd", labels(ORGAN))
    assert text in refusal("t.nrrd", "t.nrrd", *options)

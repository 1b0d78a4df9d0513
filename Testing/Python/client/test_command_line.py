"""The command line: what it refuses, and the whole way from files to a dense segmentation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.client.processes import PACKAGE_PARENT
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.writing import write_labels

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT)}


def save(path, array, spacing=(1.0, 1.0, 1.0), direction=None, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 1 / 3, 100.0))
    if direction is not None:
        image.SetDirection(np.asarray(direction).ravel())
    sitk.WriteImage(image, str(path), True)
    return path


def ellipsoids(shape, dtype=np.int16, seed=0):
    """A bright shell (1) with a dark core (2): image (k, j, i) and dense truth."""
    radius = np.sqrt(
        sum(
            ((x - (n - 1) / 2) / max(0.4 * n, 1)) ** 2
            for x, n in zip(np.indices(shape), shape, strict=True)
        )
    )
    truth = np.where(radius < 0.5, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    image = np.array([60.0, 160.0, 100.0])[truth] + noise
    return image.clip(0, 255).astype(dtype), truth


@pytest.fixture
def case(tmp_path):
    """A folder with image.nrrd and labels.nrrd, in which everything is in order."""
    image, truth = ellipsoids((18, 20, 22))
    slices = spread_slices((1, 1, 1), truth.shape, truth > 0)
    save(tmp_path / "image.nrrd", image)
    save(tmp_path / "labels.nrrd", restrict_to_slices(truth, slices))
    return tmp_path


def refused(capsys, *arguments):
    """Run, expect exit code 2 and one line on stderr; returns the line."""
    try:
        code = cli.main(["densify", *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == 2 and told.out == ""
    lines = told.err.strip().splitlines()
    assert len(lines) == 1, told.err
    assert "error:" in lines[0] and "Traceback" not in lines[0]
    return lines[0]


class TestBadInput:
    def check(
        self,
        case,
        capsys,
        words,
        *,
        image="image.nrrd",
        labels="labels.nrrd",
        out="out.nrrd",
        options=(),
    ):
        before = sorted(p.name for p in case.iterdir())
        line = refused(capsys, case / image, case / labels, "-o", case / out, *options)
        for word in words:
            assert word in line, line
        assert sorted(p.name for p in case.iterdir()) == before, "nothing may be written"

    def labels(self, case, change):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "labels.nrrd")))
        change(array)
        save(case / "labels.nrrd", array)

    def test_missing_file(self, case, capsys):
        self.check(case, capsys, ["none.nrrd", "does not exist"], image="none.nrrd")
        self.check(case, capsys, ["none.nrrd", "does not exist"], labels="none.nrrd")

    def test_unreadable_file(self, case, capsys):
        (case / "bad.nrrd").write_bytes(b"\0" * 50)
        self.check(case, capsys, ["bad.nrrd", "cannot be read"], image="bad.nrrd")
        self.check(case, capsys, ["bad.nrrd", "cannot be read"], labels="bad.nrrd")

    def test_label_grid_of_another_size(self, case, capsys):
        save(case / "labels.nrrd", np.zeros((18, 20, 21), np.uint8))
        self.check(case, capsys, ["22x20x18", "21x20x18"])

    def test_label_grid_of_another_spacing(self, case, capsys):
        save(case / "labels.nrrd", np.zeros((18, 20, 22), np.uint8), (1, 1, 2.5))
        self.check(case, capsys, ["1x1x1", "1x1x2.5"])

    def test_all_255(self, case, capsys):
        self.labels(case, lambda a: a.fill(255))
        self.check(case, capsys, ["no voxel is labelled"])

    def test_no_segment_drawn(self, case, capsys):
        write_labels(
            case / "empty.seg.nrrd",
            np.zeros((18, 20, 22), np.uint8),
            geometry_of(sitk.ReadImage(str(case / "image.nrrd"))),
            [Segment("a", "A", (1, 0, 0), 1)],
        )
        self.check(case, capsys, ["no voxel is labelled"], labels="empty.seg.nrrd")

    def test_only_one_class(self, case, capsys):
        self.labels(case, lambda a: np.copyto(a, 0, where=a != 255))
        self.check(case, capsys, ["only one class is labelled", "background"])
        self.labels(case, lambda a: np.copyto(a, 2, where=a != 255))
        self.check(case, capsys, ["only one class is labelled", "Label 2"])

    def test_nothing_left_to_densify(self, case, capsys):
        save(case / "labels.nrrd", ellipsoids((18, 20, 22))[1])
        self.check(case, capsys, ["--unlabelled", "--slices"])
        # An image of one slice, which is annotated.
        image, truth = ellipsoids((18, 20, 22))
        save(case / "image.nrrd", image[9:10])
        save(case / "labels.nrrd", truth[9:10])
        words = ["every voxel of", "nothing left to predict"]
        self.check(case, capsys, words, options=["--slices", "k:0"])

    @pytest.mark.parametrize(
        ("slices", "words"),
        [(["k:18"], ["k:18", "0 to 17"]), (["i:-1"], ["i:-1"]), (["q:3"], ["q:3", "k:10,20"])],
    )
    def test_slices_outside_or_unreadable(self, case, capsys, slices, words):
        self.check(case, capsys, words, options=["--slices", *slices])

    def test_non_finite_image(self, case, capsys):
        array = ellipsoids((18, 20, 22), np.float32)[0]
        array[0, 0, :7] = np.nan
        save(case / "image.nrrd", array)
        self.check(case, capsys, ["7 voxels", "--replace-nonfinite"])

    def test_channels_of_different_sizes(self, case, capsys):
        save(case / "second.nrrd", np.zeros((18, 20, 23), np.int16))
        line = refused(
            capsys,
            case / "image.nrrd",
            case / "second.nrrd",
            case / "labels.nrrd",
            "-o",
            case / "out.nrrd",
        )
        assert "22x20x18" in line and "23x20x18" in line

    def test_output_folder_does_not_exist(self, case, capsys):
        self.check(case, capsys, ["does not exist", "create it"], out="no/where.nrrd")

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
    def test_output_folder_cannot_be_written(self, case, capsys):
        # Not even root may make a file there.
        self.check(case, capsys, ["/proc/self", "cannot be written"], out="/proc/self/out.nrrd")

    def test_output_would_overwrite_an_input(self, case, capsys):
        self.check(case, capsys, ["overwrite", "image.nrrd"], out="image.nrrd")
        self.check(
            case, capsys, ["overwrite", "labels.nrrd"], out="../" + case.name + "/labels.nrrd"
        )
        self.check(
            case,
            capsys,
            ["overwrite", "image.nrrd"],
            options=["--metrics", str(case / "image.nrrd")],
        )

    def test_two_outputs_of_one_name(self, case, capsys):
        self.check(case, capsys, ["same name"], options=["--save-model", str(case / "out.nrrd")])

    def test_unknown_format(self, case, capsys):
        self.check(case, capsys, [".xyz", ".seg.nrrd"], out="out.xyz")

    def test_run_folder_in_use(self, case, capsys):
        (case / "run").mkdir()
        (case / "run" / "thesis.txt").write_text("precious")
        self.check(case, capsys, ["run", "exists already"], options=["--run", str(case / "run")])

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["--time-budget", "0"], "time budget"),
            (["--time-budget", "nan"], "time budget"),
            (["--time-budget", "soon"], "time-budget"),
            (["--network", "resnet"], "auto"),
            (["--seed", "-1"], "seed"),
            (["--steps", "-5"], "steps"),
            (["--nonsense"], "nonsense"),
        ],
    )
    def test_bad_options(self, case, capsys, options, word):
        self.check(case, capsys, [word], options=options)

    def test_too_few_files(self, case, capsys):
        assert "at least two" in refused(capsys, case / "image.nrrd", "-o", case / "out.nrrd")

    def test_a_device_that_is_not_there(self, case, capsys):
        code = cli.main(
            [
                "densify",
                str(case / "image.nrrd"),
                str(case / "labels.nrrd"),
                "-o",
                str(case / "out.nrrd"),
                "--device",
                "cuda:99",
                "--quiet",
            ]
        )
        assert code == 4 and "--device cpu" in capsys.readouterr().err
        assert not (case / "out.nrrd").exists()


def turn(degrees=30.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


GRIDS = {
    "oblique": ((18, 20, 22), np.int16, (0.7, 0.9, 1.1), turn()),
    "left-handed": ((17, 19, 21), np.uint8, (1, 1, 1), np.diag([-1.0, 1.0, 1.0])),
    "thick slices": ((16, 40, 36), np.uint16, (0.5, 0.5, 4.0), turn(10)),
    "one slice": ((1, 40, 36), np.float32, (0.5, 0.5, 5.0), np.eye(3)),
    "smallest": ((16, 16, 16), np.float32, (2, 2, 2), np.eye(3)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_kind_of_grid(tmp_path, name):
    shape, dtype, spacing, direction = GRIDS[name]
    image, truth = ellipsoids(shape, dtype)
    save(tmp_path / "image.nrrd", image, spacing, direction)
    counts = (2, 2, 0) if shape[0] == 1 else (2, 1, 1)
    labels = restrict_to_slices(truth, spread_slices(counts, shape, truth > 0))
    save(tmp_path / "labels.nrrd", labels, spacing, direction)
    code = cli.main(
        [
            "densify",
            str(tmp_path / "image.nrrd"),
            str(tmp_path / "labels.nrrd"),
            "-o",
            str(tmp_path / "out.nrrd"),
            "--steps",
            "3",
            "--quiet",
        ]
    )
    assert code == 0
    out = sitk.ReadImage(str(tmp_path / "out.nrrd"))
    assert geometry_of(out) == geometry_of(sitk.ReadImage(str(tmp_path / "image.nrrd")))
    result = sitk.GetArrayFromImage(out)
    drawn = labels != UNLABELLED
    assert (result[drawn] == labels[drawn]).all()
    assert set(np.unique(result)) <= {0, 1, 2}


def test_from_a_segmentation_and_two_channels_to_a_good_mask(tmp_path):
    """Everything at once: .seg.nrrd with names, slices found by cover, two channels, all files."""
    image, truth = ellipsoids((30, 34, 38))
    save(tmp_path / "a.nrrd", image, (1, 1, 1.5), turn())
    save(tmp_path / "b.nrrd", (255 - image).astype(np.uint16), (1, 1, 1.5), turn())
    grid = geometry_of(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    slices = spread_slices((3, 2, 1), truth.shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    segments = [
        Segment("S1", "Rinde", (0.9, 0.6, 0.1), 1, {"TerminologyEntry": "a~b~c"}),
        Segment("S2", "Kern", (0.2, 0.4, 1.0), 2),
    ]
    write_labels(
        tmp_path / "drawn.seg.nrrd",
        np.where(labels == 255, 0, labels).astype(np.uint8),
        grid,
        segments,
    )
    out, report = tmp_path / "dense.seg.nrrd", tmp_path / "m.json"
    begun = time.monotonic()
    code = cli.main(
        [
            "densify",
            *(str(tmp_path / n) for n in ("a.nrrd", "b.nrrd", "drawn.seg.nrrd")),
            "-o",
            str(out),
            "--steps",
            "25",
            "--metrics",
            str(report),
            "--run",
            str(tmp_path / "rün 1"),
            "--save-model",
            str(tmp_path / "m.safetensors"),
            "--quiet",
        ]
    )
    assert code == 0
    written = sitk.ReadImage(str(out))
    assert geometry_of(written) == grid
    assert written.GetMetaData("Segment0_Name") == "Rinde"
    assert "a~b~c" in written.GetMetaData("Segment0_Tags")
    result = sitk.GetArrayFromImage(written)
    rows = metrics.overlap(result, truth, 2, labels == UNLABELLED)
    assert min(row["iou"] for row in rows) > 0.7
    about = json.loads(report.read_text(encoding="utf-8"))
    assert about["segments"] == ["Rinde", "Kern"] and len(about["slices"]) == 6
    assert about["held_out"][0]["segment"] == "Rinde"
    assert 0 < about["seconds"] <= time.monotonic() - begun
    assert (tmp_path / "m.safetensors").stat().st_size > 1000
    assert (tmp_path / "rün 1" / "log.txt").exists()


def started(case, *options):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "SparseSegNetLib.cli",
            "densify",
            str(case / "image.nrrd"),
            str(case / "labels.nrrd"),
            "-o",
            str(case / "out.nrrd"),
            "--run",
            str(case / "run"),
            *options,
        ],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=ENVIRONMENT,
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def training(case):
    path = case / "run" / "metrics.jsonl"
    return (path.exists() and "slices" in path.read_text(encoding="utf-8")) or (
        path.exists() and "held out" in path.read_text(encoding="utf-8")
    )


def engine_processes(case):
    """Process numbers of the engines that work on this case's run folder."""
    wanted = f"SparseSegNetLib.engine.worker {case}/run"
    if not Path("/proc/self").exists():
        return subprocess.run(
            ["pgrep", "-f", wanted], capture_output=True, encoding="utf-8", check=False
        ).stdout.split()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:  # ended meanwhile
            continue
        if wanted in command:
            found.append(path.parent.name)
    return found


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
class TestInterrupted:
    def test_ctrl_c_keeps_the_best_result(self, case):
        process = started(case, "--time-budget", "300")
        wait_for(lambda: training(case))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert "stopping" in told and "Traceback" not in told
        result = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "out.nrrd")))
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "labels.nrrd")))
        assert (result[labels != 255] == labels[labels != 255]).all()

    def test_ctrl_c_at_once_leaves_the_prior_ensemble(self, case):
        process = started(case, "--time-budget", "300")
        wait_for(lambda: (case / "run" / "lock").exists())  # the engine's, once it has begun
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in told, told
        assert "the prior ensemble" in " ".join(told.split())
        assert told.count("note:") == 1, told
        assert (case / "out.nrrd").exists()

    def test_a_killed_client_takes_the_engine_with_it(self, case):
        process = started(case, "--time-budget", "300")
        wait_for(lambda: training(case))
        assert engine_processes(case)
        process.kill()
        process.communicate()
        wait_for(lambda: not engine_processes(case), 10)

    def test_a_killed_engine_is_reported(self, case):
        process = started(case, "--time-budget", "300")
        wait_for(lambda: training(case))
        os.kill(int(engine_processes(case)[0]), signal.SIGKILL)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 5 and "Traceback" not in told
        assert "killed the engine" in told and "log.txt" in told
        assert f'sparsesegnet resume "{case / "run"}"' in told
        assert not (case / "out.nrrd").exists()

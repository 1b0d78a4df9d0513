"""`densify` with the published networks, from files to files."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.cli import main as cli

SHAPE = (12, 20, 22)
SPACING = (1.0, 1.0, 2.5)  # along i, j, k


@pytest.fixture
def case(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.zeros(SHAPE, np.uint8)
    truth[3:9, 5:15, 6:16] = 1
    slices = spread_slices((2, 2, 2), SHAPE)
    for name, array in (
        ("image", truth * 90.0 + 40 + rng.normal(0, 5, SHAPE)),
        ("labels", restrict_to_slices(truth, slices)),
    ):
        image = sitk.GetImageFromArray(array.astype(np.float32 if name == "image" else np.uint8))
        image.SetSpacing(SPACING)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    return tmp_path


def densify(folder, *arguments):
    return cli.main(
        [
            "densify",
            str(folder / "image.nrrd"),
            str(folder / "labels.nrrd"),
            "-o",
            str(folder / "out.nrrd"),
            "--metrics",
            str(folder / "metrics.json"),
            "--quiet",
            "--device",
            "cpu",
            *arguments,
        ]
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unet3d", ["--tile", "100", "--width", "1"]),
        ("unet3d", ["--tile", "100,100,108", "--width", "1", "--no-batch-norm"]),
        ("fcn3d", ["--tile", "16", "--width", "2"]),
        ("vnet", ["--tile", "16", "--width", "2", "--kernel", "3", "--n4", "--resample", "2"]),
        ("unet2d", ["--tile", "100", "--width", "2"]),
    ],
)
def test_every_network_gives_a_dense_result_on_the_images_grid(case, name, settings):
    assert densify(case, "--network", name, "--steps", "2", *settings) == 0
    image, out = (sitk.ReadImage(str(case / f"{n}.nrrd")) for n in ("image", "out"))
    assert out.GetSize() == image.GetSize() and out.GetSpacing() == image.GetSpacing()
    found = sitk.GetArrayFromImage(out)
    drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "labels.nrrd")))
    known = drawn != UNLABELLED
    assert (found[known] == drawn[known]).all() and set(np.unique(found)) <= {0, 1}
    plan = json.loads((case / "metrics.json").read_text(encoding="utf-8"))["plan"]
    assert plan["network"] == name and plan["width"] == int(settings[3])
    if "--resample" in settings:
        assert plan["spacing"] == pytest.approx([2.0, 2.0, 2.0], rel=0.05)
        assert plan["shape"] == [15, 10, 11]
    else:
        assert plan["shape"] == list(SHAPE)
    assert (plan["norm"] == "none") == (name == "vnet" or "--no-batch-norm" in settings)


def test_the_same_seed_and_steps_give_the_same_bits(case):
    settings = ["--network", "fcn3d", "--tile", "16", "--width", "2", "--steps", "3"]
    results = []
    for seed in ("1", "1", "2"):
        assert (
            densify(
                case, *settings, "--seed", seed, "--save-model", str(case / "model.safetensors")
            )
            == 0
        )
        results.append((case / "model.safetensors").read_bytes()[-2000:])
    assert results[0] == results[1] != results[2]


def test_by_time_too_few_steps_are_said(case, capsys):
    assert densify(case, "--network", "unet3d", "--width", "8", "--time-budget", "6") == 0
    assert "training steps of the network unet3d fit into the time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--network", "vnet", "--kernel", "4"], "choose 5 or 3"),
        (["--network", "unet3d", "--tile", "64"], "nearest is 100x100x100"),
        (["--tile", "64"], "auto"),
        (["--resample", "0"], "spacing to resample to"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_read(case, capsys, settings, said):
    (case / "image.nrrd").unlink()
    assert densify(case, *settings) == 2
    told = capsys.readouterr().err
    assert said in told and "image.nrrd" not in told

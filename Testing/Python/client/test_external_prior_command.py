"""The command `densify --prior`: another tool's result in a run, from files to the result."""

import numpy as np
import pytest
import SimpleITK as sitk
from test_command_line import ellipsoids, refused, save

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.files.images import geometry_of
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.folder import RunFolder

SEGMENTS = [Segment("S1", "Rinde", (0.9, 0.6, 0.1), 1), Segment("S2", "Kern", (0.2, 0.4, 1.0), 2)]


@pytest.fixture
def case(tmp_path):
    """So noisy an image that it tells nothing, labels of one slice, and a dense segmentation."""
    _, truth = ellipsoids((18, 20, 22))
    image = np.random.default_rng(0).normal(0, 100, truth.shape).astype(np.float32)
    save(tmp_path / "image.nrrd", image)
    slices = spread_slices((1, 0, 1), truth.shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    geometry = geometry_of(sitk.ReadImage(str(tmp_path / "image.nrrd")))
    drawn = np.where(labels == UNLABELLED, 0, labels).astype(np.uint8)
    write_labels(tmp_path / "drawn.seg.nrrd", drawn, geometry, SEGMENTS)
    write_labels(tmp_path / "other.seg.nrrd", truth, geometry, SEGMENTS)
    return tmp_path, truth, labels


def densified(folder, name, *further):
    arguments = [folder / "image.nrrd", folder / "drawn.seg.nrrd", "-o", folder / name]
    code = cli.main(["densify", *map(str, (*arguments, "--steps", 3, "--quiet", *further))])
    assert code == 0
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name)))


def test_it_counts_in_the_result(case, capsys):
    folder, truth, labels = case
    scores = []
    for name, further in (
        ("without.nrrd", ()),
        ("with.nrrd", ("--prior", folder / "other.seg.nrrd", "--run", folder / "run")),
    ):
        found = densified(folder, name, *further)
        assert (found[labels != UNLABELLED] == labels[labels != UNLABELLED]).all()
        rows = metrics.overlap(found, truth, 2, labels == UNLABELLED)
        scores.append(np.mean([row["iou"] for row in rows]))
    assert scores[1] > scores[0] + 0.05
    assert "note: prior: 'Rinde' of " in capsys.readouterr().err
    kept = RunFolder.open(folder / "run").read_input()
    assert kept.prior_classes == (1, 2)
    assert np.array_equal(kept.prior.argmax(axis=0)[truth > 0], truth[truth > 0] - 1)


def test_what_is_refused(case, capsys):
    folder, truth, _ = case
    save(folder / "p.nrrd", (truth == 1).astype(np.float32))
    given = [folder / "image.nrrd", folder / "drawn.seg.nrrd", "-o", folder / "out.nrrd", "--prior"]
    line = refused(capsys, *given, f"Leber={folder / 'p.nrrd'}")
    assert "'Leber'" in line and "'Rinde', 'Kern'" in line
    arguments = [*given, folder / "other.seg.nrrd", "--network", "unet2d"]
    assert cli.main(["densify", *map(str, arguments)]) == 2
    assert "the network unet2d takes no prior" in capsys.readouterr().err
    line = refused(capsys, *given, folder / "other.seg.nrrd", "-o", folder / "other.seg.nrrd")
    assert "other.seg.nrrd" in line

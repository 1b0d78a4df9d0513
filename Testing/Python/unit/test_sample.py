"""The shipped sample is what its script makes, and small enough to ship."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from generate_sample import SEGMENTS, SLICES, generate, geometry
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import read_annotation

FOLDER = Path(__file__).resolve().parents[3] / "SparseSegNet" / "Resources" / "Sample"


def test_made_by_the_script():
    image, labels = generate()
    shipped = read_volume([FOLDER / "kidney-image.nrrd"])
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(FOLDER / "kidney-labels.nrrd")))
    assert image.dtype == labels.dtype == np.uint8
    # Other releases of numpy and scipy may round a few voxels differently.
    assert (labels == truth).mean() > 0.999
    assert (np.abs(image.astype(int) - shipped.image[0]) <= 1).mean() > 0.99
    assert geometry().difference(shipped.geometry) is None


def test_annotation_is_a_few_slices_of_the_truth():
    shipped = read_volume([FOLDER / "kidney-image.nrrd"])
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(FOLDER / "kidney-labels.nrrd")))
    found = read_annotation(FOLDER / "kidney-annotation.seg.nrrd", shipped.geometry)
    assert found.slices == spread_slices(SLICES, truth.shape)
    assert [s.name for s in found.segments] == [s.name for s in SEGMENTS]
    drawn = found.labels != UNLABELLED
    assert (found.labels[drawn] == truth[drawn]).all() and 0.05 < drawn.mean() < 0.12


def test_small_enough():
    assert sum(p.stat().st_size for p in FOLDER.glob("*.nrrd")) < 1_000_000

"""Files that were cut off are refused before anything is computed."""

import gzip
import os

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_file
from SparseSegNetLib.files.writing import write_labels

KINDS = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


def written(folder, ending, kind=np.int16, packed=False, vector=False):
    shape = (9, 10, 11, 2) if vector else (9, 10, 11)
    pixels = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    image = sitk.GetImageFromArray(pixels, isVector=vector)
    path = folder / f"image{ending}"
    sitk.WriteImage(image, str(path), packed)
    return path


FILES = [
    (ending, packed)
    for ending in (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz")
    for packed in (False, True)
    if ending not in (".nii", ".nii.gz") or packed == ending.endswith(".gz")
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ending", "packed"), FILES)
def test_whole_files_are_read(tmp_path, ending, packed, kind):
    path = written(tmp_path, ending, kind, packed)
    assert read_file(path, "the image").GetSize() == (11, 10, 9)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_whole_vector_images_are_read(tmp_path, ending):
    path = written(tmp_path, ending, vector=True, packed=True)
    assert read_file(path, "the image").GetSize() == (11, 10, 9)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
@pytest.mark.parametrize(("ending", "packed"), FILES)
def test_what_was_cut_off_is_refused(tmp_path, ending, packed, share):
    path = written(tmp_path, ending, packed=packed)
    largest = max(tmp_path.iterdir(), key=lambda p: p.stat().st_size)
    data = largest.read_bytes()
    largest.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"the image .* (cut off or damaged|cannot be read)"):
        read_file(path, "the image")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("packed", [False, True])
def test_tiff_with_pages_that_are_missing(tmp_path, kind, packed):
    """ITK reads the pages that are there: fewer slices, without a word."""
    path = written(tmp_path, ".tif", kind, packed)
    assert read_file(path, "the image").GetSize() == (11, 10, 9)
    data = path.read_bytes()
    for share in (0.2, 0.5, 0.8, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match="cut off or damaged"):
            read_file(path, "the image")


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_damaged_sum_is_refused(tmp_path, ending):
    path = written(tmp_path, ending, packed=True)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # of gzip's check sum
    path.write_bytes(data)
    with pytest.raises(InputError, match="cut off or damaged"):
        read_file(path, "the image")


def test_something_behind_the_voxels_does_no_harm(tmp_path):
    path = written(tmp_path, ".nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0" * 100))
    assert read_file(path, "the image").GetSize() == (11, 10, 9)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii", ".nii.gz", ".mha", ".tif"])
def test_a_result_that_a_full_disk_cuts_off_is_no_result(tmp_path, ending):
    """ITK's writers of NIfTI say nothing of a full disk, that of NRRD nothing of the last bytes."""
    import resource

    shape = (20, 30, 40)
    labels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    grid = Geometry(shape[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    segments = [Segment("a", "A", (1, 0, 0), 1), Segment("b", "B", (0, 1, 0), 2)]
    path = tmp_path / f"dense{ending}"
    write_labels(path, labels, grid, segments)
    size = path.stat().st_size
    path.unlink()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for most in (0, 100, 1000, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with pytest.raises(OSError, match=r"\w"):
                write_labels(path, labels, grid, segments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".nrrd", ".nii", ".nii.gz"])
def test_an_empty_file_is_called_so(tmp_path, ending):
    (tmp_path / f"image{ending}").touch()
    with pytest.raises(InputError, match=r"cut off or damaged \(it is empty\)"):
        read_file(tmp_path / f"image{ending}", "the image")

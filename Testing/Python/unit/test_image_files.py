"""Images as people bring them: a fourth axis, masks among the images, DICOM objects, rounding."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import MOST_CHANNELS, read_file, read_volume
from SparseSegNetLib.files.labels import read_annotation

SHAPE = (5, 6, 7)


def save(path, array, **metadata):
    image = sitk.GetImageFromArray(array, isVector=False)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_fourth_axis_holds_channels(tmp_path, suffix):
    array = np.random.default_rng(0).integers(0, 99, (3, *SHAPE)).astype(np.int16)
    path = save(tmp_path / f"image{suffix}", array)
    volume = read_volume([path])
    assert (volume.image == array).all() and len(volume.channels) == 3
    assert volume.channels[1] == f"image{suffix}[1]"
    with pytest.raises(InputError, match="4 dimensions"):
        read_file(path, "the label file")


def test_a_series_in_time_is_refused(tmp_path):
    path = save(tmp_path / "image.nii.gz", np.zeros((MOST_CHANNELS + 1, *SHAPE), np.int16))
    with pytest.raises(InputError, match=f"up to {MOST_CHANNELS} channels"):
        read_volume([path])


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_among_the_images_is_refused(tmp_path, value):
    image = save(tmp_path / "ct.nrrd", np.arange(210, dtype=np.int16).reshape(SHAPE))
    array = np.zeros(SHAPE, np.uint8)
    array[2] = value
    mask = save(tmp_path / "organ.nrrd", array)
    with pytest.raises(InputError, match=r"organ\.nrrd .* only 0 and .* label file"):
        read_volume([image, mask])
    assert read_volume([mask]).image.max() == value, "alone it may be a binary image"


def test_a_fractional_labelmap_names_the_way(tmp_path):
    path = save(
        tmp_path / "s.seg.nrrd",
        np.zeros(SHAPE, np.uint8),
        Segment0_ID="a",
        Segmentation_ContainedRepresentationNames="Fractional labelmap|",
    )
    with pytest.raises(InputError, match="fractional labelmap: convert it"):
        read_file(path, "the label file")


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_dicom_objects_name_the_way(tmp_path, kind):
    path = save(tmp_path / "o.nrrd", np.zeros(SHAPE, np.uint8), **{"0008|0060": kind})
    with pytest.raises(InputError, match=r"open it in Slicer and save it as \.seg\.nrrd"):
        read_file(path, "the label file")


@pytest.mark.parametrize(("share", "taken"), [(0.009, True), (0.012, False)])
def test_grids_may_differ_by_a_hundredth_of_a_voxel(tmp_path, share, taken):
    labels = np.full(SHAPE, 255, np.uint8)
    labels[2], labels[2, :3] = 1, 0
    image = sitk.GetImageFromArray(labels)
    volume = read_volume([save(tmp_path / "image.nrrd", labels.astype(np.int16))])
    image.SetOrigin((share, 0, 0))
    sitk.WriteImage(image, str(tmp_path / "labels.nrrd"))
    if taken:
        assert (read_annotation(tmp_path / "labels.nrrd", volume.geometry).labels == labels).all()
    else:
        with pytest.raises(InputError, match="origin"):
            read_annotation(tmp_path / "labels.nrrd", volume.geometry)


def test_libraries_print_nothing(tmp_path, capfd):
    """What MetaIO prints about a header without a size."""
    path = tmp_path / "bad.mha"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(InputError, match=r"bad\.mha cannot be read"):
        read_volume([path])
    sys.stderr.write("after it")
    assert capfd.readouterr().err == "after it"

"""Label images whose voxels are no whole numbers of one component: rounded, classes, colours."""

import numpy as np
import pytest
import SimpleITK as sitk
from tiff_files import write_tiff

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.label_image import check_order
from SparseSegNetLib.files.labels import Reading, read_annotation

SHAPE = (5, 6, 7)


def labels():
    found = np.full(SHAPE, UNLABELLED, np.uint8)
    found[2] = np.arange(42).reshape(SHAPE[1:]) % 3
    return found


def save(path, array, vector=False):
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))
    return path


@pytest.fixture
def grid(tmp_path):
    return read_volume([save(tmp_path / "image.nrrd", np.arange(210.0).reshape(SHAPE))]).geometry


class TestNearlyWhole:
    @pytest.mark.parametrize("kind", [np.float32, np.float64])
    def test_rounded_with_a_note(self, tmp_path, grid, kind):
        off = np.random.default_rng(0).uniform(-9e-4, 9e-4, SHAPE)
        path = save(tmp_path / "l.nrrd", (labels() + off).astype(kind))
        found = read_annotation(path, grid)
        assert (found.labels == labels()).all()
        assert "values that are almost whole numbers (off by up to 0.0009)" in found.warnings[0]

    def test_whole_ones_without(self, tmp_path, grid):
        path = save(tmp_path / "l.nrrd", labels().astype(np.float32))
        assert read_annotation(path, grid).warnings == []

    @pytest.mark.parametrize("value", [0.5, 1.002, np.nan, np.inf])
    def test_others_are_counted_and_one_is_named(self, tmp_path, grid, value):
        array = labels().astype(np.float32)
        array[2, 3, 4] = array[4, 5, 6] = value
        path = save(tmp_path / "l.nrrd", array)
        shown = f"{np.float32(value):.9g}"
        with pytest.raises(InputError, match=f"2 voxels, the first with {shown} at i=4, j=3, k=2"):
            read_annotation(path, grid)

    def test_scaled_values(self, tmp_path, grid):
        """A label file that a program stored with a slope, 1/255."""
        array = labels()
        path = save(tmp_path / "l.nii", np.where(array == UNLABELLED, 255, 85 * array))
        data = bytearray(path.read_bytes())
        data[112:116] = np.float32(1 / 85).tobytes()
        path.write_bytes(data)
        found = read_annotation(path, grid, Reading(3))
        assert (found.labels == array).all()


class TestClasses:
    def channels(self, values):
        return np.stack([labels() == v for v in values]).astype(np.uint8)

    @pytest.mark.parametrize("layout", ["fourth axis", "components"])
    @pytest.mark.parametrize("high", [1, 255])
    def test_with_background(self, tmp_path, grid, layout, high):
        array = high * self.channels((0, 1, 2))
        vector = layout == "components"
        path = save(tmp_path / "l.nrrd", np.moveaxis(array, 0, -1) if vector else array, vector)
        found = read_annotation(path, grid)
        assert (found.labels == labels()).all()
        assert "the first is taken as background" in found.warnings[0]

    def test_without_background(self, tmp_path, grid):
        path = save(tmp_path / "l.nii.gz", self.channels((1, 2)))
        found = read_annotation(path, grid, Reading(0))
        assert (found.labels == labels()).all()
        assert "labels 1 to 2, voxels of none as 0" in found.warnings[0]
        with pytest.raises(InputError, match="--unlabelled"):
            read_annotation(path, grid)

    def test_many(self, tmp_path, grid):
        array = np.zeros((40, *SHAPE), np.uint8)
        array[np.arange(42) % 40, 2, np.arange(42) // 7, np.arange(42) % 7] = 1
        found = read_annotation(save(tmp_path / "l.nrrd", array), grid)
        assert len(found.segments) == 39

    def test_overlapping_ones_are_refused(self, tmp_path, grid):
        array = self.channels((1, 2))
        array[:, 2, 3, 4] = 1
        with pytest.raises(InputError, match=r"1 voxels belong to several .*i=4, j=3, k=2"):
            read_annotation(save(tmp_path / "l.nrrd", array), grid)

    def test_other_components_are_refused(self, tmp_path, grid):
        array = np.random.default_rng(0).integers(0, 9, (*SHAPE, 2)).astype(np.int16)
        with pytest.raises(InputError, match="2 components"):
            read_annotation(save(tmp_path / "l.nrrd", array, vector=True), grid)


class TestColours:
    COLOURS = np.array([(0, 0, 0), (250, 250, 0), (0, 0, 255), (255, 0, 0)], np.uint8)

    def test_by_brightness(self, tmp_path, grid):
        array = self.COLOURS[np.where(labels() == UNLABELLED, 0, labels() + 1)]
        path = write_tiff(tmp_path / "l.tif", list(array))
        found = read_annotation(path, grid, Reading(0))
        assert len(found.segments) == 3
        for own, wanted in ((0, 3), (1, 1), (2, 2)):  # yellow, blue, red
            assert (found.labels[labels() == own] == wanted).all()
        assert "1 = (0, 0, 255), 2 = (255, 0, 0), 3 = (250, 250, 0)" in found.warnings[0], (
            found.warnings
        )

    def test_grey_ones_are_values(self, tmp_path, grid):
        array = np.repeat(labels()[..., None], 3, axis=-1)
        found = read_annotation(write_tiff(tmp_path / "l.tif", list(array)), grid)
        assert (found.labels == labels()).all()

    def test_transparent_is_nothing(self, tmp_path):
        array = np.zeros((6, 7, 4), np.uint8)
        array[..., 0] = 200
        array[1:3, 1:3] = (0, 90, 0, 255)
        image = save(tmp_path / "image.nrrd", np.arange(42, dtype=np.int16).reshape(1, 6, 7))
        path = save(tmp_path / "l.png", array, vector=True)
        found = read_annotation(path, read_volume([image]).geometry, Reading(0))
        assert len(found.segments) == 1 and (found.labels == 1).sum() == 4

    def test_a_photograph_is_refused(self, tmp_path):
        array = np.random.default_rng(0).integers(0, 256, (5, 12, 7, 3)).astype(np.uint8)
        image = save(tmp_path / "b.nrrd", np.zeros(array.shape[:3], np.int16))
        path = write_tiff(tmp_path / "l.tif", list(array))
        with pytest.raises(InputError, match="different colours, at most 254"):
            read_annotation(path, read_volume([image]).geometry)

    def test_jpeg_is_refused(self, tmp_path):
        path = save(tmp_path / "l.jpg", labels()[2])
        image = save(tmp_path / "image.nrrd", np.arange(42, dtype=np.int16).reshape(1, 6, 7))
        with pytest.raises(InputError, match="JPEG file, which changes values"):
            read_annotation(path, read_volume([image]).geometry)


class TestOrder:
    """The labels come last."""

    def test_a_segmentation_among_the_images(self, tmp_path):
        image = sitk.GetImageFromArray(labels())
        image.SetMetaData("Segment0_ID", "a")
        sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
        with pytest.raises(InputError, match=r"s\.seg\.nrrd is a segmentation.* comes last"):
            read_volume([tmp_path / "s.seg.nrrd"])

    @pytest.mark.parametrize("kind", [np.float32, np.int16])
    def test_an_image_as_labels(self, tmp_path, grid, kind):
        array = np.random.default_rng(0).normal(-500, 300, (2, *SHAPE)).astype(kind)
        path = save(tmp_path / "ct.nrrd", array[0])
        with pytest.raises(InputError, match="the label file comes last"):
            read_annotation(path, grid)

    def test_an_image_with_few_values_as_labels(self, tmp_path):
        volume = read_volume([save(tmp_path / "l.nrrd", labels())])
        with pytest.raises(InputError, match=r"were they exchanged\?"):
            check_order(volume, tmp_path / "image.nrrd", 120)
        image = read_volume([save(tmp_path / "i.nrrd", np.arange(210).reshape(SHAPE))])
        check_order(image, tmp_path / "l.nrrd", 120)
        check_order(volume, tmp_path / "l2.nrrd", 3)

"""TIFF stacks of ImageJ, OME and tifffile: channels, voxel size, colour tables, resolution."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from tiff_files import LONG, RATIONAL, SHORT, TEXT, write_tiff

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import read_annotation

SHAPE = (5, 6, 7)


def stack(*counts, kind=np.uint16):
    return np.random.default_rng(0).integers(0, 250, (*counts, *SHAPE[1:])).astype(kind)


def described(path, array, text, *tags, order="<"):
    pages = array.reshape(-1, *array.shape[-2:])
    return write_tiff(path, list(pages), [(270, TEXT, text.encode()), *tags], order)


def image_j(channels=1, slices=1, frames=1, **more):
    names = {"images": channels * slices * frames, "channels": channels, "slices": slices}
    fields = {"ImageJ": "1.54f", **names, "frames": frames, "hyperstack": "true", **more}
    return "".join(f"{k}={v}\n" for k, v in fields.items() if v != 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_channels_of_imagej_alternate(tmp_path, order, kind):
    array = stack(5, 3, kind=kind)
    volume = read_volume([described(tmp_path / "a.tif", array, image_j(3, 5), order=order)])
    assert (volume.image == array.swapaxes(0, 1)).all()
    assert len(volume.channels) == 3 and "ImageJ" in volume.notes[0]


def test_voxel_size_of_imagej(tmp_path):
    """Width and height are pixels per unit, in the tags."""
    tags = [(282, RATIONAL, (4, 1)), (283, RATIONAL, (2, 1)), (296, SHORT, [1])]
    text = image_j(slices=5, unit="\\u00B5m", spacing=1.5)
    volume = read_volume([described(tmp_path / "a.tif", stack(5), text, *tags)])
    assert volume.geometry.spacing == pytest.approx((0.25e-3, 0.5e-3, 1.5e-3))
    assert "0.00025x0.0005x0.0015 mm" in volume.notes[0]


def test_several_points_in_time_are_refused(tmp_path):
    path = described(tmp_path / "a.tif", stack(4, 5), image_j(slices=5, frames=4))
    with pytest.raises(InputError, match=r"4 points in time \(ImageJ\).*Duplicate"):
        read_volume([path])


def test_a_stack_whose_slices_are_called_frames(tmp_path):
    volume = read_volume([described(tmp_path / "a.tif", stack(5), image_j(frames=5))])
    assert volume.image.shape == (1, *SHAPE) and "taken as slices" in volume.notes[0]


def test_voxels_behind_the_only_page(tmp_path):
    path = described(tmp_path / "a.tif", stack(1), image_j(slices=5))
    with pytest.raises(InputError, match=r"5 slices behind one page.*\.nrrd"):
        read_volume([path])


def test_pages_that_the_description_does_not_know(tmp_path):
    path = described(tmp_path / "a.tif", stack(11), image_j(2, 5))
    with pytest.raises(InputError, match="11 pages, but ImageJ wrote into it that there are 10"):
        read_volume([path])


@pytest.mark.parametrize("order", ["XYCZT", "XYZCT", "XYZTC"])
def test_ome(tmp_path, order):
    text = (
        '<?xml version="1.0"?><OME xmlns="x"><Image><Pixels ID="Pixels:0" '
        f'DimensionOrder="{order}" SizeX="7" SizeY="6" SizeC="2" SizeZ="5" SizeT="1" '
        'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2" Type="uint16">'
        '<Channel SamplesPerPixel="1"/><Channel SamplesPerPixel="1"/></Pixels></Image></OME>'
    )
    array = stack(2, 5)
    pages = array if order != "XYCZT" else array.swapaxes(0, 1)
    volume = read_volume([described(tmp_path / "a.ome.tif", pages, text)])
    assert (volume.image == array).all()
    assert volume.geometry.spacing == pytest.approx((0.5e-3, 0.5e-3, 2e-3))


@pytest.mark.parametrize(("counts", "axes"), [((5, 2), "ZCYX"), ((2, 5), None), ((5, 2), None)])
def test_tifffile(tmp_path, counts, axes):
    array = stack(*counts)
    text = json.dumps({"shape": list(array.shape)} | ({"axes": axes} if axes else {}))
    volume = read_volume([described(tmp_path / "a.tif", array, text)])
    assert (volume.image == (array if counts[0] == 2 else array.swapaxes(0, 1))).all()


@pytest.mark.parametrize("text", ["", "anything", "ImageJ=\nimages=x\n", '{"shape": 3}', "<OME"])
def test_descriptions_that_say_nothing(tmp_path, text):
    volume = read_volume([described(tmp_path / "a.tif", stack(5), text)])
    assert (volume.image[0] == stack(5)).all() and volume.notes == []


def test_a_colour_table_is_not_read_as_colours(tmp_path):
    colours = np.random.default_rng(1).integers(0, 65536, 768).tolist()
    tags = [(262, SHORT, [3]), (320, SHORT, colours)]
    array = stack(5, kind=np.uint8)
    path = write_tiff(tmp_path / "a.tif", list(array), tags)
    before = path.read_bytes()
    volume = read_volume([path])
    assert (volume.image[0] == array).all() and "colour table" in volume.notes[0]
    assert path.read_bytes() == before


class TestWithoutPosition:
    def labels(self):
        labels = np.full(SHAPE, UNLABELLED, np.uint8)
        labels[2] = np.arange(42).reshape(SHAPE[1:]) % 3
        return labels

    def dots(self, number):
        return [(282, RATIONAL, (number, 1)), (283, RATIONAL, (number, 1)), (296, SHORT, [2])]

    def test_resolutions_that_differ(self, tmp_path):
        volume = read_volume([write_tiff(tmp_path / "a.tif", list(stack(5)), self.dots(72))])
        path = write_tiff(tmp_path / "l.tif", list(self.labels()))
        found = read_annotation(path, volume.geometry)
        assert (found.labels == self.labels()).all()
        assert "0.352778x0.352778x1 against 1x1x1 mm" in found.warnings[0]
        assert "the image's grid counts" in found.warnings[0]

    def test_an_image_that_has_a_position(self, tmp_path):
        """Labels that were drawn in Fiji in an export of a scan."""
        image = sitk.GetImageFromArray(stack(5))
        image.SetSpacing((0.5, 0.5, 2))
        image.SetOrigin((-100, 7, 3))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
        path = write_tiff(tmp_path / "l.tif", list(self.labels()))
        found = read_annotation(path, read_volume([tmp_path / "a.nrrd"]).geometry)
        assert (found.labels == self.labels()).all() and len(found.warnings) == 1

    def test_another_size_is_refused(self, tmp_path):
        volume = read_volume([write_tiff(tmp_path / "a.tif", list(stack(6)))])
        path = write_tiff(tmp_path / "l.tif", list(self.labels()))
        with pytest.raises(InputError, match="size 7x6x6 against 7x6x5"):
            read_annotation(path, volume.geometry)

    def test_channels(self, tmp_path):
        one = write_tiff(tmp_path / "a.tif", list(stack(5)), self.dots(72))
        two = write_tiff(tmp_path / "b.tif", list(stack(5)), self.dots(300))
        volume = read_volume([one, two])
        assert volume.image.shape == (2, *SHAPE) and "b.tif" in volume.notes[0]
        assert volume.geometry.spacing[0] == pytest.approx(25.4 / 72)


def test_big_endian_long_tags_are_read(tmp_path):
    path = write_tiff(tmp_path / "a.tif", list(stack(5)), [(254, LONG, [0])], ">")
    assert (read_volume([path]).image[0] == stack(5)).all()

"""NIfTI headers whose grid is sheared, given twice, or not at all."""

import gzip
import re
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of, read_file, read_volume
from SparseSegNetLib.files.labels import read_annotation
from SparseSegNetLib.files.nifti_grid import shear
from SparseSegNetLib.files.writing import check_output, write_labels

SHAPE = (5, 6, 7)
SEGMENTS = [Segment("a", "A", (1, 0, 0), 1)]
UPRIGHT = np.array([[0.8, 0, 0, 10], [0, 0.9, 0, 20], [0, 0, 2.5, 30]])
SHIFT = np.array([1.0, 2.0, 3.0])


def tilted(degrees):
    """A stack whose slices are shifted along j, as of a tilted gantry."""
    rows = UPRIGHT.copy()
    rows[1, 2] = 2.5 * np.tan(np.radians(degrees))
    return rows


def nifti(path, sform=None, qform=None, array=None, pixdim=(0.8, 0.9, 2.5), units=2, version=1):
    """A NIfTI file with these forms (RAS, the qform by its offset alone)."""
    array = np.arange(210, dtype=np.int16).reshape(SHAPE) if array is None else array
    kind = {np.dtype(np.int16): 4, np.dtype(np.uint8): 2}[array.dtype]
    matrix = np.zeros((3, 4)) if sform is None else sform
    quaternion = [0, 0, 0, *(qform if qform is not None else (0, 0, 0))]
    codes = (int(qform is not None), int(sform is not None))
    dims = (3, *array.shape[::-1], 1, 1, 1, 1)
    if version == 1:
        head = bytearray(352)
        struct.pack_into("<i", head, 0, 348)
        struct.pack_into("<8h", head, 40, *dims)
        struct.pack_into("<2h", head, 70, kind, 8 * array.itemsize)
        struct.pack_into("<4f", head, 76, 1, *pixdim)
        struct.pack_into("<3f", head, 108, 352, 1, 0)
        head[123] = units
        struct.pack_into("<2h", head, 252, *codes)
        struct.pack_into("<18f", head, 256, *quaternion, *matrix.ravel())
        head[344:348] = b"n+1\0"
    else:
        head = bytearray(544)
        struct.pack_into("<i", head, 0, 540)
        head[4:12] = b"n+2\0\r\n\x1a\n"
        struct.pack_into("<2h", head, 12, kind, 8 * array.itemsize)
        struct.pack_into("<8q", head, 16, *dims)
        struct.pack_into("<4d", head, 104, 1, *pixdim)
        struct.pack_into("<q2d", head, 168, 544, 1, 0)
        struct.pack_into("<2i", head, 344, *codes)
        struct.pack_into("<18d", head, 352, *quaternion, *matrix.ravel())
        struct.pack_into("<i", head, 500, units)
    data = bytes(head) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def matrix_of(grid):
    """(3, 4) from index to position in RAS."""
    axes = np.array(grid.directions).reshape(3, 3) * grid.spacing
    return np.diag([-1, -1, 1]) @ np.column_stack([axes, grid.origin])


class TestShear:
    @pytest.mark.parametrize("degrees", [1, 15, -30])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_the_axes_of_the_header_are_kept(self, tmp_path, name, degrees):
        path = nifti(tmp_path / name, tilted(degrees), pixdim=(0.8, 0.9, 2.6))
        volume = read_volume([path])
        assert (volume.image[0].ravel() == np.arange(210)).all()
        assert np.allclose(matrix_of(volume.geometry), tilted(degrees), atol=1e-5)
        assert shear(volume.geometry) == pytest.approx(abs(degrees), abs=1e-3)
        assert any("not at right angles" in note for note in volume.notes)

    def test_and_written_again(self, tmp_path):
        path = nifti(tmp_path / "a.nii.gz", tilted(15))
        wanted = read_volume([path]).geometry
        assert "right angles" in check_output(tmp_path / "b.nii.gz", wanted, [path])
        labels = (np.arange(210).reshape(SHAPE) % 2).astype(np.uint8)
        write_labels(tmp_path / "b.nii.gz", labels, wanted, SEGMENTS, path)
        found = read_file(tmp_path / "b.nii.gz", "the result")
        assert (sitk.GetArrayFromImage(found) == labels).all()
        assert np.allclose(matrix_of(geometry_of(found)), matrix_of(wanted), atol=1e-5)

    @pytest.mark.parametrize("name", ["b.nrrd", "b.mha", "b.seg.nrrd"])
    def test_other_formats_that_hold_it(self, tmp_path, name):
        path = nifti(tmp_path / "a.nii.gz", tilted(15))
        wanted = read_volume([path]).geometry
        assert check_output(tmp_path / name, wanted, [path]) is None
        write_labels(tmp_path / name, np.ones(SHAPE, np.uint8), wanted, SEGMENTS, path)
        found = geometry_of(read_file(tmp_path / name, "the result"))
        assert np.allclose(matrix_of(found), matrix_of(wanted), atol=1e-9)

    def test_those_that_do_not_are_refused_at_the_start(self, tmp_path):
        wanted = read_volume([nifti(tmp_path / "a.nii.gz", tilted(15))]).geometry
        image = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
        image.SetDirection(wanted.directions)
        sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
        for name, said in (("b.nii.gz", "right angles.*nrrd or .mha"), ("b.tif", "nrrd")):
            with pytest.raises(InputError, match=f"cannot hold the image's geometry.*{said}"):
                check_output(tmp_path / name, wanted, [tmp_path / "a.nrrd"])

    def test_labels_on_the_same_grid(self, tmp_path):
        labels = np.full(SHAPE, UNLABELLED, np.uint8)
        labels[2], labels[2, :3] = 1, 0
        image = nifti(tmp_path / "a.nii.gz", tilted(15))
        path = nifti(tmp_path / "l.nii.gz", tilted(15), array=labels)
        found = read_annotation(path, read_volume([image]).geometry)
        assert (found.labels == labels).all()

    def test_less_than_a_hundredth_of_a_voxel_is_not_told(self, tmp_path):
        rows = UPRIGHT.copy()
        rows[1, 2] = 2e-4  # mm per slice, of five
        volume = read_volume([nifti(tmp_path / "a.nii", rows)])
        assert volume.notes == [] and shear(volume.geometry) == 0


class TestForms:
    def test_two_that_differ_are_told(self, tmp_path):
        volume = read_volume([nifti(tmp_path / "a.nii", UPRIGHT, SHIFT)])
        assert (
            "two grids that differ in origin (-10, -20, 30) against (-1, -2, 3)"
            in (volume.notes[0])
        )
        used = "sform" if volume.geometry.origin == (-10, -20, 30) else "qform"
        assert f"the {used} is used" in volume.notes[0]

    def test_a_sheared_one_beside_an_upright_one(self, tmp_path):
        volume = read_volume([nifti(tmp_path / "a.nii", tilted(15), UPRIGHT[:, 3])])
        assert "the qform is used" in volume.notes[0] and shear(volume.geometry) == 0

    def test_two_that_agree_are_not_told(self, tmp_path):
        assert read_volume([nifti(tmp_path / "a.nii", UPRIGHT, UPRIGHT[:, 3])]).notes == []

    def test_neither(self, tmp_path):
        volume = read_volume([nifti(tmp_path / "a.nii")])
        assert "sform_code and qform_code are 0" in volume.notes[0]
        assert volume.geometry.spacing == pytest.approx((0.8, 0.9, 2.5))

    def test_a_voxel_size_that_the_matrix_contradicts(self, tmp_path):
        volume = read_volume([nifti(tmp_path / "a.nii", UPRIGHT, pixdim=(1, 1, 1))])
        assert volume.geometry.spacing == pytest.approx((0.8, 0.9, 2.5))
        assert "spacing 0.8x0.9x2.5 against 1x1x1 mm (sform against pixdim)" in volume.notes[0]

    @pytest.mark.parametrize(("units", "scale"), [(1, 1000), (3, 0.001)])
    def test_units(self, tmp_path, units, scale):
        volume = read_volume(
            [nifti(tmp_path / "a.nii", tilted(15), units=units, pixdim=(0.8, 0.9, 2.5882))]
        )
        assert np.allclose(matrix_of(volume.geometry), scale * tilted(15))
        assert len(volume.notes) == 1


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_newer_form_names_the_way(tmp_path, name):
    path = nifti(tmp_path / name, UPRIGHT, version=2)
    with pytest.raises(InputError, match=r"NIfTI-2 file.*Nifti1Image.from_image"):
        read_volume([path])


class TestPairs:
    @pytest.mark.parametrize(("there", "missing"), [(".hdr", ".img"), (".img", ".hdr")])
    def test_half_of_a_pair(self, tmp_path, there, missing):
        image = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
        sitk.WriteImage(image, str(tmp_path / "a.hdr"))
        assert read_volume([tmp_path / f"a{there}"]).image.shape == (1, *SHAPE)
        (tmp_path / f"a{missing}").unlink()
        with pytest.raises(InputError, match=f"put a{missing} beside it"):
            read_volume([tmp_path / f"a{there}"])


class TestDifference:
    """The numbers of a message differ from each other."""

    GRID = Geometry((512, 512, 200), (0.7, 0.7, 3.0), (-1000.116, 0, 5e-7), (1, 0, 0) * 3)
    UNIT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"spacing": (0.7, 0.70003, 3.0)}, "spacing 0.7x0.7x3 against 0.7x0.70003x3 mm"),
            (
                {"origin": (-1000.1241, 0, 5e-7)},
                r"origin \(-1000.116, 0, .* against \(-1000.124, 0,",
            ),
            ({"directions": (1, 0, 5e-5, 0, 1, 0, 0, 0, 1)}, r"directions .* against .*5e-05"),
            ({"spacing": (0.7, 0.7000201, 3.0000004)}, r"0.7000201x3.0000004 mm"),
        ],
    )
    def test_as_many_digits_as_it_takes(self, change, said):
        fields = {"size": self.GRID.size, "spacing": self.GRID.spacing, "origin": self.GRID.origin}
        one = Geometry(**fields, directions=self.UNIT)
        other = Geometry(**{**fields, "directions": self.UNIT, **change})
        text = one.difference(other)
        assert text is not None
        assert re.search(said, text), text

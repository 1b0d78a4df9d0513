"""A DICOM series becomes a volume by the positions of its slices, or is refused with the reason."""

import math
import os
import shutil

import numpy as np
import pytest
from dicom_series import voxels, write_series

from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_file, read_volume
from SparseSegNetLib.files.writing import check_output, write_labels

ARRAY = voxels()


def line(count=6, step=(0.0, 0.0, 1.7), start=(-12.3, 40.5, 7.25)):
    return [tuple(s + k * d for s, d in zip(start, step, strict=True)) for k in range(count)]


def refused(folder, match):
    with pytest.raises(InputError, match=match) as found:
        read_volume([folder])
    assert str(folder) in str(found.value)
    return str(found.value)


class TestPlaces:
    def test_an_upright_series_in_any_order_of_names(self, tmp_path):
        places = line()
        order = [3, 0, 5, 1, 4, 2]
        write_series(tmp_path / "s", ARRAY[order], [places[n] for n in order])
        volume = read_volume([tmp_path / "s"])
        assert (volume.image[0] == ARRAY).all() and volume.image.dtype == np.int16
        assert volume.notes == []
        grid = volume.geometry
        assert grid.origin == (-12.3, 40.5, 7.25) and grid.spacing == pytest.approx((0.8, 0.9, 1.7))
        assert grid.directions == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1), abs=1e-12)

    def test_a_sagittal_series_keeps_its_axes(self, tmp_path):
        # Columns run to the feet, slices from left to right of the patient.
        places = line(step=(-1.7, 0.0, 0.0))
        write_series(tmp_path / "s", ARRAY, places, orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
        volume = read_volume([tmp_path / "s"])
        for k, j, i in ((0, 0, 0), (5, 6, 8), (2, 3, 4)):
            x, y, z = volume.geometry.position(i, j, k)
            n = next(n for n in range(6) if abs(places[n][0] - x) < 1e-6)
            assert y == pytest.approx(40.5 + 0.8 * i) and z == pytest.approx(7.25 - 0.9 * j)
            assert volume.image[0, k, j, i] == ARRAY[n, j, i]

    @pytest.mark.parametrize("degrees", [-18, 5, 25])
    def test_a_tilted_gantry_is_kept_as_a_shear(self, tmp_path, degrees):
        angle = math.radians(degrees)
        step = (0.0, 1.7 * math.tan(angle), 1.7)
        write_series(tmp_path / "s", ARRAY, line(step=step))
        volume = read_volume([tmp_path / "s"])
        assert volume.geometry.position(0, 0, 5) == pytest.approx(line(step=step)[5], abs=1e-6)
        assert volume.geometry.spacing[2] == pytest.approx(1.7 / math.cos(angle))
        assert (volume.image[0] == ARRAY).all()
        assert len(volume.notes) == 1
        assert f"gantry tilt of {abs(degrees)} degrees" in volume.notes[0]
        with pytest.raises(
            InputError, match=r"nii\.gz file cannot hold .* Use \.seg\.nrrd, \.nrrd"
        ):
            check_output(tmp_path / "o.nii.gz", volume.geometry)
        check_output(tmp_path / "o.nrrd", volume.geometry)
        labels = np.zeros(volume.geometry.shape, np.uint8)
        labels[2, 3, 4] = 1
        segment = Segment("a", "A", (1.0, 0.0, 0.0), 1)
        write_labels(tmp_path / "o.nrrd", labels, volume.geometry, [segment])
        back = read_volume([tmp_path / "o.nrrd"])
        assert volume.geometry.difference(back.geometry, 1e-6) is None
        assert (back.image[0] == labels).all()

    def test_one_missing_slice_is_named(self, tmp_path):
        paths = write_series(tmp_path / "s", ARRAY)
        paths[3].unlink()
        text = refused(tmp_path / "s", "1 slice is missing")
        assert "IM002.dcm" in text and "IM004.dcm" in text
        assert "3.4 mm" in text and "1.7 mm" in text and "Slicer" in text

    def test_several_missing_slices_are_counted(self, tmp_path):
        paths = write_series(tmp_path / "s", voxels(9))
        paths[3].unlink()
        paths[4].unlink()
        refused(tmp_path / "s", "2 slices are missing")

    def test_gaps_that_grow_are_refused(self, tmp_path):
        places = [(0.0, 0.0, 1.7 * k + 0.02 * k * k) for k in range(6)]
        write_series(tmp_path / "s", ARRAY, places)
        assert "1.72 to 1.88 mm" in refused(tmp_path / "s", "not evenly spaced")

    def test_slices_beside_the_line_are_refused(self, tmp_path):
        places = line()
        places[3] = (places[3][0] + 0.3, *places[3][1:])
        write_series(tmp_path / "s", ARRAY, places)
        assert "IM003.dcm lies 0.3 mm" in refused(tmp_path / "s", "not evenly spaced")

    def test_rounded_positions_are_no_fault(self, tmp_path):
        # 0.625 mm in two decimals, as scanners write it: -102.62, -102, -101.38.
        places = [(0.0, 0.0, round(-102.62 + 0.625 * k, 2)) for k in range(6)]
        write_series(tmp_path / "s", ARRAY, places, spacing=(0.3, 0.3))
        volume = read_volume([tmp_path / "s"])
        assert volume.geometry.spacing[2] == pytest.approx(0.625, abs=0.002)

    def test_a_tenth_of_a_voxel_is_no_rounding(self, tmp_path):
        places = line()
        places[2] = (*places[2][:2], places[2][2] + 0.1)
        write_series(tmp_path / "s", ARRAY, places)
        refused(tmp_path / "s", "not evenly spaced")


class TestMixtures:
    def test_copies_of_a_slice(self, tmp_path):
        paths = write_series(tmp_path / "s", ARRAY)
        shutil.copy(paths[2], tmp_path / "s" / "IM002 (1).dcm")
        text = refused(tmp_path / "s", "copies of one slice")
        assert "IM002.dcm" in text and "IM002 (1).dcm" in text and "Take one" in text

    def test_two_slices_at_one_place_that_nothing_tells_apart(self, tmp_path):
        write_series(tmp_path / "s", ARRAY)
        write_series(tmp_path / "s", ARRAY[:1], line()[2:3], prefix="again")
        text = refused(tmp_path / "s", "lie at the same position")
        assert "IM002.dcm" in text and "again000.dcm" in text

    def test_orientations(self, tmp_path):
        write_series(tmp_path / "s", ARRAY)
        sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
        write_series(tmp_path / "s", ARRAY, line(step=(1.7, 0, 0)), sagittal, prefix="S")
        text = refused(tmp_path / "s", "different orientations")
        assert r"1\0\0\0\1\0" in text and r"0\1\0\0\0\-1" in text

    def test_sizes(self, tmp_path):
        write_series(tmp_path / "s", ARRAY)
        write_series(tmp_path / "s", voxels(1, 8, 9), line(7)[6:], prefix="L")
        assert "9x7 pixels" in refused(tmp_path / "s", "different sizes")

    def test_pixel_spacings(self, tmp_path):
        write_series(tmp_path / "s", ARRAY)
        write_series(tmp_path / "s", ARRAY[:1], line(7)[6:], spacing=(0.85, 0.9), prefix="L")
        assert "0.85x0.9 mm" in refused(tmp_path / "s", "different pixel spacings")

    def test_types_of_slices_may_differ(self, tmp_path):
        low = np.full((2, 7, 9), 200, np.uint8)
        write_series(tmp_path / "s", low)
        write_series(tmp_path / "s", ARRAY[:2] * 60, line(4)[2:], prefix="L")
        image = read_volume([tmp_path / "s"]).image[0]
        assert (image == np.concatenate([low, ARRAY[:2] * 60])).all()


class TestFolders:
    @pytest.mark.parametrize("suffix", ["", ".ima", ".1", ".txt"])
    def test_other_files_and_any_ending(self, tmp_path, suffix):
        folder = tmp_path / "s"
        write_series(folder, ARRAY, suffix=suffix)
        (folder / "notes.txt").write_text("a note")
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "empty.dcm").write_bytes(b"")
        (folder / "deeper").mkdir()
        assert (read_volume([folder]).image[0] == ARRAY).all()

    def test_damaged_slices_are_named(self, tmp_path):
        paths = write_series(tmp_path / "s", ARRAY)
        content = paths[2].read_bytes()
        for size in (len(content) - 20, len(content) // 2, 140):
            paths[2].write_bytes(content[:size])
            refused(tmp_path / "s", r"IM002\.dcm is a DICOM file that is damaged")

    def test_a_disc_names_its_subfolders(self, tmp_path):
        write_series(tmp_path / "DATA", ARRAY)
        (tmp_path / "DICOMDIR").write_bytes(directory())
        assert str(tmp_path / "DATA") in refused(
            tmp_path, "0 DICOM series in itself; its subfolder"
        )

    def test_a_directory_beside_the_series_does_not_matter(self, tmp_path):
        write_series(tmp_path / "s", ARRAY)
        (tmp_path / "s" / "DICOMDIR").write_bytes(directory())
        assert (read_volume([tmp_path / "s"]).image[0] == ARRAY).all()
        with pytest.raises(InputError, match="object of the kind DICOMDIR"):
            read_file(tmp_path / "s" / "DICOMDIR", "the image")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, "0 DICOM series.*: give a file, or the folder")

    def test_one_file_of_a_series_is_refused(self, tmp_path):
        paths = write_series(tmp_path / "s", ARRAY)
        with pytest.raises(InputError, match=r"IM003\.dcm is one slice of a DICOM series of 6"):
            read_volume([paths[3]])

    def test_a_single_slice_is_said_to_be_one(self, tmp_path):
        path = write_series(tmp_path / "s", ARRAY[:1])[0]
        volume = read_volume([path])
        assert (volume.image[0] == ARRAY[:1]).all() and "a single DICOM slice" in volume.notes[0]
        assert volume.geometry.spacing == pytest.approx((0.8, 0.9, 1.7))

    def test_a_slice_without_position(self, tmp_path):
        paths = write_series(tmp_path / "s", ARRAY)
        # The element's number is changed, so that the header has none.
        content = paths[1].read_bytes()
        assert content.count(b"\x20\x00\x32\x00") == 1
        paths[1].write_bytes(content.replace(b"\x20\x00\x32\x00", b"\x20\x00\x33\x00"))
        refused(tmp_path / "s", r"IM001\.dcm has no position")

    def test_the_readers_are_silent(self, tmp_path, capfd):
        places = [(0.0, 0.3 * k, 1.7 * k + 0.02 * k * k) for k in range(6)]
        write_series(tmp_path / "s", ARRAY, places)
        refused(tmp_path / "s", "not evenly spaced")
        (tmp_path / "s" / "IM001.dcm").write_bytes(b"\0" * 128 + b"DICM" + os.urandom(300))
        refused(tmp_path / "s", "damaged")
        assert capfd.readouterr() == ("", "")


def directory():
    """The beginning of a DICOMDIR, with nothing listed."""
    sop = b"1.2.840.10008.1.3.10"
    syntax = b"1.2.840.10008.1.2.1\0"
    meta = b"\x02\x00\x02\x00UI" + len(sop).to_bytes(2, "little") + sop
    meta += b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    length = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    return b"\0" * 128 + b"DICM" + length + meta

"""Files and folders that are no images: each names the way out; outputs through links."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import PALETTE, Segment, usable_color
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.labels import read_annotation
from SparseSegNetLib.files.writing import check_writable, link_target, write_labels

SHAPE = (4, 5, 6)
GRID = Geometry(SHAPE[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
SEGMENTS = [Segment("a", "Shell", (1, 0, 0), 1)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.npz", r"numpy\.load\('.*a\.npz'\)\[NAME\].*SetSpacing"),
        ("a.h5", r"h5py\.File"),
        ("a.hdf5", r"h5py\.File"),
        ("a.mat", r"scipy\.io\.loadmat"),
        ("a.csv", "no voxels"),
        ("a.stl", "create its binary labelmap"),
        ("a.obj", "create its binary labelmap"),
        ("a.vtp", "create its binary labelmap"),
        ("a.vtk", "images alone"),
        ("a.raw", r"\.mhd or \.nhdr"),
        ("a.dcm", "folder of the series"),
        ("a.czi", "Bio-Formats"),
        ("a.txt", "in a format that SimpleITK reads"),
    ],
)
def test_files(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"solid\n1,2\n" * 100)
    with pytest.raises(InputError, match=f"cannot be read.*{said}"):
        read_volume([tmp_path / name])


def test_the_way_for_arrays_leads_there(tmp_path):
    """What the message tells one to type makes an image."""
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError) as error:
        read_volume([tmp_path / "a.npy"])
    code = str(error.value).partition("in Python: ")[2].partition(" with an array")[0]
    exec("import numpy\n" + code.replace("image.nrrd", f"{tmp_path}/image.nrrd"), {})
    assert (read_volume([tmp_path / "image.nrrd"]).image[0] == array).all()


@pytest.mark.parametrize(
    ("folder", "files", "said"),
    [
        ("a", [], "empty"),
        ("a", ["z001.tif", "z002.tif"], r"2 \.tif files.*Image Sequence"),
        ("a", ["z1.png", "z2.png", "notes.txt"], r"2 \.png files.*Image Sequence"),
        ("a.ome.zarr", [".zattrs", "0/.zarray"], r"store of arrays.*zarr\.open\('.*a\.ome\.zarr'"),
        ("a.nrrd", ["b.nrrd"], r"folder of images \(b\.nrrd"),
        ("a.nii.gz", ["x.doc"], "0 DICOM series"),
        ("a.tif", ["x.doc"], "0 DICOM series"),
    ],
)
def test_folders(tmp_path, folder, files, said):
    (tmp_path / folder).mkdir()
    for name in files:
        (tmp_path / folder / name).parent.mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=said):
        read_volume([tmp_path / folder])


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
class TestLinkedOutputs:
    def write(self, path):
        check_writable(path)
        write_labels(path, np.ones(SHAPE, np.uint8), GRID, SEGMENTS)

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("name", ["out.nrrd", "out.seg.nrrd", "out.nii.gz"])
    def test_the_link_stays(self, tmp_path, name, there):
        (tmp_path / "disk").mkdir()
        target = tmp_path / "disk" / "other name"
        if there:
            target.write_text("old")
        (tmp_path / name).symlink_to(target)
        self.write(tmp_path / name)
        assert (tmp_path / name).is_symlink() and link_target(tmp_path / name) == target
        assert [p.name for p in (tmp_path / "disk").iterdir()] == ["other name"]
        (tmp_path / f"copy-{name}").write_bytes(target.read_bytes())
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"copy-{name}")))
        assert (found == 1).all()

    def test_a_link_of_a_link(self, tmp_path):
        (tmp_path / "b.nrrd").symlink_to("c.nrrd")
        (tmp_path / "a.nrrd").symlink_to("b.nrrd")
        self.write(tmp_path / "a.nrrd")
        assert not (tmp_path / "c.nrrd").is_symlink() and (tmp_path / "b.nrrd").is_symlink()

    def test_those_that_lead_nowhere_are_refused(self, tmp_path):
        (tmp_path / "a.nrrd").symlink_to(tmp_path / "no" / "x.nrrd")
        with pytest.raises(InputError, match=r"no, to which .*a\.nrrd is a link, does not exist"):
            check_writable(tmp_path / "a.nrrd")
        (tmp_path / "b.nrrd").symlink_to("b.nrrd")
        with pytest.raises(InputError, match="leads back to itself"):
            check_writable(tmp_path / "b.nrrd")

    def test_a_device_or_a_pipe_is_not_replaced(self, tmp_path):
        """As root, a file written whole under a temporary name and renamed would replace it."""
        os.mkfifo(tmp_path / "pipe.json")
        (tmp_path / "nothing.json").symlink_to(os.devnull)
        for name in ("pipe.json", "nothing.json"):
            with pytest.raises(InputError, match=r"\.json is a device or a pipe"):
                check_writable(tmp_path / name)

    def test_an_input_is_not_overwritten_through_one(self, tmp_path):
        (tmp_path / "image.nrrd").write_text("precious")
        (tmp_path / "a.nrrd").symlink_to("image.nrrd")
        with pytest.raises(InputError, match="would overwrite the input"):
            check_writable(tmp_path / "a.nrrd", [tmp_path / "image.nrrd"])


class TestColours:
    @pytest.mark.parametrize(
        "text", ["nan 0 0", "0 inf 0", "1 2 3", "-0.1 0 0", "0 0", "red", "1 0 0 0"]
    )
    def test_in_a_segmentation(self, tmp_path, text):
        drawn = np.zeros(SHAPE, np.uint8)
        drawn[2, 1:4, 1:4] = 1
        image = sitk.GetImageFromArray(drawn)
        for key, value in (("ID", "a"), ("Name", "A"), ("Color", text), ("Layer", "0")):
            image.SetMetaData(f"Segment0_{key}", value)
        sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
        found = read_annotation(tmp_path / "s.seg.nrrd", GRID)
        assert found.segments[0].color == PALETTE[0]

    def test_good_ones_are_kept(self):
        assert usable_color((0, 0.25, 1), 3) == (0, 0.25, 1)
        assert usable_color((float("nan"), 0.25, 1), 13) == PALETTE[1]

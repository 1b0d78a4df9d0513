"""Several DICOM series, or several volumes in one, in a folder: listed, and chosen by --series."""

import pytest
from dicom_series import ROOT, voxels, write_series

from SparseSegNetLib.cli.main import main
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import read_file, read_volume

T1, T2 = voxels(seed=1), voxels(5, seed=2)


@pytest.fixture
def folder(tmp_path):
    write_series(tmp_path / "s", T1, uid="11.7", number=3, tags={"0008|103e": "T1  axial"})
    write_series(
        tmp_path / "s", T2, uid="11.8", number=12, prefix="B", tags={"0008|103e": "T2 axial"}
    )
    return tmp_path / "s"


def test_several_series_are_listed(folder):
    with pytest.raises(InputError) as found:
        read_volume([folder])
    text = str(found.value)
    assert "holds 2 DICOM series: 3 'T1 axial' (6 slices, CT" in text
    assert "12 'T2 axial' (5 slices, CT" in text
    assert f"{ROOT}11.7" in text and f"{ROOT}11.8" in text
    assert "--series 3" in text


@pytest.mark.parametrize("wanted", ["12", "t2 AXIAL", f"{ROOT}11.8"])
def test_one_is_chosen(folder, wanted):
    assert (read_volume([folder], series=wanted).image[0] == T2).all()


@pytest.mark.parametrize("wanted", ["4", "T2", "1.2.826.1", "12/2", ""])
def test_a_name_that_fits_none(folder, wanted):
    with pytest.raises(InputError, match=f"no series is '{wanted}'.* 12 'T2 axial'"):
        read_volume([folder], series=wanted)


def test_a_name_that_fits_several(folder):
    with pytest.raises(InputError, match="means 2 DICOM series"):
        read_volume([folder], series=ROOT)


def test_series_of_the_same_number_are_told_by_their_uid(tmp_path):
    write_series(tmp_path / "s", T1, uid="11.7")
    write_series(tmp_path / "s", T2, uid="11.8", prefix="B")
    with pytest.raises(InputError, match=rf"such as --series {ROOT}11\.7"):
        read_volume([tmp_path / "s"])
    assert (read_volume([tmp_path / "s"], series=f"{ROOT}11.7").image[0] == T1).all()
    with pytest.raises(InputError, match="--series 1 means 2 DICOM series"):
        read_volume([tmp_path / "s"], series="1")


@pytest.mark.parametrize(
    ("tag", "name", "values"),
    [
        ("0018|0086", "echo", ("1", "2")),
        ("0018|0081", "echo time", ("4.6", "12")),
        ("0020|0100", "temporal position", ("1", "2")),
        ("0020|0012", "acquisition", ("1", "2")),
    ],
)
def test_volumes_of_one_series(tmp_path, tag, name, values):
    other = voxels(seed=3)
    for array, value in zip((T1, other), values, strict=True):
        write_series(tmp_path / "s", array, number=5, prefix=f"E{value}", tags={tag: value})
    with pytest.raises(InputError) as found:
        read_volume([tmp_path / "s"])
    text = str(found.value)
    assert "2 volumes in one DICOM series: 5/1 (6 slices, CT" in text
    assert f"{name} {values[0]}" in text and f"{name} {values[1]}" in text
    assert (read_volume([tmp_path / "s"], series="5/1").image[0] == T1).all()
    assert (read_volume([tmp_path / "s"], series="5/2").image[0] == other).all()
    with pytest.raises(InputError, match="--series 5 means 2 volumes"):
        read_volume([tmp_path / "s"], series="5")


def test_two_elements_together_tell_volumes_apart(tmp_path):
    arrays = {}
    for echo in "12":
        for time in "12":
            arrays[echo, time] = voxels(seed=10 * int(echo) + int(time))
            tags = {"0018|0086": echo, "0020|0100": time}
            write_series(tmp_path / "s", arrays[echo, time], prefix=f"{echo}{time}", tags=tags)
    with pytest.raises(InputError, match="echo 2, temporal position 1"):
        read_volume([tmp_path / "s"])
    assert (read_volume([tmp_path / "s"], series="1/3").image[0] == arrays["2", "1"]).all()


def test_acquisitions_one_behind_the_other_are_one_volume(tmp_path):
    write_series(tmp_path / "s", T1, tags=lambda k: {"0020|0012": str(1 + k // 3)})
    assert (read_volume([tmp_path / "s"]).image[0] == T1).all()


def test_a_series_that_is_chosen_is_checked(folder):
    (folder / "B002.dcm").unlink()
    assert (read_volume([folder], series="3").image[0] == T1).all()
    with pytest.raises(InputError, match="1 slice is missing"):
        read_volume([folder], series="12")


def test_the_command_line(folder, tmp_path, capfd):
    rest = [str(tmp_path / "no.nrrd"), "-o", str(tmp_path / "o.nrrd")]
    assert main(["densify", str(folder), *rest]) == 2
    assert "Name one with --series" in capfd.readouterr().err
    assert main(["densify", str(folder), *rest, "--series", "12"]) == 2
    assert "no.nrrd does not exist" in capfd.readouterr().err
    assert main(["densify", str(tmp_path / "no.nrrd"), *rest, "--series", "12"]) == 2
    assert "no image is a folder with DICOM files" in capfd.readouterr().err


def test_labels_have_no_option(folder):
    with pytest.raises(InputError, match="Put the files of one into a folder") as found:
        read_file(folder, "the label file", labels=True)
    assert "--series" not in str(found.value)

"""What run folders and models hold of a scan's names: no DICOM tags, and no names if asked so."""

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.runfolder.folder import RunFolder

# Name, ID and birth date of the patient, physician, institution, accession number, descriptions.
PERSONAL = {
    "0010|0010": "Mustermann^Erika",
    "0010|0020": "PATIENT-4711",
    "0010|0030": "19640812",
    "0008|0090": "Referring^Physician",
    "0008|0080": "Waldklinik Eisenberg",
    "0008|0050": "ACC-0815",
    "0008|1030": "Study of Erika",
    "0008|103e": "Series of Erika",
}


def scan(folder):
    """A DICOM series with a bright ball, and labels in two slices, named after a person."""
    grid = np.indices((10, 12, 14)) - np.reshape((4.5, 5.5, 6.5), (3, 1, 1, 1))
    ball = (np.hypot(np.hypot(*grid[:2]), grid[2]) < 4).astype(np.uint8)
    series = folder / "mustermann-ct"
    write_series(series, (400.0 * ball - 200).astype(np.int16), tags=PERSONAL)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    labels = np.full(ball.shape, UNLABELLED, np.uint8)
    labels[5], labels[:, 6] = ball[5], ball[:, 6]
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(folder / "mustermann-labels.nrrd"))
    return series, folder / "mustermann-labels.nrrd"


def held(path, words):
    """The words, in any case, that stand in the files below a path or in their names."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    text = b"\n".join(
        f.name.encode() + (f.read_bytes() if f.is_file() else b"") for f in files
    ).lower()
    return {word for word in words if word.lower().encode() in text}


@pytest.mark.parametrize("names", (True, False))
def test_densify(tmp_path, monkeypatch, names):
    image, labels = scan(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["densify", image, labels, "-o", tmp_path / "mustermann-dense.nrrd", "--run", "run"]
    arguments += ["--save-model", "model.safetensors", "--steps", "2", "--quiet"]
    assert cli.main([*map(str, arguments), *([] if names else ["--no-scan-names"])]) == 0
    run, model = tmp_path / "run", tmp_path / "model.safetensors"
    assert not held(run, PERSONAL.values()) and not held(model, PERSONAL.values()), "DICOM tags"
    person = {"mustermann"}
    assert held(run, person) == (person if names else set())
    assert held(model, person) == (person if names else set())
    if not names:
        (entry,) = RunFolder.open(run).description["inputs"]
        assert (entry["name"], entry["channels"]) == ("scan 1", ["channel 1"])
        assert cli.main(["export", "run", "-o", "again.nrrd"]) == 0, "it needs no source"
        one, again = (
            sitk.ReadImage(str(tmp_path / f"{n}.nrrd")) for n in ("mustermann-dense", "again")
        )
        assert (sitk.GetArrayFromImage(one) == sitk.GetArrayFromImage(again)).all()


def test_several_scans(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    rows = [scan(tmp_path / name) for name in ("one", "two")]
    table = "image,labels,name\n" + "".join(
        f"{image},{labels},Mustermann {n}\n" for n, (image, labels) in enumerate(rows)
    )
    (tmp_path / "mustermann.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    arguments = "train mustermann.csv --save-model model.safetensors --run run --steps 2 --quiet"
    assert cli.main([*arguments.split(), "--no-scan-names", "-o", "dense"]) == 0
    person = {"mustermann"}
    assert not held(tmp_path / "run", person) and not held(tmp_path / "model.safetensors", person)
    assert held(tmp_path / "dense", person) == person, "the results are named as the table says"

"""A profile with umlauts and blanks, paths that are too long, folders that cannot be written."""

import numpy as np
import pytest
from test_command_line import ellipsoids, save

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.files.images import read_file
from SparseSegNetLib.runfolder import file_retries

LONG = 260 * "n"


def case_in(folder):
    """Arguments of `densify` for a small case in a folder, and its dense truth."""
    image, truth = ellipsoids((18, 20, 22))
    slices = spread_slices((1, 1, 1), truth.shape, truth > 0)
    drawn = save(folder / "Gezeichnetes ü.nrrd", restrict_to_slices(truth, slices))
    return ["densify", str(save(folder / "Bild ß.nrrd", image)), str(drawn), "--device", "cpu"]


def test_a_profile_with_umlauts_where_a_scanner_holds_the_result(tmp_path, monkeypatch, capsys):
    """Everything lies there: files, the temporary folder, the run, the working folder.

    The result cannot be renamed; it is kept in the run, and written once nobody holds it.
    """
    profile = tmp_path / "Jürgen Müller-Lüdenscheidt" / "Eigene Dateien 日本"
    profile.mkdir(parents=True)
    for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "SPARSESEGNET_DATA"):
        monkeypatch.setenv(name, str(profile))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(profile)
    run, output = profile / "Läufe 1", profile / "Ergebnis ö.seg.nrrd"
    replace = file_retries.os.replace

    def held(source, target):
        if str(target) == str(output):
            error = PermissionError(13, "The process cannot access the file", str(target))
            error.winerror = 32
            raise error
        replace(source, target)

    monkeypatch.setattr(file_retries, "WINDOWS", True)
    monkeypatch.setattr(file_retries, "WAITS", (0.0,) * 9)
    monkeypatch.setattr(file_retries.os, "replace", held)
    more = ["-o", str(output), "--run", str(run), "--time-budget", "5"]
    assert cli.main([*case_in(profile), *more]) == 5
    said = capsys.readouterr().err
    assert str(output) in said and "virus scanner" in said and "sparsesegnet export" in said
    assert (run / "result" / "1.npy").is_file() and not list(profile.glob(".writing-*"))
    monkeypatch.setattr(file_retries.os, "replace", replace)
    assert cli.main(["export", str(run), "-o", str(output)]) == 0
    assert np.asarray(read_file(output, "the result")[:]).any()


@pytest.mark.parametrize(
    "more", [["-o", f"{LONG}.nrrd"], ["-o", "o.nrrd", "--run", LONG], ["-o", f"{LONG}/o.nrrd"]]
)
def test_names_that_are_too_long(tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*case_in(tmp_path), *more]) == 2
    said = capsys.readouterr().err
    assert "the system takes 255: choose a shorter name" in said and "Traceback" not in said
    assert cli.main(["resume", LONG]) == 2
    assert "choose a shorter name" in capsys.readouterr().err

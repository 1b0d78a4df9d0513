"""A result that could not be written is kept, and ``export`` writes it again."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_command_line import case  # noqa: F401  a fixture

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.files.images import geometry_of


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "out.nrrd"),
        RuntimeError("the writer failed"),
        EOFError("Compressed file ended before the end-of-stream marker was reached"),
    ],
)
def test_a_result_that_cannot_be_written_is_not_lost(
    case,  # noqa: F811
    capsys,
    monkeypatch,
    error,
):
    """Whatever fails after training: it is said where the result is kept, and export writes it."""
    from SparseSegNetLib.cli import densify

    def full(*_):
        raise error

    monkeypatch.setattr(densify, "write_labels", full)
    inputs, out = [str(case / f"{n}.nrrd") for n in ("image", "labels")], str(case / "out.nrrd")
    code = cli.main(["densify", *inputs, "-o", out, "--steps", "2", "--quiet"])
    told = capsys.readouterr().err
    assert code == 5 and str(error).split("] ")[-1][:16] in told and "Traceback" not in told
    kept = Path(re.search(r"kept in (\S+) ", told)[1])
    result = np.load(kept / "result" / "1.npy")
    assert result.shape == (18, 20, 22) and f'sparsesegnet export "{kept}" -o' in told
    for name in ("out.nrrd", "again.nii.gz"):
        assert cli.main(["export", str(kept), "-o", str(case / name)]) == 0
        written = sitk.ReadImage(str(case / name))
        assert (sitk.GetArrayFromImage(written) == result).all()
        assert geometry_of(written).difference(geometry_of(sitk.ReadImage(inputs[0]))) is None
    assert cli.main(["export", str(kept), "-o", inputs[0]]) == 2, "never over the image"
    (kept / "result" / "1.npy").unlink()
    assert cli.main(["export", str(kept), "-o", out]) == 2
    assert "no result yet: 'sparsesegnet resume" in capsys.readouterr().err
    shutil.rmtree(kept)


def test_ctrl_c_while_the_result_is_written_loses_nothing(case, capsys, monkeypatch):  # noqa: F811
    from SparseSegNetLib.cli import densify

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.tempdir", str(case))
    write = densify.write_labels
    monkeypatch.setattr(densify, "write_labels", interrupted)
    inputs, out = [str(case / f"{n}.nrrd") for n in ("image", "labels")], case / "out.nrrd"
    code = cli.main(["densify", *inputs, "-o", str(out), "--steps", "1", "--quiet"])
    told = capsys.readouterr().err
    assert code == 3 and f"{out} was being written" in told
    monkeypatch.setattr(densify, "write_labels", write)
    export = re.search(r"'sparsesegnet export \"(.+)\" -o FILE'", told)[1]
    assert cli.main(["export", export, "-o", str(out)]) == 0 and out.exists()

"""`sparsesegnet resume` and `sparsesegnet doctor`, as they are called."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import SimpleITK as sitk
from phantom import iou, nested
from small_runs import SHAPE, kill, run_folder

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.client import diagnosis as doctor
from SparseSegNetLib.client.interpreter import OTHER, Interpreter
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.engine.compute.problems import classify
from SparseSegNetLib.engine.doctor import examine
from SparseSegNetLib.runfolder.folder import RunFolder


def command(*arguments):
    return [sys.executable, "-m", "SparseSegNetLib.cli", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the engine's pid is found through /proc")
def test_a_command_that_was_killed_is_resumed(tmp_path):
    image, truth = nested(SHAPE)
    labels = restrict_to_slices(truth, spread_slices((2, 2, 1), truth.shape, truth > 0))
    for name, array in (("image", image), ("labels", labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nrrd"))
    out = tmp_path / "out.nrrd"
    process = subprocess.Popen(
        command(
            "densify",
            tmp_path / "image.nrrd",
            tmp_path / "labels.nrrd",
            "-o",
            out,
            "--run",
            tmp_path / "run",
            "--time-budget",
            40,
        ),
        env=engine_environment(),
        stderr=subprocess.DEVNULL,
    )
    state = tmp_path / "run" / "checkpoint" / "state.safetensors"
    end = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert state.exists()
    kill(process.pid)
    process.wait()
    assert not out.exists()
    # The engine that sees that its client is gone is waited for.
    done = subprocess.run(
        command("resume", tmp_path / "run", "--time-budget", 12, "--quiet"),
        env=engine_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stderr and str(out) in done.stderr
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    assert (found[labels != UNLABELLED] == labels[labels != UNLABELLED]).all()
    assert iou(found, truth) > 0.6


class TestRefused:
    def refused(self, capsys, *arguments):
        assert cli.main(["resume", *map(str, arguments)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and "error:" in lines[0]
        return lines[0]

    def test_no_run_folder(self, tmp_path, capsys):
        assert "not a run folder" in self.refused(capsys, tmp_path)

    def test_nowhere_to_write_to(self, tmp_path, capsys):
        folder, _ = run_folder(tmp_path / "run")
        assert "-o" in self.refused(capsys, folder.path)

    def test_too_little_time(self, tmp_path, capsys):
        folder, _ = run_folder(tmp_path / "run")
        assert "at least 5" in self.refused(
            capsys, folder.path, "-o", tmp_path / "o.nrrd", "--time-budget", 1
        )
        assert RunFolder.open(folder.path).options.time_budget == 15

    def test_a_file_that_the_run_names_but_did_not_write(self, tmp_path, capsys):
        """A run folder may be somebody else's: what it names as its output may be anything."""
        folder, _ = run_folder(tmp_path / "run")
        precious = tmp_path / "precious.nrrd"
        precious.write_text("as it was")
        folder.description["output"] = str(precious)
        folder.save()
        said = self.refused(capsys, folder.path)
        assert (
            str(precious) in said
            and "-o" in said
            and precious.read_text(encoding="utf-8") == "as it was"
        )


@pytest.mark.full_engine
class TestDoctor:
    def test_all_is_well(self, capsys):
        assert cli.main(["doctor", "--json", "--device", "cpu"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["ok"] and found["device"] == "cpu"
        assert {c["name"] for c in found["checks"]} == {
            "Python",
            "packages",
            "torch",
            "safetensors",
            "device",
            "memory",
            "disk",
            "path length",
        }
        assert "Conv3d forward and backward" in next(
            c["said"] for c in found["checks"] if c["name"] == "device"
        )

    def test_a_device_that_is_not_there(self, capsys):
        assert cli.main(["doctor", "--device", "cuda:7"]) == 4
        out = capsys.readouterr().out
        assert "FAIL device" in out and "--device cpu" in out and "cannot run" in out

    def test_torch_that_is_half_installed(self, tmp_path):
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text("from torch._C import *\n")
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import json\n"
            "from SparseSegNetLib.engine.doctor import examine\nfrom pathlib import Path\n"
            f"print(json.dumps(examine('cpu', Path({str(tmp_path)!r}))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=engine_environment(),
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        found = json.loads(done.stdout)
        torch = next(c for c in found["checks"] if c["name"] == "torch")
        assert not found["ok"] and torch["state"] == "failed"
        assert "not installed completely" in torch["said"] and "force-reinstall" in torch["remedy"]
        assert found["checks"][-1]["state"] == "ok", "the other checks are made all the same"

    @pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
    def test_a_torch_that_crashes(self, tmp_path):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nkill -{int(signal.SIGSEGV)} $$\n")
        python.chmod(0o755)
        found = doctor.examine("cpu", tmp_path, Interpreter(OTHER, str(python)))
        assert not found["ok"] and "crashed" in found["checks"][0]["said"]

    @pytest.mark.skipif(os.name == "nt", reason="a shell script stands for Python")
    def test_one_that_hangs(self, tmp_path):
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nexec sleep 30\n")
        python.chmod(0o755)
        found = doctor.examine("cpu", tmp_path, Interpreter(OTHER, str(python)), patience=1.0)
        assert not found["ok"] and "no answer" in found["checks"][0]["said"]

    def test_no_python(self, tmp_path):
        found = doctor.examine("cpu", tmp_path, Interpreter(OTHER, str(tmp_path / "none")))
        assert not found["ok"] and "cannot be started" in found["checks"][0]["said"]

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        found = examine("cpu", tmp_path / "gone")
        disk = next(c for c in found["checks"] if c["name"] == "disk")
        assert not found["ok"] and disk["state"] == "failed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            RuntimeError("CUDA error: no kernel image is available for execution"),
            "gpu-not-supported",
        ),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 10)"), "driver"),
        (
            OSError("[WinError 126] The specified module could not be found: c10.dll"),
            "library-missing",
        ),
        (ImportError("DLL load failed while importing _C"), "library-missing"),
        (ImportError("libcudart.so.12: cannot open shared object file"), "library-missing"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "out-of-memory"),
        (OSError(28, "No space left on device"), "disk-full"),
        (OSError(36, "File name too long"), "path-too-long"),
        (ModuleNotFoundError("No module named 'torch._C'"), "torch"),
        (AttributeError("module 'torch' has no attribute 'nn'"), "torch"),
        (PermissionError(13, "Permission denied"), "files"),
        (KeyError("x"), "internal"),
    ],
)
def test_every_error_has_a_cause_and_a_remedy(error, code):
    problem = classify(error)
    assert problem.code == code and problem.cause.endswith(".") and problem.remedy

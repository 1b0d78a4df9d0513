"""A folder that holds somebody's scans runs no code: not even what has the name of a module."""

import os
import subprocess
import sys
import types

import pytest
from small_runs import run_folder

from SparseSegNetLib.client import diagnosis, processes
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.client.installation import in_this_python

NAMES = ("json", "argparse", "signal", "torch", "numpy", "safetensors", "SimpleITK", "tqdm", "pip")


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """The current folder, with modules that leave a trace when they are run."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r})\nraise SystemExit(77)\n"
        )
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    yield types.SimpleNamespace(path=folder, trace=tmp_path / "trace")
    assert not (tmp_path / "trace").exists(), "code of the current folder was run"


def called(*arguments, **environment):
    """As a user calls it, without what our own client sets."""
    keep = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    keep["PYTHONPATH"] = os.pathsep.join(
        [str(processes.PACKAGE_PARENT), *environment.pop("more", [])]
    )
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=keep,
        capture_output=True,
        encoding="utf-8",
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_traps_work(scans):
    """Python itself runs what lies there."""
    done = subprocess.run([sys.executable, "-c", "import json"], check=False)
    assert done.returncode == 77 and scans.trace.read_text(encoding="utf-8") == "json"
    scans.trace.unlink()


@pytest.mark.parametrize(
    "module",
    ["SparseSegNetLib.cli", "SparseSegNetLib.engine.worker"],
)
def test_called_by_a_user(scans, module):
    done = called(module, "--help")
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_the_doctor(scans, tmp_path):
    done = called("SparseSegNetLib.engine.doctor", "cpu", tmp_path)
    assert done.returncode == 0 and '"ok": true' in done.stdout, done.stderr
    found = diagnosis.examine("cpu", tmp_path)
    assert found["ok"], found


@pytest.mark.full_engine
def test_the_engine_of_a_client(scans, tmp_path):
    folder, _ = run_folder(tmp_path / "run", max_steps=1)
    run = EngineRun(folder)
    assert run.wait(120) == "done", run.error


def test_an_installation(scans):
    installation = in_this_python([["-m", "pip", "--version"]])
    while installation.poll() == "running":
        pass
    assert installation.poll() == "done" and any("pip" in line for line in installation.lines)


@pytest.mark.parametrize("entry", ["", ".", "scans", "lib"])
def test_entries_of_the_path_that_depend_on_the_current_folder(scans, monkeypatch, entry):
    """`PYTHONPATH=$PYTHONPATH:/opt/lib` with nothing before it names the current folder."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([entry, os.path.abspath(os.sep + "opt")]))
    environment = processes.engine_environment()
    assert environment["PYTHONPATH"].split(os.pathsep) == [
        str(processes.PACKAGE_PARENT),
        os.path.abspath(os.sep + "opt"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "SparseSegNetLib.engine.worker", "--help"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr

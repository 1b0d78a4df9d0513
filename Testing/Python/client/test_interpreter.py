"""The choice of the Python that the engine runs in, and what another Python inherits."""

import json
import os
import sys
from pathlib import Path

import pytest

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.client import interpreter, own_environment
from SparseSegNetLib.client.diagnosis import refusal
from SparseSegNetLib.client.engine_run import WORKER
from SparseSegNetLib.client.foreign import outside_slicer
from SparseSegNetLib.client.interpreter import AUTO, OTHER, OWN, SSH, THIS, chosen
from SparseSegNetLib.client.processes import command_of, engine_environment
from SparseSegNetLib.client.transport import start
from SparseSegNetLib.errors import InputError


@pytest.fixture
def situation(tmp_path, monkeypatch):
    """situation(slicer, lacking, own): what there is; gives the own environment's Python."""
    monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "data"))

    def arrange(slicer=False, lacking=(), own=False):
        monkeypatch.setattr(interpreter, "in_slicer", lambda: slicer)
        monkeypatch.setattr(interpreter, "missing", lambda: list(lacking))
        python = own_environment.python_in(own_environment.place())
        if own:
            python.parent.mkdir(parents=True)
            python.write_text("")
            own_environment.write_mark(own_environment.place(), {"torch": "2.9"}, "cpu", 7, "now")
        return str(python)

    return arrange


def test_slicers_own_comes_first_where_it_works(situation):
    own = situation(slicer=True, own=True)
    assert chosen().kind == THIS
    interpreter.choose(OWN)
    assert (chosen().kind, chosen().python) == (OWN, own)
    interpreter.choose(OTHER, "/opt/conda/bin/python")
    assert (chosen().kind, chosen().python) == (OTHER, "/opt/conda/bin/python")
    interpreter.choose(AUTO)
    assert chosen().kind == THIS


def test_without_torch_its_own_environment(situation):
    own = situation(slicer=True, lacking=["torch"], own=True)
    assert (chosen().kind, chosen().python) == (OWN, own)
    interpreter.choose(THIS)
    assert chosen().kind == THIS, "it is being repaired"


def test_one_that_is_not_whole_is_not_used(situation):
    situation(slicer=True, lacking=["torch"], own=True)
    interpreter.choose(OWN)
    mark = own_environment.place() / own_environment.MARK
    whole = mark.read_text(encoding="utf-8")
    for broken in ("", "[]", '{"schema": 99}', whole.replace("7", '"7"')):
        mark.write_text(broken)
        assert chosen().kind == THIS
    mark.write_text(whole)
    assert chosen().kind == OWN
    Path(chosen().python).unlink()
    assert chosen().kind == THIS


def test_the_command_line_takes_its_own_python_where_torch_is(situation, monkeypatch):
    situation(own=True)
    interpreter.choose(OTHER, "/opt/conda/bin/python")
    assert chosen().kind == THIS
    situation(lacking=["torch"])
    assert chosen().python == "/opt/conda/bin/python"
    monkeypatch.setenv(interpreter.VARIABLE, "/named/python")
    assert chosen().python == "/named/python" and interpreter.VARIABLE in chosen().reason


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"use": "other"}', '{"use": 3, "python": 4}'])
def test_a_damaged_setting_is_none(situation, text):
    situation(slicer=True)
    interpreter.choose(OTHER, "/opt/python")
    path = Path(os.environ["SPARSESEGNET_DATA"]) / interpreter.SETTING
    assert json.loads(path.read_text(encoding="utf-8"))["python"] == "/opt/python"
    path.write_text(text)
    assert interpreter.setting() == (AUTO, "") and chosen().kind == THIS


def test_a_choice_that_cannot_be_stored(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be stored"):
        interpreter.choose(OWN)


def test_a_torch_that_is_too_old_is_missing(monkeypatch):
    assert interpreter.missing() == []
    real = interpreter.importlib.metadata.version
    for version, lacking in (("2.2.2", ["torch"]), ("2.10.0+cu128", []), ("strange", [])):
        monkeypatch.setattr(
            interpreter.importlib.metadata,
            "version",
            lambda name, version=version: version if name == "torch" else real(name),
        )
        assert interpreter.missing() == lacking


def test_the_program_of_a_path(tmp_path):
    inside = tmp_path / "env" / "bin" / "python"
    inside.parent.mkdir(parents=True)
    if os.name == "nt":
        inside.write_text("")
    else:
        inside.symlink_to(sys.executable)
    assert interpreter.python_at(tmp_path / "env") == str(inside), "a link is how venvs are found"
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="choose"):
            interpreter.python_at(wrong)


def test_what_slicers_launcher_sets_is_not_handed_on():
    home, sep = "/opt/Slicer", os.pathsep
    variables = {
        "SLICER_HOME": home,
        "PYTHONHOME": f"{home}/lib/Python",
        "PYTHONPATH": f"{home}/lib{sep}/mine",
        "PYTHONNOUSERSITE": "1",
        "PATH": f"{home}/bin{sep}/usr/bin",
        "LD_LIBRARY_PATH": f"{home}/lib{sep}/home/me/extensions/lib{sep}/opt/cuda",
        "APPLAUNCHER_0_LD_LIBRARY_PATH": "/opt/cuda",
        "APPLAUNCHER_0_PATH": "/usr/bin",
        "APPLAUNCHER_LEVEL": "1",
        "SSL_CERT_FILE": f"{home}/share/Slicer.crt",
        "QT_PLUGIN_PATH": f"{home}/lib/QtPlugins",
        "HOME": "/home/me",
        "CUDA_VISIBLE_DEVICES": "1",
        "SLICER_DATA": "/opt/SlicerData",
    }
    assert outside_slicer(variables) == {
        "PYTHONNOUSERSITE": "1",
        "PATH": "/usr/bin",
        "LD_LIBRARY_PATH": "/opt/cuda",
        "HOME": "/home/me",
        "CUDA_VISIBLE_DEVICES": "1",
        "SLICER_DATA": "/opt/SlicerData",
    }
    # Slicer on macOS has no launcher, and a cluster's module sets variables without Slicer.
    del variables["APPLAUNCHER_0_LD_LIBRARY_PATH"], variables["APPLAUNCHER_0_PATH"]
    kept = outside_slicer(variables)
    assert kept["LD_LIBRARY_PATH"] == f"/home/me/extensions/lib{sep}/opt/cuda"
    assert kept["PATH"] == "/usr/bin"
    assert outside_slicer({"LD_LIBRARY_PATH": "/opt/lib", "PYTHONPATH": "/x"}) == {
        "LD_LIBRARY_PATH": "/opt/lib"
    }


@pytest.mark.full_engine
class TestAnotherPython:
    """This very program under another name stands for a Python with torch elsewhere."""

    @pytest.fixture
    def other(self, tmp_path):
        """A Python that finds torch, but not us; it lies in an environment of its own."""
        folder = tmp_path / "other env ü"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
        (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
        site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        site.mkdir(parents=True)
        (site / "them.pth").write_text("\n".join(p for p in sys.path if "site-packages" in p))
        trap = site / "SparseSegNetLib"
        trap.mkdir()
        (trap / "__init__.py").write_text("raise ImportError('an older one')")
        return folder / "bin" / "python"

    @pytest.mark.skipif(os.name == "nt", reason="links stand for an environment")
    def test_it_is_checked_stored_and_used(self, other, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "data"))
        assert cli.main(["environment", "--python", str(other.parent.parent)]) == 0
        assert f"Chosen for Slicer: {other}" in capsys.readouterr().out
        monkeypatch.setenv("SPARSESEGNET_PYTHON", str(other))
        assert cli.main(["environment", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["python"] == str(other)
        # What starts the engine finds this library, although an older one lies there.
        monkeypatch.setenv("PYTHONHOME", "/nowhere")
        transport, said = start(["-m", WORKER, "--help"]), {"out": b"", "err": b""}
        while (chunk := transport.receive(60.0)) is not None and chunk[0] != "end":
            said[chunk[0]] += chunk[1]
        assert b"usage" in said["out"], said["err"]

    @pytest.mark.skipif(os.name == "nt", reason="a shell script stands for a program")
    def test_what_is_no_python_is_refused(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "data"))
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\necho hello\n")
        program.chmod(0o755)
        assert cli.main(["environment", "--python", str(program)]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert "cannot be used" in said and "Python 3.11 or later" in said
        assert interpreter.setting() == (AUTO, "")

    def test_the_first_reason_is_given(self):
        report = {
            "ok": False,
            "device": None,
            "checks": [
                {"name": "Python", "state": "ok", "said": "3.12", "remedy": ""},
                {
                    "name": "packages",
                    "state": "failed",
                    "said": "scipy is missing.",
                    "remedy": "X.",
                },
                {"name": "torch", "state": "failed", "said": "torch is missing.", "remedy": "Y."},
            ],
        }
        assert refusal(report, "it") == "it cannot be used: packages: scipy is missing. X."
        assert refusal({**report, "ok": True}, "it") is None


def test_another_computer_is_chosen_stored_and_named_by_variables(situation, monkeypatch):
    situation(slicer=True, lacking=["torch"])
    interpreter.choose(SSH, "/opt/python", "ssh me@gpu-box")
    here = chosen()
    assert (here.kind, here.python, here.ssh) == (SSH, "/opt/python", "ssh me@gpu-box")
    command = command_of(["-m", WORKER, "run", "--client"], here)
    assert command[0] == sys.executable and command[-4:] == ["-m", WORKER, "run", "--client"]
    assert command[command.index("--ssh") + 1] == "ssh me@gpu-box"
    assert "PYTHONPATH" in engine_environment(here), "a process of this Python stands for it"
    situation(slicer=False)
    assert chosen().kind == THIS, "the command line's own Python has torch"
    monkeypatch.setenv(interpreter.SSH_VARIABLE, "ssh other")
    assert (chosen().ssh, chosen().python) == ("ssh other", "python3")
    monkeypatch.delenv(interpreter.SSH_VARIABLE)
    situation(slicer=True)
    path = interpreter.local_data_folder() / interpreter.SETTING
    for damaged in ('{"use": "ssh", "python": "x"}', '{"use": "ssh", "python": "x", "ssh": 1}'):
        path.write_text(damaged)
        assert interpreter.setting() == (AUTO, "") and chosen().kind == THIS

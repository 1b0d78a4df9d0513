"""What may be wrong with the other computer, told with cause and remedy; real processes."""

import json
import sys
from pathlib import Path

import pytest
from far_away import quoted, use
from small_runs import run_folder, watched

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.client import engine_run, interpreter
from SparseSegNetLib.client.diagnosis import examine
from SparseSegNetLib.client.interpreter import Interpreter
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.lock import FolderLock

ODD = Path(__file__).parents[1] / "odd_python.py"


@pytest.fixture
def odd(far_nearby, monkeypatch):
    """odd(what): the Python over there lacks something, and its doctor and engines are quick."""

    def set_up(what):
        monkeypatch.setenv("ODD", what)
        monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")
        use(monkeypatch, far_nearby.command, quoted(sys.executable, ODD))
        if what in ("hostile", "hangs-up"):  # they are made of our own messages
            ours = {"PYTHONPATH": str(Path(engine_run.__file__).parents[2])}
            monkeypatch.setenv("FAR_ENVIRONMENT", json.dumps(ours))

    return set_up


@pytest.mark.parametrize(
    ("what", "code", "cause", "remedy"),
    [
        ("old", "remote-python", "3.9.2", "--remote-python"),
        ("no-torch", "remote-packages", "torch", "-m pip install torch numpy scipy"),
        ("full-code", "remote-disk-full", "full", "SPARSESEGNET_DATA"),
        ("full-runs", "remote-disk-full", "full", "SPARSESEGNET_DATA"),
        ("hangs-up", "connection-lost", "gpu-box", "Try again"),
    ],
)
def test_it_lacks_something(tmp_path, odd, what, code, cause, remedy):
    odd(what)
    folder, _ = run_folder(tmp_path / "run")
    run, _ = watched(folder)
    assert run.wait(60) == "failed"
    assert run.error.code == code, run.error
    assert cause in run.error.cause and remedy in run.error.remedy
    FolderLock(folder.path).release()


def test_a_login_that_prints_is_in_nobodys_way(tmp_path, odd):
    odd("noise")
    folder, _ = run_folder(tmp_path / "run")
    run, _ = watched(folder)
    assert run.wait(60) == "done", run.error


@pytest.mark.parametrize("path", ["../evil", "{root}/evil", "result/evil.py"])
def test_nothing_is_written_elsewhere(tmp_path, odd, monkeypatch, path):
    odd("hostile")
    monkeypatch.setenv("ODD_PATH", path.format(root=tmp_path))
    folder, _ = run_folder(tmp_path / "run")
    before = sorted(p for p in tmp_path.rglob("*") if "evil" in p.name)
    run, _ = watched(folder)
    assert run.wait(60) == "failed" and run.error.code == "remote", run.error
    assert "refused" in run.error.cause and "evil" in run.error.cause
    assert sorted(p for p in tmp_path.rglob("*") if "evil" in p.name) == before == []
    RunFolder.open(folder.path)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import sys; sys.stderr.write('Permission denied (publickey).'); sys.exit(255)",
         "ssh-permission"),
        ("import sys; sys.stderr.write('python3: command not found'); sys.exit(127)",
         "remote-python"),
        ("print('Usage: something else')", "ssh"),
    ],
)  # fmt: skip
def test_the_ssh_command_fails(tmp_path, engine, monkeypatch, program, code):
    script = tmp_path / "ssh.py"
    script.write_text(program)
    use(monkeypatch, quoted(sys.executable, script, "gpu-box"))
    folder, _ = run_folder(tmp_path / "run")
    run, _ = watched(folder)
    assert run.wait(60) == "failed" and run.error.code == code, run.error
    assert "gpu-box" in run.error.cause


def test_the_doctor_tells_it_too(tmp_path, odd, far_nearby, capsys):
    odd("no-torch")
    report = examine("cpu", tmp_path)
    (check,) = report["checks"]
    assert not report["ok"] and check["name"] == "connection"
    assert "lacks torch" in check["said"] and "pip install" in check["remedy"]
    missing = Interpreter("ssh", "python3", ssh="no-such-ssh gpu-box")
    assert "no program no-such-ssh" in examine("cpu", tmp_path, missing)["checks"][0]["said"]


def test_the_doctor_there_answers(tmp_path, far, capsys, monkeypatch):
    monkeypatch.delenv(interpreter.SSH_VARIABLE)
    monkeypatch.delenv(interpreter.REMOTE_VARIABLE)
    there = ["--ssh", far.command, "--remote-python", quoted(sys.executable)]
    assert cli.main(["doctor", "--device", "cpu", "--json", *there]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["device"] == "cpu"
    assert cli.main(["doctor", "--remote-python", "x"]) == 2
    assert "--ssh" in capsys.readouterr().err
    assert cli.main(["doctor", "--ssh", "'"]) == 2

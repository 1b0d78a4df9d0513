"""The engine's own environment, made by the real uv from small wheels without a network."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_wheels import engine_wheels

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.client import installation, interpreter, make_environment, own_environment
from SparseSegNetLib.client.processes import command_of, engine_environment
from SparseSegNetLib.errors import EngineError

pytestmark = pytest.mark.full_engine  # and the real doctor
# The packages that this Python finds: a torch of nothing but their address is a torch that works.
PACKAGES = "\n".join(p for p in sys.path if p.endswith("site-packages")).encode()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """offline(files of torch): installations find these wheels alone; gives the environment."""
    if make_environment.found_uv(dict(os.environ)) is None:
        pytest.skip("uv is not installed: pip install -r requirements-dev.txt")
    monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "data ü"))
    for name in [n for n in os.environ if n.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_OFFLINE", "1")  # whatever goes wrong, nothing is downloaded

    def prepare(torch):
        wheels = engine_wheels(tmp_path / "wheels", torch)
        # As the user of a computer without internet sets them, for pip: uv gets them, too.
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
        return own_environment.place()

    return prepare


def finished(run, timeout=60.0):
    end = time.monotonic() + timeout
    while run.poll() == "running" and time.monotonic() < end:
        time.sleep(0.01)
    return run.state


def of_group(group):
    """Numbers of the processes of a process group that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def gone(group, timeout=20.0):
    """True once no process of a group runs any more."""
    end = time.monotonic() + timeout
    while (left := of_group(group)) and time.monotonic() < end:
        time.sleep(0.01)
    return not left


@pytest.fixture
def stuck(offline, monkeypatch):
    """An installation whose uv waits for a server that never answers."""
    folder = offline({})
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("UV_OFFLINE")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        monkeypatch.setenv("UV_HTTP_TIMEOUT", "900")
        monkeypatch.setenv("UV_TORCH_BACKEND", "cpu")
        monkeypatch.setenv("UV_INDEX", os.environ["UV_DEFAULT_INDEX"] + "2")
        accepted = []

        def answer():
            try:
                while True:
                    accepted.append(server.accept()[0])
                    asked.set()
            except OSError:
                pass

        threading.Thread(target=answer, daemon=True).start()
        run = installation.of_own_environment()
        while not asked.is_set():
            assert run.poll() == "running", run.problem
            time.sleep(0.01)
        run.poll()
        yield run, folder
        run.cancel()
        for connection in accepted:
            connection.close()


def test_made_again_used_and_removed(offline, monkeypatch, capsys):
    folder = offline({"elsewhere.pth": PACKAGES})
    for half in ("env/bin/python", "cache/wheels-v5/part", "uv/bin/uv"):
        (folder / half).parent.mkdir(parents=True)
        (folder / half).write_text("half")
    assert own_environment.described() is None and own_environment.remains()
    assert cli.main(["environment", "--make"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "Python" in said and "torch" in said and str(folder) in said
    found = own_environment.described()
    assert found["versions"]["torch"] and found["bytes"] > 0
    assert sorted(p.name for p in folder.iterdir()) == ["complete.json", "env", "lock"]
    # Slicer would use it; this command line has a torch of its own.
    assert interpreter.setting() == (interpreter.OWN, "")
    assert interpreter.chosen().kind == interpreter.THIS
    monkeypatch.setattr(interpreter, "in_slicer", lambda: True)
    own = interpreter.chosen()
    assert own.kind == interpreter.OWN and Path(own.python).is_file()
    # Where this Python is told where its library lies, that one is not.
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    done = subprocess.run(
        command_of(["-c", "import sys; print(sys.prefix)"], own),
        env=engine_environment(own),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    monkeypatch.delenv("PYTHONHOME")
    assert done.stdout.strip() == str(folder / "env"), done.stderr
    assert cli.main(["environment", "--remove"]) == 0
    assert own_environment.described() is None and not own_environment.remains()
    assert interpreter.chosen().kind == interpreter.THIS


def test_a_torch_that_does_not_work_is_not_used(offline):
    broken = b"raise ImportError('DLL load failed')"
    offline({"elsewhere.pth": PACKAGES, "torch/__init__.py": broken})
    run = installation.of_own_environment()
    assert finished(run) == "failed" and "DLL load failed" in str(run.problem)
    assert own_environment.described() is None and own_environment.remains()
    assert interpreter.chosen().kind == interpreter.THIS


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc")
@pytest.mark.parametrize("how", ["cancelled", "client killed", "killed"])
def test_nothing_runs_on(stuck, how):
    run, _folder = stuck
    assert len(of_group(run._pid)) >= 2, "uv runs beside the process that started it"
    if how == "cancelled":
        run.cancel()
        assert run.state == "cancelled"
    elif how == "client killed":
        run._transport.close_input()  # as the system does
    else:
        os.kill(run._pid, signal.SIGKILL)
        assert finished(run) == "failed" and "killed" in str(run.problem)
    assert gone(run._pid)
    assert own_environment.described() is None and own_environment.remains()
    assert interpreter.chosen().kind == interpreter.THIS


def test_the_second_at_once_says_so(stuck):
    second = installation.of_own_environment()
    assert finished(second) == "failed" and "another Slicer" in str(second.problem)
    removal = installation.removal_of_own_environment()
    assert finished(removal) == "failed" and "Wait until" in str(removal.problem)


@pytest.mark.skipif(sys.platform != "linux", reason="a small file system is made by mount")
def test_a_full_disk(offline, tmp_path):
    size = 3_000_000
    folder = offline({"torch/big": os.urandom(size), "elsewhere.pth": PACKAGES})
    folder.mkdir(parents=True)
    options = f"size={size}"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("a file system may not be mounted here")
    try:
        run = installation.of_own_environment()
        assert finished(run) == "failed" and "disk is full" in str(run.problem)
        assert "Free some space" in run.problem.remedy
        assert not own_environment.remains(), "what came half is given back"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_wheel_that_is_missing(offline, tmp_path):
    offline({})
    (tmp_path / "wheels" / "scipy-1.16.0-py3-none-any.whl").unlink()
    run = installation.of_own_environment()
    assert finished(run) == "failed" and "PIP_FIND_LINKS" in run.problem.remedy


def test_a_file_in_the_place_of_the_folder(offline, tmp_path):
    offline({})
    (tmp_path / "data ü").write_text("mine")
    run = installation.of_own_environment()
    assert finished(run) == "failed" and "SPARSESEGNET" not in run.problem.cause
    assert "a file lies where" in str(run.problem)
    assert (tmp_path / "data ü").read_text(encoding="utf-8") == "mine"


def test_without_uv_venv_and_pip_make_it(offline, monkeypatch):
    """Only which programs are run is looked at: venv's pip takes seconds."""
    folder, ran = offline({}), []
    monkeypatch.setattr(make_environment, "found_uv", lambda _: None)
    monkeypatch.setattr(make_environment, "downloaded_uv", lambda _: None)
    monkeypatch.setattr(make_environment, "run", lambda command, *_: ran.append(command))
    make_environment._made(folder, sys.executable)
    assert ran[0][1:3] == ["-m", "venv"] and ran[1][1:4] == ["-m", "pip", "install"]
    with pytest.raises(EngineError, match="cannot be installed"):
        make_environment._made(folder, "3.12")


def test_the_python_that_is_asked_for(monkeypatch):
    assert make_environment.python_request() == sys.executable
    monkeypatch.setenv("SLICER_HOME", "/opt/Slicer")
    assert make_environment.python_request() == "3.12", "Slicer's needs Slicer's launcher"
    monkeypatch.setattr(make_environment.sys, "platform", "darwin")
    monkeypatch.setattr(make_environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(make_environment, "translated", lambda: True)
    assert make_environment.python_request() == "cpython-3.12-macos-aarch64-none"
    monkeypatch.setattr(make_environment, "translated", lambda: False)
    with pytest.raises(EngineError, match="Intel processor"):
        make_environment.python_request()


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for uv")
def test_which_uv_is_used(tmp_path, monkeypatch):
    """Not one that lies in the current folder, and none that is too old."""
    monkeypatch.setattr(make_environment.sysconfig, "get_path", lambda _: str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, version in (("old", "0.7.22"), ("new", "0.8.0"), ("current", "9.9.9")):
        program = tmp_path / name / "uv"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho uv {version}\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path / "current")
    found = make_environment.found_uv
    assert found({"PATH": ""}) is None and found({}) is None
    assert found({"PATH": os.pathsep.join(["", ".", "/nowhere"])}) is None
    assert found({"PATH": str(tmp_path / "old")}) is None
    assert found({"PATH": str(tmp_path / "new")}) == str(tmp_path / "new" / "uv")

"""A run folder trained without a client, and what happens when the system ends a process."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from quick_engine import SERVER
from small_runs import named, run_folder, until, watched

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.engine.training.checkpoint import load_state
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.protocol import decode
from SparseSegNetLib.runfolder.signals import NAMES, Terminated, answer, raise_terminated

posix = pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")


def worker(folder, *before, **streams):
    """An engine that no client began, and that is a process of its own."""
    environment = engine_environment()
    environment.pop(SERVER, None)
    return subprocess.Popen(
        [*before, sys.executable, "-m", engine_run.WORKER, str(folder.path)],
        env=environment,
        **streams,
    )


@pytest.mark.parametrize(
    "closed",
    [False, pytest.param(True, marks=pytest.mark.skipif(os.name == "nt", reason="uses a shell"))],
)
def test_without_a_client_it_trains_to_its_end(tmp_path, closed):
    folder, _ = run_folder(tmp_path / "run", max_steps=3)
    shell = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh") if closed else ()
    process = worker(folder, *shell, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert process.wait(300) == 0
    assert folder.has_result() and load_state(folder.state_paths)[1]["steps"] == 3


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_engine_leaves_a_checkpoint(tmp_path, number):
    folder, _ = run_folder(tmp_path / "run", max_steps=100_000)
    with worker(
        folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        step, events = 0, []
        for line in process.stdout:
            events.append(decode(line, "event"))
            if step == 0 and events[-1].get("step"):
                step = events[-1]["step"]
                process.send_signal(number)
        log = process.stderr.read().decode()
    assert process.returncode == 3, log
    told = named(events, "interrupted")[0]
    saved = load_state(folder.state_paths)[1]["steps"]
    assert saved >= step > 0 and f"of step {saved}." in told["cause"]
    assert f'sparsesegnet resume "{folder.path}"' in told["remedy"] and told["remedy"] in log
    run, events = watched(folder)
    assert until(run, lambda: named(events, "resumed"))
    assert named(events, "resumed")[0]["step"] == saved
    run.cancel()


def test_interrupted_before_anything_was_learnt(tmp_path):
    folder, _ = run_folder(tmp_path / "run", max_steps=100_000)
    run, _ = watched(folder)
    run.observe(lambda event: event["event"] == "ready" and run.interrupt())
    assert run.wait(60) == "failed" and run.error.code == "interrupted"
    assert (
        "before its first checkpoint" in run.error.cause and "begins it again" in run.error.remedy
    )


@posix
def test_a_signal_to_the_command_line_says_how_to_go_on(tmp_path):
    made, _ = run_folder(tmp_path / "made")
    item = made.read_input()
    for name, array in (("image", item.image[0]), ("labels", item.labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nrrd"))
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "SparseSegNetLib.cli",
            "densify",
            *(str(tmp_path / name) for name in ("image.nrrd", "labels.nrrd")),
            "-o",
            str(tmp_path / "out.nrrd"),
            "--steps",
            "100000",
            "--device",
            "cpu",
        ],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=engine_environment(),
    ) as process:
        told, ended = "", False
        # Read as it comes: the progress bar tells of the first step.
        while piece := process.stderr.read(1):
            told += piece
            if not ended and "step " in told:
                ended = True
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 3 and "Traceback" not in told, told
    folder = RunFolder.open(re.search(r'sparsesegnet resume "([^"]+)"', told)[1])
    assert load_state(folder.state_paths)[1]["steps"] > 0
    assert not (tmp_path / "out.nrrd").exists() and not _works_on(folder.path)
    shutil.rmtree(folder.path)


def _works_on(path):
    """Whether an engine's process is still there."""
    return any(
        str(path).encode() in p.read_bytes()
        for p in Path("/proc").glob("[0-9]*/cmdline")
        if p.parent.name != str(os.getpid()) and p.exists()
    )


@posix
@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(signal, n)])
def test_what_is_ignored_from_outside_stays_so(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    try:
        signal.signal(number, signal.SIG_IGN)
        answer(raise_terminated)
        assert signal.getsignal(number) == signal.SIG_IGN
        signal.signal(number, signal.SIG_DFL)
        answer(raise_terminated)
        with pytest.raises(Terminated):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)

"""The batch scripts of the page on clusters, with stand-ins for SLURM's and torch's programs."""

import os
import shlex
import shutil
import subprocess

import pytest
from documentation import ROOT

from SparseSegNetLib.runfolder.protocol import encode

SCRIPTS = sorted((ROOT / "docs" / "slurm").glob("*.sh"))
pytestmark = pytest.mark.skipif(
    os.name == "nt" or shutil.which("bash") is None, reason="a batch system's shell"
)


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "events,code,requeued",
    [
        (("paused", "interrupted"), 1, True),
        (("done",), 0, False),
        (("interrupted", "resumed", "error"), 1, False),
    ],
)
def test_what_was_interrupted_is_queued_again(tmp_path, script, events, code, requeued):
    programs, run = tmp_path / "bin", tmp_path / "a run"
    programs.mkdir()
    run.mkdir()
    said = b"".join(encode("event", name) for name in events).decode()
    stand_in(programs, "srun", 'exec "$@"')
    stand_in(
        programs,
        "torchrun",
        f'printf "%s\\n" "$@" > {shlex.quote(str(tmp_path / "arguments"))}\n'
        f"printf %s {shlex.quote(said)}\nexit {code}",
    )
    stand_in(
        programs,
        "scontrol",
        '[ "$1" = show ] && echo first && echo second && exit\n'
        f'echo "$@" >> {shlex.quote(str(tmp_path / "requeued"))}',
    )
    slurm = {"JOB_ID": "7", "CPUS_PER_TASK": "8", "GPUS_ON_NODE": "2"}
    slurm |= {"NNODES": "2", "JOB_NODELIST": "first,second"}
    environment = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", str(script), str(run)], env=environment)
    assert done.returncode == code
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").splitlines()
    assert arguments[-3:] == ["-m", "SparseSegNetLib.engine.worker", str(run)]
    assert "--nproc-per-node=2" in arguments
    assert ("--rdzv-endpoint=first:20007" in arguments) == (script.stem == "several-nodes")
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text(encoding="utf-8") == "requeue 7\n"

"""Asks the engine's doctor, in a process of its own: a broken torch can end the one it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .processes import engine_environment, explain_end

DOCTOR = "SparseSegNetLib.engine.doctor"
PATIENCE = 180.0  # seconds; torch's first import can take a minute where a virus scanner looks on


def examine(device: str, folder: Path, python: str | None = None,
            patience: float = PATIENCE) -> dict:
    """What `engine.doctor.examine` finds: ok, device, and checks with name, state ('ok',
    'warning' or 'failed'), said and remedy. It never raises: what cannot be asked has failed."""
    try:
        done = subprocess.run([python or sys.executable, "-m", DOCTOR, device, str(folder)],
                              capture_output=True, check=False, env=engine_environment(),
                              timeout=patience, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return failed(f"no answer within {patience:.0f} s", "Restart the computer: a driver may "
                                                             "hang. Or use --device cpu.")
    except OSError as error:
        return failed(f"Python cannot be started ({error})", "Install Slicer or Python again.")
    return report_of(done.returncode, done.stdout, done.stderr, folder)


def report_of(code: int, said: bytes, complaint: bytes, folder: Path) -> dict:
    """The report in a doctor's output; one that says why it died where there is none."""
    for line in reversed(said.decode("utf-8", "replace").splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                break
    words = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["none"]
    problem = explain_end(code, f"'{words[0][:300]}'.", folder, "empty")
    return failed(problem.cause, "Install torch again, for this machine.")


def failed(said: str, remedy: str) -> dict:
    """A report that says one thing alone."""
    return {"ok": False, "device": None, "checks": [
        {"name": "engine", "state": "failed", "said": said, "remedy": remedy}]}

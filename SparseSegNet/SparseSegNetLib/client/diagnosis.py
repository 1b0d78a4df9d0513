"""Runs the engine's doctor in a process of its own: a broken torch can crash its process."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

from ..errors import EngineError
from .interpreter import Interpreter, chosen
from .processes import cannot_start, command_of, engine_environment, explain_end
from .transport import start

DOCTOR = "SparseSegNetLib.engine.doctor"
PATIENCE = 180.0  # seconds; torch's first import can take a minute where a virus scanner looks on


def examine(
    device: str, folder: Path, interpreter: Interpreter | None = None, patience: float = PATIENCE
) -> dict:
    """Runs the doctor and waits for its report; never raises, a doctor that cannot run has failed.

    Args:
        device: The device to check, such as 'auto' or 'cpu'.
        folder: Where run folders are to lie.
        interpreter: The Python to run; the one that was chosen for the engine by default.
        patience: Seconds to wait for the report.

    Returns:
        The report of `engine.doctor.examine`: ok, device, and checks with name, state ('ok',
        'warning' or 'failed'), said and remedy.
    """
    interpreter = interpreter or chosen()
    try:
        done = subprocess.run(
            command_of(["-m", DOCTOR, device, str(folder)], interpreter),
            capture_output=True,
            check=False,
            env=engine_environment(interpreter),
            timeout=patience,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return failed(
            f"no answer within {patience:.0f} s",
            "Restart the computer: a driver may hang. Or use --device cpu.",
        )
    except OSError as error:
        problem = cannot_start(interpreter.python, error.strerror or str(error))
        return failed(problem.cause, problem.remedy)
    return report_of(done.returncode, done.stdout, done.stderr, folder)


def report_of(code: int, stdout: bytes, stderr: bytes, folder: Path) -> dict:
    """Report in a doctor's output; without one, a report of why the doctor ended.

    Args:
        code: The doctor's exit code.
        stdout: Its output, with the report as a line of JSON.
        stderr: Its error output.
        folder: The folder that it was asked about.
    """
    for line in reversed(stdout.decode("utf-8", "replace").splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                break
            if found.get("event") == "error":  # the process that stands for one elsewhere
                return failed(str(found.get("cause")), str(found.get("remedy")), "connection")
            if {"ok", "device", "checks"} <= found.keys():  # whatever program it was
                return found
    last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["none"]
    problem = explain_end(code, f"'{last[0][:300]}'.", folder, "empty")
    return failed(problem.cause, "Install torch again, for this machine.")


def failed(problem: str, remedy: str, name: str = "engine") -> dict:
    """Report with a single failed check."""
    return {
        "ok": False,
        "device": None,
        "checks": [{"name": name, "state": "failed", "said": problem, "remedy": remedy}],
    }


def refusal(report: dict, python: str) -> str | None:
    """Reason why a Python cannot be used for the engine, as a sentence with its remedy.

    Args:
        report: Of the doctor that ran in it.
        python: The program, for the message.

    Returns:
        The first failure; None if the engine can run in it.
    """
    first = next((c for c in report["checks"] if c["state"] == "failed"), None)
    if report["ok"] or first is None:
        return None
    if report["device"] is None and first["name"] == "engine":
        return (
            f"{python} cannot be used: {first['said']} Choose the python program of an environment "
            "with Python 3.11 or later, torch, safetensors, numpy, scipy and SimpleITK."
        )
    return f"{python} cannot be used: {first['name']}: {first['said']} {first['remedy']}".strip()


class Diagnosis:
    """Runs the doctor without waiting; `poll` returns its report once it is there.

    It never raises: a doctor that cannot run has failed.

    Args:
        device: The device to check.
        folder: Where run folders are to lie; the temporary folder by default.
        interpreter: The Python to check; the one that was chosen for the engine by default.

    Attributes:
        interpreter: The Python that is checked.
        report: The report (see `examine`), None while it is not there yet.
    """

    def __init__(
        self,
        device: str = "auto",
        folder: Path | str | None = None,
        interpreter: Interpreter | None = None,
    ):
        self.interpreter = interpreter or chosen()
        self._folder = Path(folder or tempfile.gettempdir())
        self._stdout, self._stderr = b"", b""
        self._until = time.monotonic() + PATIENCE
        self.report: dict | None = None
        try:
            self._transport = start(["-m", DOCTOR, device, str(self._folder)], self.interpreter)
        except EngineError as error:
            self.report = failed(error.cause, error.remedy)

    def poll(self) -> dict | None:
        """Reads new output; returns the report, or None while it is not there yet."""
        while self.report is None and (chunk := self._transport.receive()) is not None:
            stream, data = chunk
            if stream == "out":
                self._stdout += data
            elif stream == "err":
                self._stderr += data
            else:
                self.report = report_of(data, self._stdout, self._stderr, self._folder)
        if self.report is None and time.monotonic() > self._until:
            self._transport.kill()
            self.report = failed(
                f"no answer within {PATIENCE:.0f} s", "Restart the computer: a driver may hang."
            )
        return self.report

    def cancel(self) -> None:
        """Ends the doctor."""
        if self.report is None:
            self._transport.kill()
            self.report = failed("the check was cancelled", "")

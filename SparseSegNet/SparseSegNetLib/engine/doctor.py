"""Checks whether the engine can run here.

``python -m SparseSegNetLib.engine.doctor DEVICE FOLDER`` prints the report as one line of JSON.
Every check stands alone: a failure is reported with its remedy, and the next check is made.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineError
from ..runfolder.file_retries import remove
from ..runfolder.path_length import DEEPEST, path_fault
from ..runfolder.requirements import OLDEST_TORCH, too_old
from .compute.problems import classify

if TYPE_CHECKING:
    import torch

    from .trial.device_trial import DeviceTrial

OLDEST = (3, 11)
PACKAGES, OPTIONAL = ("numpy", "scipy", "SimpleITK"), "SimpleITK"
LITTLE_MEMORY, LITTLE_DISK = 2.0, 1.0  # GiB
NEW_RUN = 20 * "n"  # stands for the name of a run
EDGE = 32  # voxels of the convolution that is tried


def examine(device: str, folder: Path) -> dict:
    """Makes all checks.

    Args:
        device: 'auto' or the name of a device.
        folder: Where run folders are to lie.

    Returns:
        A report: ok (whether the engine can run), device, speed (the most voxels a second of a
        small convolution, forward and backward, that the device reached so far), and checks, each
        with name, state ('ok', 'warning', 'failed'), said and remedy; python, its program, and
        versions of Python and packages.
    """
    versions = {"python": platform.python_version()}
    found: dict = {
        "ok": True,
        "device": None,
        "speed": None,
        "python": sys.executable,
        "versions": versions,
        "checks": [],
    }

    def check(name: str, ask: Callable[[], tuple[str, str, str]]) -> bool:
        try:
            state, said, remedy = ask()
        except EngineError as error:
            state, said, remedy = "failed", error.cause, error.remedy
        except Exception as error:  # whatever it is, it is the result of this check
            problem = classify(error)
            state, said, remedy = "failed", problem.cause, problem.remedy
        found["checks"].append({"name": name, "state": state, "said": said, "remedy": remedy})
        found["ok"] = found["ok"] and state != "failed"
        return state != "failed"

    def on_device() -> tuple[str, str, str]:
        found["device"], found["speed"], said = _tried(device)
        return said

    check("Python", _python)
    check("packages", lambda: _packages(versions))
    check("safetensors", lambda: _safetensors(versions))
    if check("torch", lambda: _torch(versions)):
        check("device", on_device)
        check("memory", lambda: _memory(found["device"] or "cpu"))
    check("disk", lambda: _disk(folder))
    check("path length", lambda: _path(folder))
    return found


def _python() -> tuple[str, str, str]:
    said = f"{platform.python_version()} on {platform.platform()}"
    if sys.version_info < OLDEST:
        return "failed", said + ".", "Python 3.11 or later is needed: Slicer 5.10 or later has it."
    return "ok", said, ""


def _packages(versions: dict[str, str]) -> tuple[str, str, str]:
    lacking = []
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            lacking.append(name)
            continue
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if not lacking:
        return "ok", ", ".join(f"{name} {versions.get(name, '?')}" for name in PACKAGES), ""
    names = " and ".join(lacking)
    remedy = f"Install what is missing: '{sys.executable} -m pip install {' '.join(lacking)}'."
    if lacking == [OPTIONAL]:
        return "warning", f"{names} is missing: the correction of MR intensities needs it.", remedy
    return "failed", f"{names} cannot be found.", remedy


def _safetensors(versions: dict[str, str]) -> tuple[str, str, str]:
    import safetensors
    import safetensors.torch

    versions["safetensors"] = safetensors.__version__
    return "ok", safetensors.__version__, ""


def _torch(versions: dict[str, str]) -> tuple[str, str, str]:
    import torch

    versions["torch"] = torch.__version__
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    said = f"{torch.__version__} ({built}) in {Path(torch.__file__).parent}"
    if too_old(torch.__version__):
        return "failed", said + ".", "torch {}.{} or later is needed.".format(*OLDEST_TORCH)
    return "ok", said, ""


def _tried(name: str) -> tuple[str, float, tuple[str, str, str]]:
    """The device that is chosen, its voxels per second, and what the trial of it has found."""
    from .compute.device import called, prepare_threads
    from .compute.number_formats import number_formats
    from .trial.choice import choose_devices
    from .trial.device_trial import CPU, try_device
    from .trial.known_trials import best_speed, keep_trial

    def tried_anew(device: torch.device) -> DeviceTrial:
        found = try_device(device)
        keep_trial(device, found)
        return found

    prepare_threads()
    keep_trial(CPU, try_device(CPU))  # of its number formats: runs do without those that fail
    devices = choose_devices(name, trial=tried_anew)
    device, notes = devices.network, list(devices.notes)
    seconds = _seconds_of_convolution(device)
    said = (
        f"{device} ({called(device)}): every part of the engine was tried in "
        f"{' and '.join(number_formats(device))}; Conv3d forward and backward on {EDGE}^3 voxels "
        f"in {1000 * seconds:.0f} ms"
    )
    state = "warning" if notes else "ok"
    remedy = "Update the driver and torch: all parts may work then." if notes else ""
    return (
        str(device),
        best_speed(device, EDGE**3 / seconds),
        (state, ". ".join([said, *notes]), remedy),
    )


def _seconds_of_convolution(device: torch.device) -> float:
    import torch

    from .compute.timing import seconds_taken

    pixels = torch.randn(1, 4, EDGE, EDGE, EDGE, device=device)
    layer = torch.nn.Conv3d(4, 8, 3, padding=1).to(device)

    def step() -> None:
        layer(pixels).square().mean().backward()

    step()  # the first time includes what happens only once
    return seconds_taken(step, device)


def _memory(device: str) -> tuple[str, str, str]:
    import torch

    from .compute.allocation import free_memory

    free = {
        name: free_memory(torch.device(name)) / 2**30 for name in dict.fromkeys(("cpu", device))
    }
    said = ", ".join(f"{value:.1f} GiB free on {name}" for name, value in free.items())
    if min(free.values()) < LITTLE_MEMORY:
        return "warning", said, "Close other programs: large volumes need more."
    return "ok", said, ""


def _disk(folder: Path) -> tuple[str, str, str]:
    probe = folder / f".sparsesegnet-doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
    finally:
        remove(probe)
    free = shutil.disk_usage(folder).free / 2**30
    said = f"{free:.1f} GiB free in {folder}"
    if free < LITTLE_DISK:
        return "warning", said, "Free some space: a run keeps the volume and its weights there."
    return "ok", said, ""


def _path(folder: Path) -> tuple[str, str, str]:
    run = folder / NEW_RUN
    said = f"up to about {len(str(run)) + DEEPEST} characters"
    fault = path_fault(run, DEEPEST)
    if fault is not None:
        return "warning", said, f"{fault}."
    return "ok", said, ""


def main(arguments: list[str]) -> int:
    """Prints the report of `examine`; the arguments are device and folder."""
    from .worker import prepare_environment

    prepare_environment()
    device, folder = arguments
    out, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not be taken for us
    print(json.dumps(examine(device, Path(folder))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

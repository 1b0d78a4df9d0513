"""Checks whether the engine can run here.

``python -m SparseSegNetLib.engine.doctor DEVICE FOLDER`` prints the report as one line of JSON.
Every check stands alone: a failure is reported with its remedy, and the next check is made.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import EngineError
from ..runfolder.file_retries import remove
from ..runfolder.path_length import DEEPEST, path_fault
from .compute.problems import classify

OLDEST = (3, 11)
LITTLE_MEMORY, LITTLE_DISK = 2.0, 1.0  # GiB
NEW_RUN = 20 * "n"  # stands for the name of a run
EDGE = 32  # voxels of the convolution that is tried


def examine(device: str, folder: Path) -> dict:
    """Makes all checks.

    Args:
        device: 'auto' or the name of a device.
        folder: Where run folders are to lie.

    Returns:
        A report: ok (whether the engine can run), device, speed (voxels a second of a small
        convolution, forward and backward), and checks, each with name, state ('ok', 'warning',
        'failed'), said and remedy.
    """
    found: dict = {
        "ok": True,
        "device": None,
        "speed": None,
        "python": sys.executable,
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
        found["device"], found["speed"], said = _convolved(device)
        return "ok", said, ""

    check("Python", _python)
    check("safetensors", _safetensors)
    if check("torch", _torch):
        check("device", on_device)
        check("memory", lambda: _memory(found["device"] or "cpu"))
    check("disk", lambda: _disk(folder))
    check("path length", lambda: _path(folder))
    return found


def _python() -> tuple[str, str, str]:
    said = f"{platform.python_version()} on {platform.platform()}"
    if sys.version_info < OLDEST:
        return "failed", said, "Python 3.11 or later is needed: Slicer 5.10 or later has it."
    return "ok", said, ""


def _safetensors() -> tuple[str, str, str]:
    import safetensors
    import safetensors.torch

    return "ok", safetensors.__version__, ""


def _torch() -> tuple[str, str, str]:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return "ok", f"{torch.__version__} ({built}) in {Path(torch.__file__).parent}", ""


def _convolved(name: str) -> tuple[str, float, str]:
    """A 3D convolution forward and backward on the device, compared with the CPU's."""
    import torch

    from .compute.device import choose_device, prepare_threads
    from .compute.timing import seconds_taken

    threads = prepare_threads()
    device = choose_device(name)
    torch.manual_seed(0)
    pixels = torch.randn(1, 4, EDGE, EDGE, EDGE)
    layer = torch.nn.Conv3d(4, 8, 3, padding=1)

    def gradient(on: torch.device) -> torch.Tensor:
        copy = torch.nn.Conv3d(4, 8, 3, padding=1).to(on)
        copy.load_state_dict(layer.state_dict())
        copy(pixels.to(on)).square().mean().backward()
        assert copy.weight.grad is not None
        return copy.weight.grad.cpu()

    truth = gradient(torch.device("cpu"))
    if not torch.allclose(gradient(device), truth, rtol=0.05, atol=1e-3):
        raise EngineError(
            "gpu",
            f"{device} computes a convolution's gradient wrongly.",
            "Update its driver and torch, or use --device cpu.",
        )
    seconds = seconds_taken(lambda: gradient(device), device)
    called = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{threads} threads"
        if device.type == "cpu"
        else "Apple GPU"
    )
    return (
        str(device),
        EDGE**3 / seconds,
        (
            f"{device} ({called}): Conv3d forward and backward on {EDGE}^3 voxels in "
            f"{1000 * seconds:.0f} ms"
        ),
    )


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
    device, folder = arguments
    out, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not be taken for us
    print(json.dumps(examine(device, Path(folder))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

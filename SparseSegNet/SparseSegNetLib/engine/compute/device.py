"""The devices that the engine can compute on, and the processor cores that torch may use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ...errors import EngineError
from . import cgroups

REMEDY = "Use --device cpu, or --device auto to take what works here."


def possible_devices(name: str) -> list[torch.device]:
    """Devices that a name stands for and that this torch knows, best first.

    Args:
        name: 'auto' for CUDA, then Apple's MPS, then the CPU; or an explicit name such as 'cuda:1'.

    Raises:
        EngineError: 'no-device', when this torch does not know the named one.
    """
    if name == "auto":
        kinds = [kind for kind in ("cuda", "mps") if _available(kind)]
        return [torch.device(kind) for kind in (*kinds, "cpu")]
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError("no-device", f"'{name}' is not a device.", REMEDY) from error
    if device.type not in ("cpu", "cuda", "mps") or (
        device.type != "cpu" and not _available(device.type)
    ):
        raise EngineError(
            "no-device",
            f"the device '{name}' is not available in this torch ({torch.__version__}).",
            REMEDY,
        )
    return [device]


def _available(kind: str) -> bool:
    return torch.backends.mps.is_available() if kind == "mps" else torch.cuda.is_available()


def called(device: torch.device) -> str:
    """Name of a device as its maker calls it; the number of threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else f"{torch.get_num_threads()} threads"


def prepare_threads(count: int | None = None) -> int:
    """Lets torch use the cores that this process may run on; returns their number.

    Args:
        count: So many threads instead, whatever the environment says.
    """
    if count is not None:
        torch.set_num_threads(count)
    elif not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


def usable_cores(proc: Path = cgroups.PROC) -> int:
    """Number of cores that this process may run on, all the time.

    Threads beyond the time that a cgroup grants would be halted together with all others.

    Args:
        proc: The folder /proc.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        count = os.cpu_count() or 1
    granted = cgroups.cores(proc)
    return count if granted is None else max(1, min(count, int(granted)))

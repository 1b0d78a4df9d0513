"""The device that the engine computes on, and the processor cores that torch may use."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ...errors import EngineError
from . import cgroups


def choose_device(name: str) -> torch.device:
    """Chooses the device that the engine computes on.

    Args:
        name: 'auto' for CUDA, then Apple's MPS if it can do 3D convolutions, then CPU; or an
            explicit name such as 'cuda:1'.

    Raises:
        EngineError: 'no-device', when the named one cannot be used.
    """
    if name == "auto":
        for kind in ("cuda", "mps"):
            if _available(kind) and _works(torch.device(kind)) is None:
                return torch.device(kind)
        return torch.device("cpu")
    remedy = "Use --device cpu, or --device auto to take what works here."
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError("no-device", f"'{name}' is not a device.", remedy) from error
    if device.type not in ("cpu", "cuda", "mps") or (
        device.type != "cpu" and not _available(device.type)
    ):
        raise EngineError(
            "no-device",
            f"the device '{name}' is not available in this torch ({torch.__version__}).",
            remedy,
        )
    if (problem := _works(device)) is not None:
        raise EngineError("no-device", f"the device '{name}' failed its test: {problem}.", remedy)
    return device


def _available(kind: str) -> bool:
    return torch.backends.mps.is_available() if kind == "mps" else torch.cuda.is_available()


def _works(device: torch.device) -> str | None:
    """The reason why a small 3D convolution fails on the device; None if it works."""
    if device.type == "cpu":
        return None
    try:
        layer = torch.nn.Conv3d(1, 2, 3).to(device)
        layer(torch.zeros(1, 1, 4, 4, 4, device=device)).sum().backward()
        return None if layer.weight.grad.isfinite().all() else "the gradient is not finite"
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]


def prepare_threads() -> int:
    """Lets torch use the cores that this process may run on; returns their number."""
    if not os.environ.get("OMP_NUM_THREADS"):
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

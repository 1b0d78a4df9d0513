"""Which device the engine computes on."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable

import torch

from ..errors import EngineError

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # of mallopt, from glibc's malloc.h


def choose_device(name: str) -> torch.device:
    """The device for 'auto' (CUDA, then Apple's MPS if it can do 3D convolutions, then CPU) or
    for an explicit name. Raises EngineError 'no-device' when that one cannot be used."""
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
            device.type != "cpu" and not _available(device.type)):
        raise EngineError("no-device", f"the device '{name}' is not available in this torch "
                          f"({torch.__version__}).", remedy)
    if (problem := _works(device)) is not None:
        raise EngineError("no-device", f"the device '{name}' failed its test: {problem}.", remedy)
    return device


def _available(kind: str) -> bool:
    return torch.backends.mps.is_available() if kind == "mps" else torch.cuda.is_available()


def _works(device: torch.device) -> str | None:
    """Why a small 3D convolution, forward and backward, fails on the device; None if it works."""
    if device.type == "cpu":
        return None
    try:
        layer = torch.nn.Conv3d(1, 2, 3).to(device)
        layer(torch.zeros(1, 1, 4, 4, 4, device=device)).sum().backward()
        return None if layer.weight.grad.isfinite().all() else "the gradient is not finite"
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]


def keep_freed_memory() -> None:
    """Let the C library keep what tensors leave for those that follow.

    glibc maps large blocks anew each time and gives them back at once. On volumes of millions of
    voxels that took more than a third of the time (docs/lab/short-budgets.md). Other systems'
    libraries have no such switch.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)


def prepare_threads() -> int:
    """Let torch use the cores that this process may run on; returns their number."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(cores)
    return torch.get_num_threads()


def precisions(device: torch.device) -> list[str]:
    """Number formats worth trying for convolutions; the probe decides."""
    return ["float32"] if device.type == "mps" else ["bfloat16", "float32"]


def free_memory(device: torch.device) -> float:
    """Bytes of memory that are free now, on the device (for the CPU: of the machine)."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if os.name == "nt":
        return _free_memory_windows()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    # macOS does not tell what is free in a stable way; half of what is there is a fair guess.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def _free_memory_windows() -> float:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                    *((name, ctypes.c_ulonglong) for name in (
                        "total", "available", "total_page", "available_page", "total_virtual",
                        "available_virtual", "extended"))]

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 4e9
    return float(status.available)


def seconds_taken(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that an action takes, with all that it gave the device to do."""
    synchronize(device)
    begun = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - begun


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given (needed only to measure time)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

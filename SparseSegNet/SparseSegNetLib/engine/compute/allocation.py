"""Free memory, and how the C library reuses memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from . import cgroups, windows_memory

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # of mallopt, from glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets the C library keep the memory of freed tensors for those that follow.

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


def free_memory(device: torch.device) -> float:
    """Bytes of memory that this process may still take on the device.

    For the CPU the least of what the machine has available and of what cgroups, the limit of the
    address space and Windows' job objects leave.
    """
    if device.type == "cuda":
        # What torch's allocator keeps for later is free for us, though not for others.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    if os.name == "nt":
        return windows_memory.free_memory()
    left = (_available(), cgroups.memory_left(), _address_space_left())
    return min(bytes_left for bytes_left in left if bytes_left is not None)


def most_allocated(device: torch.device) -> Callable[[], int]:
    """Begins to watch the memory that tensors take on a device.

    Returns:
        Gives the bytes that were taken at most since then, beyond those taken before; 0 where the
        device does not tell.
    """
    if device.type != "cuda":
        return lambda: 0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device) - before


def _available(proc: Path = cgroups.PROC) -> float:
    """Bytes that the machine has available."""
    try:
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    # macOS does not tell what is free in a stable way; half of what is there is a fair guess.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def _address_space_left(proc: Path = cgroups.PROC) -> float | None:
    """Bytes left of the limit of the address space (ulimit -v); None without one."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int((proc / "self" / "statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None  # macOS does not enforce that limit
    return float(max(1, limit - pages * resource.getpagesize()))

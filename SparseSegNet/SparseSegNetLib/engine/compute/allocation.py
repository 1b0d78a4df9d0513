"""Free memory, and how the C library reuses memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

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
    """Bytes of free memory on the device (for the CPU: of the machine)."""
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
    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in (
                    "total",
                    "available",
                    "total_page",
                    "available_page",
                    "total_virtual",
                    "available_virtual",
                    "extended",
                )
            ),
        ]

    status = Status(length=ctypes.sizeof(Status))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 4e9
    return float(status.available)

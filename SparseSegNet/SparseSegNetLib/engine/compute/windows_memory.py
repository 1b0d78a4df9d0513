"""Free memory on Windows: of the machine, and of the job that the process belongs to."""

from __future__ import annotations

import ctypes

DWORD = ctypes.c_uint32
JOB_LIMITS = 9  # JobObjectExtendedLimitInformation
PROCESS_LIMITED, JOB_LIMITED = 0x100, 0x200  # of LimitFlags
UNKNOWN = 4e9  # bytes, where Windows does not answer


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = [
        ("length", DWORD),
        ("load", DWORD),
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


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = [
        ("process_time", ctypes.c_longlong),
        ("job_time", ctypes.c_longlong),
        ("flags", DWORD),
        ("least_set", ctypes.c_size_t),
        ("most_set", ctypes.c_size_t),
        ("processes", DWORD),
        ("affinity", ctypes.c_size_t),
        ("priority", DWORD),
        ("scheduling", DWORD),
        ("counters", ctypes.c_ulonglong * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process", ctypes.c_size_t),
        ("peak_job", ctypes.c_size_t),
    ]


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = [
        ("length", DWORD),
        ("faults", DWORD),
        *(
            (name, ctypes.c_size_t)
            for name in (
                "peak_set",
                "set",
                "peak_paged",
                "paged",
                "peak_nonpaged",
                "nonpaged",
                "committed",
                "peak_committed",
            )
        ),
    ]


def free_memory() -> float:
    """Bytes that this process may still take: of the machine, and by the limits of its job."""
    library = ctypes.windll.kernel32
    status = _Status(length=ctypes.sizeof(_Status))
    if not library.GlobalMemoryStatusEx(ctypes.byref(status)):
        return UNKNOWN
    return min([float(status.available), *_left_of_job(library)])


def _left_of_job(library) -> list[float]:
    """Bytes left of each memory limit of the job that the process belongs to; none without one.

    What other processes of the job use is not known and does not count.
    """
    limits, counters = _Limits(), _Counters(length=ctypes.sizeof(_Counters))
    if not library.QueryInformationJobObject(
        None, JOB_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits), None
    ):
        return []  # it belongs to none
    library.GetCurrentProcess.restype = ctypes.c_void_p
    library.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, DWORD]
    if not library.K32GetProcessMemoryInfo(
        library.GetCurrentProcess(), ctypes.byref(counters), counters.length
    ):
        return []
    return [
        float(max(1, limit - counters.committed))
        for flag, limit in (
            (PROCESS_LIMITED, limits.process_memory),
            (JOB_LIMITED, limits.job_memory),
        )
        if limits.flags & flag
    ]

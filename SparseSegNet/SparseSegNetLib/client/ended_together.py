"""A process that ends together with everything that it started.

Slicer knows only the launcher that it started, and a launcher that is killed leaves its child
running, which leaves pip and uv. So the child makes a group, or a job, of its own, and ends all of
it when its input is closed: by a client that cancels, or by the system when the client dies.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress

CANCELLED = 3


def begin() -> None:
    """Makes this process the head of a group that ends with it, once its input is closed."""
    if sys.platform == "win32":
        _hold_in_a_job()
    else:
        with suppress(OSError):  # it leads one already
            os.setsid()
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    # Not through sys.stdin: at exit Python would wait for its lock.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    end()


def end() -> None:
    """Ends this process and all that it started, at once."""
    if sys.platform == "win32":
        os._exit(CANCELLED)  # the job is closed with it, and with the job all that is in it
    else:
        os.killpg(0, signal.SIGKILL)


def _hold_in_a_job() -> None:
    """Puts this process into a job that Windows ends as soon as this process has ended."""
    if sys.platform != "win32":
        return
    import ctypes
    from ctypes import wintypes

    class Basic(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class Extended(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", Basic),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = wintypes.HANDLE
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    job = kernel.CreateJobObjectW(None, None)  # its handle stays open as long as this process runs
    limits = Extended()
    limits.BasicLimitInformation.LimitFlags = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    kernel.SetInformationJobObject(
        wintypes.HANDLE(job), 9, ctypes.byref(limits), ctypes.sizeof(limits)
    )
    kernel.AssignProcessToJobObject(
        wintypes.HANDLE(job), wintypes.HANDLE(kernel.GetCurrentProcess())
    )

"""Loaded by each worker process of a cluster on this computer, as it starts."""

from __future__ import annotations

import atexit
import os
import signal
import threading


def dask_setup(worker: object) -> None:
    """Leaves Ctrl-C, which a terminal sends to all its processes, to the command; has it end soon.

    Args:
        worker: Dask's, which calls this.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Last of all: Python would spend seconds on freeing what torch holds.
    atexit.register(os._exit, 0)

"""Work in a thread beside the panel's timer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE = 0.02  # seconds
SAME = 0.005  # seconds after a wait: polled at the same heartbeat


class BackgroundTask:
    """Runs a function in a thread; it must not touch nodes or widgets.

    Slicer's main thread holds Python's lock while it waits for events, so that other threads go on
    only while some Python code of the main thread waits: `poll` does, for a moment.

    Args:
        work: The function.

    Attributes:
        result: What it returned, None before and after an error.
        error: The exception that it ended with, or None.
    """

    _waited = 0.0  # when one of all tasks was waited for last

    def __init__(self, work: Callable[[], object]):
        self.result: object = None
        self.error: Exception | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.error = error

    def poll(self) -> bool:
        """Gives threads some time, once at a heartbeat; returns True once this one has ended."""
        if self._thread.is_alive() and time.monotonic() - BackgroundTask._waited > SAME:
            self._thread.join(PATIENCE)
            BackgroundTask._waited = time.monotonic()
        return not self._thread.is_alive()

"""Work in a thread beside the panel's timer."""

from __future__ import annotations

import threading
from collections.abc import Callable

PATIENCE = 0.02  # seconds


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

    def poll(self, patience: float = PATIENCE) -> bool:
        """Gives the thread some time; returns True once it has ended.

        Args:
            patience: Seconds that it waits for the thread at most; 0 where another task is waited
                for at the same heartbeat.
        """
        self._thread.join(patience)
        return not self._thread.is_alive()

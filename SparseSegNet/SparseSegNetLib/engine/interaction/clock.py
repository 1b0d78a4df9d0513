"""The time that a run has used of its budget."""

from __future__ import annotations

import time


class Clock:
    """Counts seconds, except while it is paused.

    budget: seconds that the run may take; it may be changed while it runs.  begun: time.monotonic()
    at which counting began; a clock that only goes forward, whatever happens to the time of day.
    """

    def __init__(self, budget: float, begun: float | None = None):
        self.budget = budget
        self._begun = time.monotonic() if begun is None else begun
        self._paused: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        now = time.monotonic() if self._paused is None else self._paused
        return now - self._begun

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._begun += self.seconds - value

    @property
    def left(self) -> float:
        """Seconds of the budget that are left, at least 0."""
        return max(0.0, self.budget - self.seconds)

    def pause(self) -> None:
        if self._paused is None:
            self._paused = time.monotonic()

    def resume(self) -> None:
        if self._paused is not None:
            self._begun += time.monotonic() - self._paused
            self._paused = None

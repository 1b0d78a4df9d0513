"""The time that a run has used of its time budget."""

from __future__ import annotations

import time


class Clock:
    """Counts seconds, except while it is paused, whatever happens to the time of day.

    Args:
        budget: Seconds that the run may take.
        begun: time.monotonic() at which counting began; None for now.

    Attributes:
        budget: It may be changed while the clock runs.
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
        """Stops counting."""
        if self._paused is None:
            self._paused = time.monotonic()

    def resume(self) -> None:
        """Counts again."""
        if self._paused is not None:
            self._begun += time.monotonic() - self._paused
            self._paused = None

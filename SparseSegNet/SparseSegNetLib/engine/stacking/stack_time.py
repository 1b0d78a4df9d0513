"""The time for stacking, and how many folds it suffices for."""

from __future__ import annotations

import time
from collections.abc import Callable

# Times the seconds of one set of priors, from which the shallow models' own time does not matter.
AMPLE_TIMES = 10
FEWEST_FOLDS = 2
# Times the seconds of the first preview: smoothing, scores, preview and result that come after
# stacking, measured (docs/lab/time-into-accuracy.md).
FOLLOWING = 5


class StackTime:
    """Seconds that stacking may take, counted from now.

    Args:
        seconds: How long it may take where a network is trained after it; None for no limit.
        seconds_alone: How long it may take, with what follows, where none is; None for no limit.

    Attributes:
        begun: time.monotonic() when it began.
    """

    def __init__(self, seconds: float | None, seconds_alone: float | None):
        self.seconds, self._alone, self._following = seconds, seconds_alone, 0.0
        self.begun = time.monotonic()

    @property
    def passed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def alone(self) -> float | None:
        """Seconds where no network is trained after it, without those of what follows."""
        return None if self._alone is None else max(0.0, self._alone - self._following)

    def previewed(self, show: Callable[[], object]) -> None:
        """Shows a first preview, by whose time what follows stacking is estimated."""
        begun = time.monotonic()
        show()
        self._following = FOLLOWING * (time.monotonic() - begun)

    def folds(self, once: float, seconds_after: Callable[[], float]) -> int | None:
        """Decides into how many folds the annotation is divided, at most.

        Priors of the folds take half of the time at most, and leave what shallow models take.

        Args:
            once: Seconds for one set of priors.
            seconds_after: Estimates the seconds that shallow models take with their features; it
                takes time itself, and is called where that is short.

        Returns:
            At least two; 0 where the time does not suffice for these, None for all that there are.
        """
        if self.seconds is None or self.alone is None:
            return None
        alone, once = self.alone, max(once, 1e-9)
        most = max(FEWEST_FOLDS, 1 + int(alone / 2 // once))
        if FEWEST_FOLDS * once > alone - self.passed:
            return 0
        if AMPLE_TIMES * once > alone:
            after = seconds_after()
            most = min(most, int((alone - self.passed - after) // once))
        return most if most >= FEWEST_FOLDS else 0

"""Work in steps beside the panel's timer: some steps at each heartbeat, or in a thread."""

from __future__ import annotations

import time
from typing import Any

from ..steps import Steps
from .background_task import BackgroundTask

AT_ONCE = 0.01  # seconds that steps are taken at a heartbeat

_givenUp: list[SteppedTask] = []


def pollGivenUp() -> bool:
    """Takes leave of tasks that were given up while a thread worked; True once all have ended."""
    _givenUp[:] = [task for task in _givenUp if not task.poll()]
    return not _givenUp


class SteppedTask:
    """Takes the steps of a generator (see `steps`) when it is polled.

    Args:
        steps: The generator. What it yields as work runs in a thread.

    Attributes:
        result: What it returned, None before and after an error.
        error: The exception that it ended with, or None.
        ended: True once it has returned, failed or been given up.
    """

    def __init__(self, steps: Steps[Any]):
        self.result: Any = None
        self.error: Exception | None = None
        self.ended = False
        self._steps = steps
        self._work: BackgroundTask | None = None
        self._givenUp = False

    def poll(self) -> bool:
        """Takes some steps, or gives the thread some time; returns True once all is done."""
        end = time.monotonic() + AT_ONCE
        while not self.ended:
            if self._work is not None and not self._work.poll():
                break
            self._step()
            if time.monotonic() > end:
                break
        return self.ended

    def giveUp(self) -> None:
        """Takes no further step.

        A thread is not interrupted: `pollGivenUp` lets the generator clean up after it.
        """
        self._givenUp = True
        if self._work is None and not self.ended:
            self._step()
        if not self.ended:
            _givenUp.append(self)

    def _step(self) -> None:
        work, self._work = self._work, None
        try:
            if self._givenUp:
                self.ended = True
                self._steps.close()
                return
            if work is not None and work.error is not None:
                wanted = self._steps.throw(work.error)
            else:
                wanted = self._steps.send(None if work is None else work.result)
        except StopIteration as end:
            self.ended, self.result = True, end.value
        except Exception as error:
            self.ended, self.error = True, error
        else:
            self._work = None if wanted is None else BackgroundTask(wanted)

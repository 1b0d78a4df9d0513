"""Progress bar over several images, each segmented by a run of its own."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from ..client.engine_run import EngineRun
from ..units import clock, counted
from .progress import PHASES, attend


class ImagesProgress:
    """Progress bar over images, with the phase of the present one and the time that is left."""

    def __init__(self, count: int, quiet: bool):
        self._count, self._done, self._name = count, 0, ""
        self._begun = time.monotonic()
        self._bar = tqdm(
            total=float(count),
            disable=quiet or count == 0,
            file=sys.stderr,
            leave=False,
            bar_format="{desc} |{bar}|{postfix}",
        )

    def __enter__(self) -> ImagesProgress:
        """Begins."""
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the bar."""
        self._bar.close()

    def begin(self, name: str) -> None:
        """The next image begins."""
        self._name = name
        self._show("reading", 0.0)

    def tell(self, text: str) -> None:
        """Prints a line for the user."""
        self._bar.write(text, file=sys.stderr)

    def follow(self, run: EngineRun) -> None:
        """Waits for the run of the present image; Ctrl-C cancels it."""

        def show(event: dict) -> None:
            if event["event"] == "progress":
                self._show(PHASES.get(event["phase"], event["phase"]), event["fraction"])
            elif event["event"] in ("warning", "oom-recovered", "silent"):
                self.tell(f"note: {self._name}: {event['text']}")

        run.observe(show)
        attend(run, False, self.tell, self.wait)

    def wait(self, run: EngineRun) -> None:
        """Waits for a run."""
        run.wait()

    def elsewhere(self, workers: int) -> None:
        """The images are segmented by so many workers at once."""
        self._name = f"on {counted(workers, 'worker')}"
        self._show("", 0.0)

    def finished(self) -> None:
        """The present image has ended."""
        self._done += 1
        self._show("", 0.0)

    def _show(self, phase: str, fraction: float) -> None:
        done = self._done + min(1.0, max(0.0, fraction))
        place = f"{min(self._done + 1, self._count)}/{self._count}"
        left = ""
        if done > 0:
            seconds = (time.monotonic() - self._begun) * (self._count - done) / done
            left = f", {clock(seconds)} left"
        self._bar.n = done
        self._bar.set_description_str(f"{place} {self._name}", refresh=False)
        self._bar.set_postfix_str(f"{phase}{left}".lstrip(", "))

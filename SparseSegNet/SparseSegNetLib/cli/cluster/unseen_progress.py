"""Stands in for the progress bar where nobody sees it: in the worker of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from ...client.engine_run import EngineRun
from ..images_progress import ImagesProgress


class UnseenProgress(ImagesProgress):
    """Keeps the notes for the user, and cancels a run that is no longer wanted.

    Args:
        wanted: Raises KeyboardInterrupt when it is not.

    Attributes:
        notes: The lines that the user is told.
    """

    def __init__(self, wanted: Callable[[], None]):
        super().__init__(0, True)
        self._wanted = wanted
        self.notes: list[str] = []

    def tell(self, text: str) -> None:
        """Keeps a line for the user."""
        self.notes.append(text)

    def wait(self, run: EngineRun) -> None:
        """Waits a moment for a run.

        Raises:
            KeyboardInterrupt: The run is not wanted any more.
        """
        self._wanted()
        run.wait(0.5)

"""Signs of life: a connection can be dead for hours before the system says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .frames import FrameError, Frames, text_of

BEAT = 5.0  # seconds between signs of life
SILENCE = 40.0  # seconds without one, after which the other side counts as gone


class Life:
    """Sends signs of life, and notices when none come back.

    Args:
        frames: The connection.
        lost: Called once, in a thread, when nothing has come for SILENCE seconds.
    """

    def __init__(self, frames: Frames, lost: Callable[[], None]):
        self._frames, self._lost = frames, lost
        self._waiting_since: float | None = None
        threading.Thread(target=self._beat, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _beat(self) -> None:
        with suppress(OSError, ValueError):
            while True:
                self._frames.send("beat")
                time.sleep(BEAT)

    def _watch(self) -> None:
        # Time in which nobody listens, as while a client takes no output, does not count.
        while (since := self._waiting_since) is None or time.monotonic() - since < SILENCE:
            time.sleep(1.0)
        self._lost()

    def receive(self) -> tuple[dict, bytes]:
        """Waits for the next message that is no sign of life.

        Raises:
            EOFError: The connection has ended.
            FrameError: Something else has come.
        """
        while True:
            self._waiting_since = time.monotonic()
            try:
                found = self._frames.receive()
            except OSError as error:
                raise EOFError from error
            self._waiting_since = None
            if found is None:
                raise EOFError
            if found[0]["kind"] != "beat":
                return found

    def expect(self, *kinds: str) -> tuple[dict, bytes]:
        """The next message, which has to be of one of these kinds.

        Raises:
            EOFError: The connection has ended.
            FrameError: Something else has come.
        """
        found = self.receive()
        if found[0]["kind"] not in kinds:
            raise FrameError(f"'{text_of(found[0], 'kind', 40)}' instead of '{kinds[-1]}'")
        return found

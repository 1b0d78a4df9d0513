"""Sends back what the engine has written: small files before the event that tells of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .frames import Frames
from .run_files import ENGINES, LARGE, Changed
from .transfer import Sender

SHARE = 0.1  # of the time, for checkpoints


class Outbox:
    """Changed files of a run folder on their way back.

    Checkpoints, which nobody waits for, go piece by piece while nothing else is to be sent, and
    take a tenth of the time at most: a slow line is free for previews.

    Args:
        frames: The connection.
        root: The run folder.
    """

    def __init__(self, frames: Frames, root: Path):
        self._changed = Changed(root, ENGINES)
        self._sender = Sender(frames, root)
        self._waiting: dict[str, None] = {}
        self._sending: Iterator[int] | None = None
        self._taken = self._again_at = 0.0  # seconds that the present file has taken

    def look(self) -> None:
        """Sends what has changed, apart from checkpoints, and tells what has gone."""
        changed, gone = self._changed.look()
        for path in changed:
            if LARGE.fullmatch(path):
                self._waiting[path] = None
            else:
                self._sender.send(path)
        for path in gone:
            self._waiting.pop(path, None)
            self._sender.removed(path)

    @property
    def waiting(self) -> bool:
        """True while there is something that may be sent now."""
        if self._sending is not None:
            return True
        return bool(self._waiting) and time.monotonic() >= self._again_at

    def some(self) -> None:
        """Sends one piece of what waits."""
        if self._sending is None:
            if not self._waiting:
                return
            path = next(iter(self._waiting))
            del self._waiting[path]
            self._sending = self._sender.pieces(path)
        begun = time.monotonic()
        over = next(self._sending, None) is None
        self._taken += time.monotonic() - begun
        if over:
            self._again_at = time.monotonic() + self._taken * (1 / SHARE - 1)
            self._sending, self._taken = None, 0.0

    def rest(self) -> None:
        """Sends all that there is."""
        self.look()
        while self._sending is not None or self._waiting:
            self.some()

"""Sends back what the engine has written: small files before the event that tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .frames import Frames
from .run_files import ENGINES, LARGE, Changed
from .transfer import Sender


class Outbox:
    """Changed files of a run folder on their way back.

    Checkpoints, which nobody waits for, go piece by piece while nothing else is to be sent.

    Args:
        frames: The connection.
        root: The run folder.
    """

    def __init__(self, frames: Frames, root: Path):
        self._changed = Changed(root, ENGINES)
        self._sender = Sender(frames, root)
        self._waiting: dict[str, None] = {}
        self._sending: Iterator[int] | None = None

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
        """True while there is something to send."""
        return self._sending is not None or bool(self._waiting)

    def some(self) -> None:
        """Sends one piece of what waits."""
        if self._sending is None:
            if not self._waiting:
                return
            path = next(iter(self._waiting))
            del self._waiting[path]
            self._sending = self._sender.pieces(path)
        if next(self._sending, None) is None:
            self._sending = None

    def rest(self) -> None:
        """Sends all that there is."""
        self.look()
        while self.waiting:
            self.some()

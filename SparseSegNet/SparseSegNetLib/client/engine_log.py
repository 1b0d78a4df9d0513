"""The engine's log in the run folder, and the last that the engine printed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..runfolder.links import open_to_append
from ..runfolder.protocol import LineBuffer


class EngineLog:
    """Writes what an engine prints, apart from its events, into the log of a run folder.

    Args:
        path: Of the log.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stderr = LineBuffer()
        self._last_stderr = self._last_stdout = ""

    def write_stderr(self, data: bytes) -> None:
        """Appends bytes of stderr, as soon as their lines are whole."""
        self._last_stderr = self.append(self._stderr.feed(data)) or self._last_stderr

    def write_stdout(self, line: bytes) -> None:
        """Appends a line of stdout that is no event."""
        self._last_stdout = self.append([line]) or self._last_stdout

    def close(self) -> None:
        """Appends a last line that has no end."""
        if not self._stderr.empty:
            self.write_stderr(b"\n")

    def append(self, lines: Iterable[bytes]) -> str:
        """Appends whole lines, since two streams share the log; creates it where it is missing.

        Returns:
            The last line that is not empty.
        """
        lines = list(lines)
        # A full disk must not hide why the engine failed. Opened each time, since a run may be
        # abandoned at any moment, and Windows deletes no folder with an open file.
        with suppress(OSError, InputError), open_to_append(self.path) as log:
            log.writelines(line + b"\n" for line in lines)
        texts = (line[:1000].decode("utf-8", "replace").strip() for line in reversed(lines))
        return next(filter(None, texts), "")

    @property
    def last_output(self) -> str:
        """The last line that was printed, for an error message."""
        # Which of two pipes is read first is chance, but the reason of a death is on stderr.
        text = self._last_stderr or self._last_stdout
        return f"'{text[:300]}'." if text else "none."

"""The connection as the proxy uses it: signs of life, faults as errors, output into the log."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from ..errors import EngineError
from .connection import Connection
from .frames import FrameError, text_of
from .life import Life


class Link:
    """Messages to and from the agent.

    Args:
        connection: A connection that has just begun.
    """

    def __init__(self, connection: Connection):
        self.connection, self.frames = connection, connection.frames
        # Once nothing comes any more the SSH command is ended, which `receive` notices.
        self._life = Life(self.frames, connection.kill)

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Sends a message; where that fails, `receive` tells why."""
        with suppress(OSError, ValueError):
            self.frames.send(kind, payload, **fields)

    def receive(self) -> tuple[dict, bytes]:
        """Waits for a message that is neither a sign of life nor for the log.

        Raises:
            EngineError: A fault that the agent tells of, or 'connection-lost'.
        """
        while True:
            try:
                header, payload = self._life.receive()
            except (EOFError, FrameError) as error:
                raise self.connection.lost(error) from error
            if header["kind"] == "err":
                with suppress(OSError, ValueError):
                    sys.stderr.buffer.write(payload)
                    sys.stderr.buffer.flush()
            elif header["kind"] == "fault":
                raise _fault(header)
            else:
                return header, payload


def _fault(header: dict) -> EngineError:
    code = text_of(header, "code", 40)
    cause, remedy = text_of(header, "cause"), text_of(header, "remedy")
    if code == "remote-packages":
        return EngineError("remote-packages", cause, remedy)
    if code == "remote-disk-full":
        return EngineError("remote-disk-full", cause, remedy)
    if code == "locked":
        return EngineError("locked", cause, remedy)
    return EngineError("remote", cause or "the other computer reports a fault.", remedy)

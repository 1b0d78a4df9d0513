"""The engine's protocol: one ASCII JSON object per line, marked with the protocol's version."""

from __future__ import annotations

import json
from typing import Any

PROTOCOL = 1
TAG = "sparsesegnet"
LONGEST = 1 << 20  # bytes of a line; no message is longer


def encode(kind: str, name: str, **data: Any) -> bytes:
    """Encodes a message as one line.

    Args:
        kind: 'event' (engine to client) or 'command' (client to engine).
        name: Name of the event or command.
        **data: Its fields.
    """
    return json.dumps({TAG: PROTOCOL, kind: name, **data}, ensure_ascii=True).encode() + b"\n"


def decode(line: bytes, kind: str) -> dict | None:
    """Message in a line, or None if the line is not one (then it belongs in the log)."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get(TAG) != PROTOCOL:
        return None
    return message if isinstance(message.get(kind), str) else None


class LineBuffer:
    """Cuts a stream of bytes into whole lines.

    Each byte is looked at once, and of a line longer than LONGEST only its beginning is kept, so
    that neither time nor memory grow with what a library may print.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    @property
    def empty(self) -> bool:
        """True if no part of a line is waiting for its end."""
        return not self._parts

    def feed(self, data: bytes) -> list[bytes]:
        """Adds bytes; returns the lines that they complete, without their newlines."""
        first, *others = data.split(b"\n")
        self._keep(first)
        lines = []
        for part in others:
            lines.append(b"".join(self._parts))
            self._parts, self._length = [], 0
            self._keep(part)
        return lines

    def _keep(self, part: bytes) -> None:
        part = part[: LONGEST - self._length]
        if part:
            self._parts.append(part)
            self._length += len(part)

"""The engine's protocol: one ASCII JSON object per line, marked with the protocol's version."""

from __future__ import annotations

import json

PROTOCOL = 1
TAG = "sparsesegnet"


def encode(kind: str, name: str, **data) -> bytes:
    """One line for the wire. kind: 'event' (engine to client) or 'command' (client to engine)."""
    return json.dumps({TAG: PROTOCOL, kind: name, **data}, ensure_ascii=True).encode() + b"\n"


def decode(line: bytes, kind: str) -> dict | None:
    """The message in a line, or None when the line is not one (then it is log)."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get(TAG) != PROTOCOL:
        return None
    return message if isinstance(message.get(kind), str) else None


class LineBuffer:
    """Cuts a stream of bytes into lines; what is decoded is always a whole line. rest: the part
    of a line that has come so far."""

    def __init__(self):
        self.rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self.rest += data
        *lines, rest = bytes(self.rest).split(b"\n")
        self.rest = bytearray(rest)
        return lines

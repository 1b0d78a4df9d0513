"""Messages over a pair of streams: a header in JSON and bytes, with limits on both.

A message is four bytes (length of the header, big-endian), the header, an ASCII JSON object with
``kind``, and the payload: ``size`` bytes in the stream, ``full`` bytes when it is unpacked. Nothing
that the other side announces is believed before it is compared with the limits.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from typing import Any, BinaryIO

MOST_HEADER = 64 << 10  # bytes
MOST_PAYLOAD = 16 << 20  # bytes, unpacked
WORTH_PACKING = 512  # bytes
LENGTH = struct.Struct(">I")


class FrameError(ValueError):
    """Bytes that are no message, or one that is larger than any of ours."""


class Frames:
    """Sends and receives messages; several threads may send.

    Args:
        reading: Binary stream that messages come from.
        writing: Binary stream that they go to.
    """

    def __init__(self, reading: BinaryIO, writing: BinaryIO):
        self._reading, self._writing = reading, writing
        self._lock = threading.Lock()

    def send(self, kind: str, payload: bytes = b"", **fields: Any) -> None:
        """Sends a message, its payload packed where that is shorter.

        Raises:
            OSError: The other side has gone.
            ValueError: The message is too large, or the stream was closed.
        """
        packed = zlib.compress(payload, 1) if len(payload) > WORTH_PACKING else payload
        packed = packed if len(packed) < len(payload) else payload
        header = json.dumps(
            {**fields, "kind": kind, "size": len(packed), "full": len(payload)}
        ).encode("ascii")
        if len(header) > MOST_HEADER or len(payload) > MOST_PAYLOAD:
            raise ValueError(f"the message '{kind}' is too large")
        with self._lock:
            self._writing.write(LENGTH.pack(len(header)) + header)
            self._writing.write(packed)
            self._writing.flush()

    def receive(self) -> tuple[dict, bytes] | None:
        """Waits for a message.

        Returns:
            Its header and its payload; None once the stream has ended.

        Raises:
            EOFError: The stream has ended within a message.
            FrameError: It is no message of ours.
            OSError: The stream cannot be read.
        """
        begin = self._reading.read(LENGTH.size)
        if not begin:
            return None
        if len(begin) < LENGTH.size:
            raise EOFError
        (length,) = LENGTH.unpack(begin)
        if length > MOST_HEADER:
            raise FrameError(f"a header of {length} bytes")
        header = _header(self._exactly(length))
        packed = self._exactly(header["size"])
        return header, _unpacked(packed, header["full"])

    def _exactly(self, count: int) -> bytes:
        data = self._reading.read(count)
        if len(data) < count:
            raise EOFError
        return data


def _header(data: bytes) -> dict:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        raise FrameError("a header that is no JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise FrameError("a header without a kind")
    for name in ("size", "full"):
        value = header.get(name)
        if type(value) is not int or not 0 <= value <= MOST_PAYLOAD:
            raise FrameError(f"a payload of {str(value)[:40]} bytes")
    return header


def _unpacked(data: bytes, full: int) -> bytes:
    if len(data) == full:
        return data
    packer = zlib.decompressobj()
    try:
        found = packer.decompress(data, full + 1)
    except zlib.error:
        raise FrameError("a payload that cannot be unpacked") from None
    if len(found) != full or not packer.eof:
        raise FrameError("a payload of another length than was announced")
    return found


def text_of(header: dict, name: str, most: int = 2000) -> str:
    """A text in a header; empty where there is none, cut where it is long."""
    value = header.get(name)
    return printable(value[:most]) if isinstance(value, str) else ""


def printable(text: str) -> str:
    """A text without what would control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def whole_of(header: dict, name: str, otherwise: int = 0) -> int:
    """A whole number in a header; `otherwise` where there is none."""
    value = header.get(name)
    return value if type(value) is int else otherwise

"""The pages of a TIFF file: their tags, in the classic and in the big form."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".tif", ".tiff")
KINDS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 16: "Q"}
MOST = 1 << 26  # bytes of one tag, and of the tags of a page

WIDTH, HEIGHT, BITS, COLOURS, DESCRIPTION = 256, 257, 258, 262, 270
STRIPS, SAMPLES, STRIP_BYTES, TILES, TILE_BYTES = 273, 277, 279, 324, 325
X_RESOLUTION, Y_RESOLUTION = 282, 283
PALETTE = 3  # of COLOURS
WHOLE, QUOTIENT = (1, 3, 4, 16), (5,)
WANTED = {
    **dict.fromkeys((WIDTH, HEIGHT, BITS, COLOURS, STRIPS, SAMPLES, STRIP_BYTES), WHOLE),
    **dict.fromkeys((TILES, TILE_BYTES), WHOLE),
    **dict.fromkeys((X_RESOLUTION, Y_RESOLUTION), QUOTIENT),
    DESCRIPTION: (2,),
}  # the kinds of values that each may have


class Beyond(ValueError):
    """A page or a tag lies beyond the end of the file."""


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        tags: The values of the tags in WANTED; rational numbers are quotients.
        places: The byte at which each of these values begins.
        order: Byte order, for `struct`.
    """

    tags: dict[int, tuple]
    places: dict[int, int]
    order: str

    def number(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        return int(self.tags.get(tag, (default,))[0])

    def ends(self) -> list[int]:
        """The byte after each strip or tile."""
        pairs = ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES))
        return [
            a + b
            for offsets, sizes in pairs
            for a, b in zip(self.tags.get(offsets, ()), self.tags.get(sizes, ()), strict=False)
        ]


def read_pages(path: Path) -> list[Page]:
    """Reads the tags of all pages.

    Raises:
        Beyond: The file was cut off.
        ValueError, KeyError, struct.error: It is no TIFF file.
    """
    found = []
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}[head[:2]]
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        place, count, pointer = (8, "Q", "Q") if big else (4, "H", "I")
        entry = 20 if big else 12
        at = struct.unpack_from(order + pointer, head, place)[0]
        seen: set[int] = set()
        while at and at not in seen:
            seen.add(at)
            file.seek(at)
            number = struct.unpack(order + count, _exactly(file, struct.calcsize(count)))[0]
            start = file.tell()
            table = _exactly(file, number * entry + struct.calcsize(pointer))
            found.append(_page(file, table[: number * entry], start, order, pointer))
            at = struct.unpack_from(order + pointer, table, number * entry)[0]
    return found


def _page(file: BinaryIO, table: bytes, start: int, order: str, pointer: str) -> Page:
    tags: dict[int, tuple] = {}
    places: dict[int, int] = {}
    room = struct.calcsize(pointer)
    entry = 4 + 2 * room
    for at in range(0, len(table), entry):
        tag, kind = struct.unpack_from(order + "HH", table, at)
        number = struct.unpack_from(order + pointer, table, at + 4)[0]
        if kind not in WANTED.get(tag, ()) or number == 0:
            continue
        letters = KINDS[kind]
        form = f"{order}{number}s" if kind == 2 else f"{order}{number * len(letters)}{letters[0]}"
        data, place = table[at + 4 + room : at + entry], start + at + 4 + room
        if struct.calcsize(form) > room:
            place = struct.unpack(order + pointer, data)[0]
            file.seek(place)
            data = _exactly(file, struct.calcsize(form))
        values = struct.unpack_from(form, data)
        if kind == 5:
            values = tuple(
                a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True)
            )
        tags[tag], places[tag] = values, place
    return Page(tags, places, order)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size <= MOST else b""
    if len(data) < size:
        raise Beyond("a page that it names lies beyond its end")
    return data

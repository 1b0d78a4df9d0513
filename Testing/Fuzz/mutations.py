"""Damages files as disks, editors, transfers and ill will do: bytes, lines, tokens, JSON."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable

EXTREMES = (
    -1,
    0,
    1,
    2,
    3,
    7,
    11,
    99,
    127,
    128,
    255,
    256,
    32767,
    65535,
    -32768,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    -(2**63),
    0.5,
    -0.0,
    1e-320,
    1e308,
    -1e308,
)
WORDS = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "",
    "null",
    "true",
    "[]",
    "{}",
    "\0",
    "é",
    "\ud800",
    "x" * 5000,
    "9" * 5000,
    "0x10",
    "1,5",
    "../../x",
    "/dev/zero",
    "%d",
    "LIST",
    "LOCAL",
)
NUMBER = re.compile(rb"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
TOKEN = re.compile(rb"[^\s:=,\[\]{}\"]+")
Mutation = Callable[[bytes, random.Random], bytes]


def _word(rng: random.Random) -> bytes:
    word = str(rng.choice(EXTREMES)) if rng.random() < 0.6 else rng.choice(WORDS)
    return word.encode("utf-8", "surrogatepass")


def _spot(data: bytes, rng: random.Random) -> int:
    """A place in the data, in the first half kilobyte (where headers are) as often as elsewhere."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 512)
    return rng.randrange(end + 1)


def flip(data: bytes, rng: random.Random) -> bytes:
    """Single bits turn over."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if found:
            at = min(_spot(data, rng), len(found) - 1)
            found[at] ^= 1 << rng.randrange(8)
    return bytes(found)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: _spot(data, rng)]


def cut(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are missing."""
    at = _spot(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 256)) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Some bytes stand there twice."""
    at = _spot(data, rng)
    return data[:at] + data[at : at + rng.choice((1, 2, 4, 16, 256))] + data[at:]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = _spot(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 256))) + data[at:]


def binary_number(data: bytes, rng: random.Random) -> bytes:
    """A field of a binary header holds an extreme."""
    at, kind = _spot(data, rng) // 2 * 2, rng.choice(("<h", "<i", "<q", ">h", ">i", "<f", "<d"))
    if kind[1] in "fd":
        value = struct.pack(kind, rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30)))
    else:
        bits = 8 * struct.calcsize(kind)
        number = int(rng.choice(EXTREMES)) % 2**bits
        value = number.to_bytes(bits // 8, "little" if kind[0] == "<" else "big")
    return data[:at] + value + data[at + len(value) :]


def _replaced(pattern: re.Pattern, data: bytes, rng: random.Random) -> bytes:
    head = data[:4096]
    places = list(pattern.finditer(head))
    if not places:
        return flip(data, rng)
    place = rng.choice(places)
    return data[: place.start()] + _word(rng) + data[place.end() :]


def text_number(data: bytes, rng: random.Random) -> bytes:
    """A number in a text header is another."""
    return _replaced(NUMBER, data, rng)


def token(data: bytes, rng: random.Random) -> bytes:
    """A word of a text header is another."""
    return _replaced(TOKEN, data, rng)


def lines(data: bytes, rng: random.Random) -> bytes:
    """A line of a text header is missing, stands there twice, or elsewhere."""
    head, rest = data[:4096], data[4096:]
    found = head.split(b"\n")
    at = rng.randrange(len(found))
    line = found.pop(at)
    what = rng.randrange(4)
    if what == 1:
        found[at:at] = [line, line]
    elif what == 2:
        found.insert(rng.randrange(len(found) + 1), line)
    elif what == 3:
        found.insert(at, line + b" " + _word(rng))
    return b"\n".join(found) + rest


BYTES: tuple[Mutation, ...] = (
    flip,
    truncate,
    cut,
    repeat,
    insert,
    binary_number,
    text_number,
    text_number,
    token,
    token,
    lines,
    lines,
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A file damaged in one place, or in a few."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(BYTES)(data, rng)
    return data


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """JSON of another form; now and then no JSON at all."""
    if rng.random() < 0.2:
        return mutate(data, rng)
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _other(value, rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _other(value, rng: random.Random):
    """A value with something in it changed; half of the time deeper inside."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(sorted(value))
        found = dict(value)
        if rng.random() < 0.15:
            del found[name]
        elif rng.random() < 0.1:
            found[_some(rng) if rng.random() < 0.5 else "further"] = _value(rng)
            found = {str(k): v for k, v in found.items()}
        else:
            found[name] = _other(value[name], rng)
        return found
    if isinstance(value, list) and value and rng.random() < 0.7:
        found, at = list(value), rng.randrange(len(value))
        if rng.random() < 0.15:
            del found[at]
        elif rng.random() < 0.15:
            found[at:at] = [found[at]] * rng.choice((1, 2, 30))
        else:
            found[at] = _other(value[at], rng)
        return found
    if isinstance(value, (int, float)) and rng.random() < 0.6:
        return rng.choice((*EXTREMES, float("nan"), float("inf"), -float("inf")))
    return _value(rng, value)


def _some(rng: random.Random) -> str:
    return rng.choice(WORDS)


def _value(rng: random.Random, old=None):
    """A value of any type."""
    what = rng.randrange(9)
    if what == 8:
        found = []
        for _ in range(rng.choice((3, 60, 900))):
            found = [found]
        return found
    return (None, True, rng.choice(EXTREMES), _some(rng), [], {}, [old], {"x": old})[what]

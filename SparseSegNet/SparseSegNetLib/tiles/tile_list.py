"""The tiles of a large volume, as data: each can be computed on its own, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from ..annotation.geometry import Triple, triple
from ..errors import InputError

Region = tuple[Triple, Triple]  # first voxel and the one after the last, (k, j, i)


@dataclass(frozen=True)
class Tile:
    """A box of the output that is computed and written at once.

    Attributes:
        number: Place in the list of all tiles, from 0; the same whatever the region.
        low: First voxel, (k, j, i).
        high: Voxel after the last.
    """

    number: int
    low: Triple
    high: Triple


def tiles_of(shape: Triple, size: Triple, region: Region | None = None) -> list[Tile]:
    """The tiles that cover a volume, or a region of it.

    Tiles begin at multiples of their size, which is a multiple of the output's chunks, so that no
    two write into one chunk. At the border of a region they are cut off.

    Args:
        shape: Of the volume, (k, j, i).
        size: Of a tile, (k, j, i).
        region: The box that is wanted; None for all.
    """
    begin, end = region or ((0, 0, 0), shape)
    counts = [-(-n // s) for n, s in zip(shape, size, strict=True)]
    ranges = [range(a // s, -(-b // s)) for a, b, s in zip(begin, end, size, strict=True)]
    found = []
    for place in product(*ranges):
        k, j, i = place
        low = [max(p * s, a) for p, s, a in zip(place, size, begin, strict=True)]
        high = [min(p * s + s, b) for p, s, b in zip(place, size, end, strict=True)]
        number = (k * counts[1] + j) * counts[2] + i
        found.append(Tile(number, triple(low), triple(high)))
    return found


def parse_region(text: str, shape: Triple) -> Region:
    """The region of an argument such as ``0:100,20:80,:``.

    Args:
        text: First voxel and the one after the last, for k, j and i; a missing one is the end.
        shape: Of the volume, (k, j, i).

    Raises:
        InputError: It has another form, or does not lie in the volume.
    """
    parts = text.split(",")
    ends: list[tuple[int, int]] = []
    try:
        for part, n in zip(parts, shape, strict=True):
            first, last = part.split(":")
            ends.append((int(first) if first.strip() else 0, int(last) if last.strip() else n))
    except ValueError:
        ends = []
    whole = ",".join(f"0:{n}" for n in shape)
    if len(ends) != 3 or not all(0 <= a < b <= n for (a, b), n in zip(ends, shape, strict=True)):
        raise InputError(
            f"--region {text}: expected the first voxel and the one after the last along k, j and "
            f"i, within {whole}, such as --region 0:{shape[0]},:,: for all of it."
        )
    return triple(a for a, _ in ends), triple(b for _, b in ends)

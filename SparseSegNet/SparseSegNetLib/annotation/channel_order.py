"""Channels of one volume in the order of another's, by the names of their files or nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# Spellings of the same kind of image, which files are called by.
KINDS = {
    spelling: words[0]
    for words in (
        ("t1", "t1w", "t1n"),
        ("t1c", "t1ce", "t1gd", "t1post"),
        ("t2", "t2w"),
        ("flair", "t2f", "t2flair"),
        ("pd", "pdw"),
        ("dwi",),
        ("adc",),
        ("swi",),
        ("ct",),
        ("pet", "pt"),
    )
    for spelling in words
}
ENDINGS = {"nii", "gz", "nrrd", "nhdr", "mha", "mhd", "seg", "tif", "tiff", "dcm", "img", "hdr"}
Parts = frozenset[str]


def channel_order(wanted: Sequence[str], given: Sequence[str]) -> list[int] | None:
    """Place of the given channel for each wanted one, as far as names tell.

    Names are compared by the parts that tell the channels of one volume apart: of case1_t1.nii.gz
    and case1_t2.nii.gz these are t1 and t2.

    Args:
        wanted: Names of the channels in the wanted order.
        given: Names of the channels of another volume.

    Returns:
        A place in `given` for each wanted channel; None where the names do not tell.
    """
    if len(wanted) != len(given):
        return None
    own, other = _telling(wanted), _telling(given)
    if len(set(own)) < len(own) or len(set(other)) < len(other):
        return None
    order = [other.index(parts) if parts in other else -1 for parts in own]
    if len(own) > 2 and order.count(-1) == 1:  # the one that is left over on both sides
        (rest,) = set(range(len(given))) - set(order)
        if not (_kind(own[order.index(-1)]) and _kind(other[rest])):
            order[order.index(-1)] = rest
    return None if -1 in order else order


def reordered(
    image: np.ndarray, channels: Sequence[str], order: Sequence[int]
) -> tuple[np.ndarray, list[str]]:
    """Puts channels into another order; an image that has it already is not copied.

    Args:
        image: (c, k, j, i).
        channels: Their names.
        order: The place of each wanted channel, see `channel_order`.
    """
    if list(order) != sorted(order):
        image = image[list(order)]
    return image, [channels[place] for place in order]


def missing_channel(wanted: Sequence[str], given: Sequence[str]) -> str | None:
    """Name of a wanted channel that is none of the given ones by their names, such as T1 of FLAIR.

    Returns:
        The name; None if every channel may be there.
    """
    kinds = [_kind(_parts(name)) for name in given]
    if None in kinds:
        return None
    return next((n for n in wanted if (kind := _kind(_parts(n))) and kind not in kinds), None)


def _parts(name: str) -> Parts:
    words = re.findall(r"[^\W_]+", name.casefold())
    return frozenset(KINDS.get(word, word) for word in words if word not in ENDINGS)


def _telling(names: Sequence[str]) -> list[Parts]:
    """The parts of each name that not all of the names have."""
    every = [_parts(name) for name in names]
    return [parts - frozenset.intersection(*every) for parts in every]


def _kind(parts: Parts) -> str | None:
    """The kind of image that a name tells; None if it tells none or several."""
    kinds = parts & frozenset(KINDS.values())
    return next(iter(kinds)) if len(kinds) == 1 else None

"""Classes of several segmentations merged into one list, by name, then by terminology."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .composition import MAX_SEGMENTS, UNLABELLED
from .segments import PALETTE, Segment

TERMINOLOGY = "TerminologyEntry"
# What Slicer gives to every new segment: it says nothing of what the segment is.
GENERIC = ("SCT", "85756007")
Codes = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Merged:
    """One list of classes for several cases.

    Attributes:
        segments: The classes 1..K.
        numbers: Per case the class of each of its own: that of its local class n at [n - 1].
    """

    segments: list[Segment]
    numbers: list[list[int]]

    def classes(self, case: int) -> tuple[int, ...] | None:
        """Classes that a case (from 0) tells from the background; None if it has all of them."""
        found = tuple(sorted(set(self.numbers[case])))
        return None if len(found) == len(self.segments) else found


def merge_segments(cases: Sequence[tuple[str, Sequence[Segment]]]) -> Merged:
    """Merges the classes of several cases.

    Classes are the same if their names are, apart from case and outer blanks; else if their
    terminology is, unless it is Slicer's for any tissue or shared by two segments of one case.
    Name, colour and terminology are those of the first case that has the class.

    Args:
        cases: Name and classes 1..K of each case; one without classes is not annotated.

    Raises:
        InputError: No class belongs to two cases though several are annotated, or there are too
            many classes.
    """
    segments: list[Segment] = []
    numbers = []
    for _, own in cases:
        found = matching(segments, own)
        for place, segment in enumerate(own):
            if found[place] == 0:
                segments.append(_apart(segment, segments))
                found[place] = len(segments)
        numbers.append(found)
    annotated = [(name, own) for name, own in cases if own]
    shared = Counter(number for found in numbers for number in set(found))
    if len(annotated) > 1 and max(shared.values()) < 2:
        listed = "; ".join(f"{name}: {', '.join(s.name for s in own)}" for name, own in annotated)
        raise InputError(
            f"the cases have no class in common ({listed}). Give the same structure the same name "
            "in all of them."
        )
    if len(segments) > MAX_SEGMENTS:
        raise InputError(
            f"the cases have {len(segments)} segments together: at most {MAX_SEGMENTS} can be "
            "used. Leave some out, or give the same structure the same name in all cases."
        )
    return Merged(segments, numbers)


def renumbered(labels: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Labels of a case in the merged classes.

    Args:
        labels: uint8, 0 background, 1..K the case's classes, 255 unlabelled.
        numbers: The case's entry of `Merged.numbers`.

    Returns:
        uint8 of the same shape.
    """
    table = np.zeros(256, np.uint8)
    table[1 : len(numbers) + 1] = numbers
    table[UNLABELLED] = UNLABELLED
    return table[labels]


def matching(known: Sequence[Segment], own: Sequence[Segment]) -> list[int]:
    """Number from 1, in a list of known classes, of each of a case's own; 0 where it has none.

    Args:
        known: The list.
        own: The classes of the case; no two of them get the same number.
    """
    found = [0] * len(own)
    for keys, own_keys in (
        ([_name(s) for s in known], [_name(s) for s in own]),
        (_terminologies(known), _terminologies(own)),
    ):
        for place, key in enumerate(own_keys):
            if key is None or found[place]:
                continue
            for number, other in enumerate(keys, start=1):
                if other == key and number not in found:
                    found[place] = number
                    break
    return found


def _name(segment: Segment) -> str:
    return segment.name.strip().casefold()


def _terminologies(segments: Sequence[Segment]) -> list[Codes | None]:
    """The terminology of each segment, None where it does not tell it from others."""
    every = [_codes(segment.tags.get(TERMINOLOGY, "")) for segment in segments]
    return [codes if every.count(codes) == 1 else None for codes in every]


def _codes(entry: str) -> Codes | None:
    """Scheme and value of category, type, region and their modifiers; None if the type is none."""
    parts = entry.split("~")
    if len(parts) < 3:
        return None
    codes = tuple(tuple(part.split("^")[:2]) for n, part in enumerate(parts) if n not in (0, 4))
    if not all(codes[1]) or len(codes[1]) < 2 or codes[1] == GENERIC:
        return None
    return (*codes, *((("", ""),) * (5 - len(codes))))


def _apart(segment: Segment, others: Sequence[Segment]) -> Segment:
    """The segment with an identifier, label value and colour that none of the others has."""
    ids, values = {s.id for s in others}, {s.value for s in others}
    colors = {s.color for s in others}
    free = len(others) + 1
    while f"Segment_{free}" in ids:
        free += 1
    value = segment.value
    if value in values or value < 1:
        value = next(n for n in range(1, len(values) + 2) if n not in values)
    color = segment.color
    if color in colors:
        color = next((c for c in PALETTE if c not in colors), color)
    name = f"Segment_{free}" if segment.id in ids else segment.id
    return replace(segment, id=name, value=value, color=color)

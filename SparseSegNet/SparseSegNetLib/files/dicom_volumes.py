"""Tells the volumes among DICOM slices apart, and chooses the one that the user names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..errors import InputError
from ..units import counted
from .dicom_headers import TELLING, DicomSlice

LISTED = 30  # volumes in a message
SHORTEST_UID = 8


@dataclass
class DicomVolume:
    """A series, or one of the volumes of a series.

    Attributes:
        slices: Its slices.
        key: The shortest name by which it can be chosen.
        uid: As much of its series' UID as tells it from the others.
        told_by: The values that tell it from the other volumes of its series; may be empty.
        part: Its number among the volumes of its series, from 1; 0 if it is the only one.
    """

    slices: list[DicomSlice]
    key: str
    uid: str
    told_by: str = ""
    part: int = 0

    def line(self) -> str:
        """Description for a list."""
        one, count = self.slices[0], len(self.slices)
        uid = f"UID {self.uid}" + ("…" if self.uid != one.uid else "")
        said = [counted(count, "slice"), one.modality, self.told_by, uid]
        title = f" '{one.description}'" if one.description else ""
        return f"{self.key}{title} ({', '.join(filter(None, said))})"


def volumes_of(slices: Sequence[DicomSlice]) -> list[DicomVolume]:
    """The volumes among slices, in the order of their series' numbers."""
    series: dict[str, list[DicomSlice]] = defaultdict(list)
    for one in slices:
        series[one.uid].append(one)
    numbers = Counter(found[0].number for found in series.values())
    volumes: list[DicomVolume] = []
    for uid in sorted(series, key=lambda uid: (_order(series[uid][0].number), uid)):
        number = series[uid][0].number
        start = _uid_start(uid, series)
        key = number if number and numbers[number] == 1 else start
        parts = _parts(series[uid])
        for n, (told_by, part) in enumerate(parts, 1):
            several = len(parts) > 1
            name = f"{key}/{n}" if several else key
            volumes.append(DicomVolume(part, name, start, told_by, n if several else 0))
    return volumes


def choose(
    volumes: Sequence[DicomVolume], wanted: str | None, source: Path, what: str, option: bool
) -> DicomVolume:
    """The volume that is meant.

    Args:
        volumes: What is there, at least one.
        wanted: Number, description or start of the UID of a series, with '/n' for the n-th of
            its volumes; None if the user named none.
        source: The folder or file, for messages.
        what: Its role, for messages.
        option: Whether the user can name one with the option --series.

    Raises:
        InputError: Several volumes are there or meant, or none is meant; lists them.
    """
    meant = [v for v in volumes if wanted is None or _is_meant(v, wanted)]
    if len(meant) == 1:
        return meant[0]
    listed = "; ".join(v.line() for v in (meant or volumes)[:LISTED])
    if len(meant or volumes) > LISTED:
        listed += f"; and {len(meant or volumes) - LISTED} more"
    if not meant:
        raise InputError(
            f"{what} {source}: no series is '{wanted}' (--series). There are: {listed}."
        )
    said = "holds" if wanted is None else f"--series {wanted} means"
    series = len({v.slices[0].uid for v in meant})
    count = f"{series} DICOM series" if series > 1 else f"{len(meant)} volumes in one DICOM series"
    raise InputError(
        f"{what} {source} {said} {count}: {listed}. "
        + (f"Name one with --series, such as --series {meant[0].key}, or put" if option else "Put")
        + " the files of one into a folder of their own."
    )


def _is_meant(volume: DicomVolume, wanted: str) -> bool:
    one, name = volume.slices[0], " ".join(wanted.split())
    if name == volume.key:
        return True
    start, slash, part = name.rpartition("/")
    if slash and part.isdigit() and int(part) == volume.part:
        name = start
    return (
        name == one.number
        or (name.casefold() == one.description.casefold() != "")
        or (len(name) >= SHORTEST_UID and one.uid.startswith(name))
    )


def _parts(slices: list[DicomSlice]) -> list[tuple[str, list[DicomSlice]]]:
    """The volumes of a series: as many as slices lie at one place, if the headers tell them apart.

    Slices that nothing tells apart stay together: `dicom_grid` refuses them.
    """
    layers = max(Counter(map(_place, slices)).values())
    if layers == 1:
        return [("", slices)]
    names = [n for n in TELLING if len({one.telling.get(n) for one in slices}) > 1]
    for count in (1, 2):
        for chosen in combinations(names, count):
            groups: dict[tuple[str, ...], list[DicomSlice]] = defaultdict(list)
            for one in slices:
                groups[tuple(one.telling.get(n, "none") for n in chosen)].append(one)
            single = all(len(set(map(_place, g))) == len(g) > 1 for g in groups.values())
            if len(groups) == layers and single:
                return [
                    (
                        ", ".join(f"{n} {v}" for n, v in zip(chosen, values, strict=True)),
                        groups[values],
                    )
                    for values in sorted(groups, key=lambda values: [_order(v) for v in values])
                ]
    return [("", slices)]


def _told_by(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _place(one: DicomSlice) -> tuple[float, ...]:
    """Position and orientation, without the last digits."""
    parts = (one.position or (), one.row or (), one.column or ())
    return tuple(round(v, 3) + 0.0 for part in parts for v in part)


def _order(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _uid_start(uid: str, others: Iterable[str]) -> str:
    """As much of a UID as tells it from the others."""
    length = SHORTEST_UID
    while length < len(uid) and any(o != uid and o.startswith(uid[:length]) for o in others):
        length += 1
    return uid[:length]

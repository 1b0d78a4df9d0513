"""Volumes of a reproduced experiment, and the division of their annotated slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED, restrict_to_slices
from ..annotation.even_spacing import spread_slices
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AXES, AnnotatedSlice, parse_slices
from ..errors import InputError
from ..files.images import read_volume
from ..files.labels import Reading, read_annotation
from .case_list import Row, read_list

SETUPS = ((1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 5, 3))  # (yz, xz, xy) slices, Cicek 2016, Table 2
FOLDS = 3


@dataclass
class Case:
    """One annotated volume.

    Attributes:
        name: As the list gives it, or the file's name without its ending.
        image: (c, k, j, i).
        labels: uint8 (k, j, i), 255 = unlabelled; 0 and above in `slices`.
        geometry: The voxel grid.
        slices: The annotated slices.
        segments: The classes 1..K.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    geometry: Geometry
    slices: list[AnnotatedSlice]
    segments: list[Segment]


def read_cases(path: Path, spread: Sequence[int], unlabelled: int) -> list[Case]:
    """Reads CASES.csv and the volumes in it.

    Args:
        path: The list of cases.
        spread: Numbers of slices (yz, xz, xy) of a densely labelled volume that count as
            annotated.
        unlabelled: The value of unlabelled voxels in label images.

    Raises:
        InputError: A file is bad (the message names it and the row), or the volumes differ in
            channels or labels.
    """
    cases = [_read(row, spread, unlabelled) for row in read_list(path, ("image", "labels"))]
    first = cases[0]
    for case in cases[1:]:
        if len(case.image) != len(first.image):
            raise InputError(
                f"{case.name} has {len(case.image)} channels and {first.name} "
                f"{len(first.image)}: all volumes need the same."
            )
        first_names, names = ([s.name for s in c.segments] for c in (first, case))
        if names != first_names:
            raise InputError(
                f"{case.name} has the labels {', '.join(names)} and {first.name} "
                f"{', '.join(first_names)}: all volumes need the same."
            )
    return cases


def _read(row: Row, spread: Sequence[int], unlabelled: int) -> Case:
    if row.labels is None:
        raise InputError(f"{row.where}: both image and labels are needed.")
    try:
        volume = read_volume(row.images)
        given = parse_slices([row.slices])
        if not given and (dense := _dense(row.labels, volume.geometry, unlabelled)) is not None:
            labels, segments = dense
            given = _spread(spread, labels)
            labels = restrict_to_slices(labels, given)
        else:
            found = read_annotation(row.labels, volume.geometry, Reading(unlabelled, given or None))
            labels, segments, given = found.labels, found.segments, found.slices
    except InputError as error:
        raise InputError(f"{row.where}: {error}") from error
    return Case(row.name, volume.image, labels, volume.geometry, sorted(given), segments)


def _spread(counts: Sequence[int], labels: np.ndarray) -> list[AnnotatedSlice]:
    try:
        return spread_slices(counts, labels.shape, labels > 0)
    except InputError as error:
        raise InputError(f"{error} Give fewer with --spread.") from error


def _dense(
    path: Path, geometry: Geometry, unlabelled: int
) -> tuple[np.ndarray, list[Segment]] | None:
    """Labels and segments of a label image without unlabelled voxels; None for any other."""
    every = [AnnotatedSlice("k", n) for n in range(geometry.shape[0])]
    found = read_annotation(path, geometry, Reading(unlabelled, every))
    if (
        found.labels.size
        and not (found.labels == UNLABELLED).any()
        and not path.name.endswith(".seg.nrrd")
    ):
        return found.labels, found.segments
    return None


def folds(cases: Sequence[Case]) -> list[list[list[AnnotatedSlice]]]:
    """Test slices of each fold, per case: all annotated slices, dealt out in turn.

    "Uniformly partitioned" (Cicek 2016, section 4): neighbours along an axis go to different
    folds, and the folds' sizes differ by one at most.
    """
    dealt: list[list[list[AnnotatedSlice]]] = [[[] for _ in cases] for _ in range(FOLDS)]
    turn = 0
    for number, case in enumerate(cases):
        for item in case.slices:
            dealt[turn % FOLDS][number].append(item)
            turn += 1
    return dealt


def setups(case: Case) -> tuple[list[tuple[tuple, list[AnnotatedSlice]]], list[AnnotatedSlice]]:
    """Divides a case's annotated slices for the paper's Table 2.

    Returns:
        The counts (yz, xz, xy) and slices of each of the paper's setups that the case has enough
        slices for; and the slices that none of them uses, for testing.
    """
    along = {axis: [s for s in case.slices if s.axis == axis] for axis in AXES}
    possible = []
    for counts in SETUPS:
        if any(n > len(along[axis]) for axis, n in zip(AXES, counts, strict=True)):
            continue
        chosen = [
            along[axis][int((2 * m + 1) * len(along[axis]) / (2 * n))]
            for axis, n in zip(AXES, counts, strict=True)
            for m in range(n)
        ]
        possible.append((counts, chosen))
    used = {s for _, chosen in possible for s in chosen}
    return possible, [s for s in case.slices if s not in used]


def untouched(case: Case, test: Sequence[AnnotatedSlice], training: np.ndarray) -> np.ndarray:
    """Mask of the annotated voxels of the test slices that are not in the training set.

    Args:
        case: The volume.
        test: The test slices.
        training: The labels that were trained on, uint8 (k, j, i), 255 = unlabelled.

    Returns:
        Boolean (k, j, i).
    """
    mask = np.zeros(case.labels.shape, bool)
    for item in test:
        mask[item.selector()] = True
    return mask & (case.labels != UNLABELLED) & (training == UNLABELLED)

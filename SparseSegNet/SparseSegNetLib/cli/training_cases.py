"""Volumes of a training set: read from a list, brought to common classes and channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..annotation.channel_order import channel_order, missing_channel, reordered
from ..annotation.composition import UNLABELLED, check_trainable
from ..annotation.hounsfield import looks_like_ct
from ..annotation.merging import merge_segments, renumbered
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, check_slices, parse_slices
from ..errors import InputError
from ..files.images import Volume, read_volume
from ..files.label_image import check_order
from ..files.labels import Annotation, Reading, read_annotation
from ..files.other_formats import without_geometry
from ..runfolder.run_input import RunInput
from ..units import counted
from .case_list import Row

EVERY = "all"  # in the column slices: every voxel of the labels counts


@dataclass
class TrainingSet:
    """Volumes of one training, with common classes and channels.

    Attributes:
        inputs: The volumes; those without a labelled voxel are unlabelled scans.
        segments: The classes 1..K.
        rows: The row of the list of each volume.
        notes: Messages for the user.
    """

    inputs: list[RunInput]
    segments: list[Segment]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def annotated(self) -> list[bool]:
        """Per volume, whether anything is labelled."""
        return [bool((item.labels != UNLABELLED).any()) for item in self.inputs]


def read_training_set(
    path: Path, rows: Sequence[Row], reading: Reading, replace_nonfinite: bool = False
) -> TrainingSet:
    """Reads the volumes of a list.

    Args:
        path: The list, for messages.
        rows: Its rows.
        reading: How label files are read; the slices are those of each row.
        replace_nonfinite: As `read_volume`.

    Raises:
        InputError: A file is bad (the message names the line), the volumes differ in their
            channels, have no class in common, or there are not two classes to train on.
    """
    notes: list[str] = []
    read = [_read(row, reading, replace_nonfinite, notes) for row in rows]
    merged = merge_segments(
        [
            (row.name, annotation.segments if annotation else [])
            for row, (_, annotation) in zip(rows, read, strict=True)
        ]
    )
    inputs = []
    first = read[0][0].channels
    for n, (row, (volume, annotation)) in enumerate(zip(rows, read, strict=True)):
        order = _order(rows[0], first, row, volume, notes)
        volume.image, channels = reordered(volume.image, volume.channels, order)
        item = RunInput(
            volume.image,
            np.full(volume.geometry.shape, UNLABELLED, np.uint8),
            volume.geometry,
            channels=channels,
            name=row.name,
        )
        if annotation is not None:
            item.labels = renumbered(annotation.labels, merged.numbers[n])
            item.slices, item.classes = annotation.slices, merged.classes(n)
            if item.classes is not None:
                unknown = [
                    s.name for c, s in enumerate(merged.segments, 1) if c not in item.classes
                ]
                notes.append(
                    f"{row.name}: {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not "
                    "among its segments, and so unknown there, not background."
                )
        inputs.append(item)
    found = TrainingSet(inputs, merged.segments, list(rows), notes)
    _check_set(path, found)
    return found


def _read(
    row: Row, reading: Reading, replace_nonfinite: bool, notes: list[str]
) -> tuple[Volume, Annotation | None]:
    """A volume and its annotation, None where nothing is labelled."""
    try:
        volume = read_volume(row.images, replace_nonfinite)
        notes += [f"{row.name}: {note}" for note in volume.notes]
        if row.labels is None:
            notes.append(f"{row.name} has no labels: it is an unlabelled scan.")
            return volume, None
        slices = _slices(row, volume)
        annotation = read_annotation(
            row.labels,
            volume.geometry,
            replace(reading, slices=slices, by_index=without_geometry(row.images[0])),
        )
        check_order(volume, row.labels, len(annotation.segments))
    except InputError as error:
        hint = (
            f" In a list, --slices is the column slices, in which {EVERY} stands for a dense "
            "segmentation."
        )
        raise InputError(
            f"{row.where}: {error}{hint if '--slices' in str(error) else ''}"
        ) from error
    notes += [f"{row.name}: {note}" for note in annotation.warnings]
    if (annotation.labels == UNLABELLED).all():
        notes.append(f"{row.name}: nothing is labelled in {row.labels}: it is an unlabelled scan.")
        return volume, None
    return volume, annotation


def _slices(row: Row, volume: Volume) -> list[AnnotatedSlice] | None:
    """The annotated slices that a row names; None if it names none."""
    if row.slices.casefold() == EVERY:
        return [AnnotatedSlice("k", n) for n in range(volume.geometry.shape[0])]
    slices = parse_slices([row.slices]) if row.slices else None
    check_slices(slices or (), volume.geometry.shape)
    return slices


def _order(
    first_row: Row, first: Sequence[str], row: Row, volume: Volume, notes: list[str]
) -> list[int]:
    """For each channel of the first volume the place of this one's."""
    own = volume.channels
    if len(own) != len(first):
        raise InputError(
            f"{row.where}: {row.name} has {counted(len(own), 'channel')} and {first_row.name} "
            f"(line {first_row.line}) {counted(len(first), 'channel')}: all volumes need the same."
        )
    if (missing := missing_channel(first, own)) is not None:
        raise InputError(
            f"{row.where}: {first_row.name} (line {first_row.line}) has a channel {missing}, and "
            f"by their names none of this one's is of that kind ({', '.join(own)}). Give the "
            "missing channel, or rename the files."
        )
    order = channel_order(first, own)
    in_order = list(range(len(first)))
    if order is None:
        pairs = ", ".join(f"{a} as {b}" for a, b in zip(own, first, strict=True))
        notes.append(f"{row.name}: the channels are taken in their order: {pairs}.")
        return in_order
    if order != in_order:
        pairs = ", ".join(f"{own[place]} as {b}" for place, b in zip(order, first, strict=True))
        notes.append(f"{row.name}: the channels are taken by their names: {pairs}.")
    return order


def _check_set(path: Path, found: TrainingSet) -> None:
    if not any(found.annotated):
        raise InputError(
            f"no volume of {path} is annotated: at least one needs labels, with two classes in "
            "them (background is one)."
        )
    present = np.unique(np.concatenate([np.unique(item.labels) for item in found.inputs]))
    check_trainable(present, [s.name for s in found.segments])
    units = {
        item.name: looks_like_ct(item.image)
        for item, annotated in zip(found.inputs, found.annotated, strict=True)
        if annotated
    }
    if len(set(units.values())) > 1:
        ct = [name for name, yes in units.items() if yes]
        others = [name for name, yes in units.items() if not yes]
        found.notes.append(
            f"{', '.join(ct)} hold{'s'[: len(ct) == 1]} Hounsfield units, as CT does, and "
            f"{', '.join(others)} do{'es' * (len(others) == 1)} not: are they the same kind of "
            "image? --modality ct or other says which it is."
        )

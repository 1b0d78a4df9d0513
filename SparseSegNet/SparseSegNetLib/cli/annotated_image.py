"""An image and its annotation, from the files that are named on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotation.composition import UNLABELLED, check_trainable
from ..annotation.external_prior import Prior
from ..annotation.slices import AnnotatedSlice, check_slices, format_slices, parse_slices
from ..errors import InputError
from ..files.images import Volume, read_volume
from ..files.label_image import check_order
from ..files.labels import Annotation, Reading, read_annotation, read_structures
from ..files.other_formats import without_geometry
from ..files.writing import stem_of
from ..runfolder.folder import annotated_share
from ..runfolder.run_input import RunInput
from ..units import counted, percent
from .progress import say

Structures = list[tuple[str | None, Path]]


def read_annotated(
    options: argparse.Namespace, images: list[Path], structures: Structures
) -> tuple[Volume, Annotation, Reading]:
    """Reads an image and its annotation.

    Args:
        options: The parsed arguments, with those of `training_options.add_files`.
        images: The image files.
        structures: The label files, see `label_files`.

    Returns:
        The image, its annotation, and how the labels were read.

    Raises:
        InputError: A file cannot be used, or the annotation cannot be trained on.
    """
    reading = Reading(
        options.unlabelled,
        parse_slices(options.slices) if options.slices else None,
        options.background_label,
        options.resample_labels,
        without_geometry(images[0]),
    )
    volume = read_volume(images, options.replace_nonfinite, options.series)
    check_slices(reading.slices or (), volume.geometry.shape)
    if options.labels and (len(structures) > 1 or structures[0][0] is not None):
        named = [(name or stem_of(path), path) for name, path in structures]
        annotation = read_structures(named, volume.geometry, reading)
    else:
        annotation = read_annotation(structures[0][1], volume.geometry, reading)
        check_order(volume, structures[0][1], len(annotation.segments))
    check_trainable(annotation.labels, [s.name for s in annotation.segments])
    if not (annotation.labels == UNLABELLED).any():  # such as an image of one slice
        raise InputError(
            f"the annotated slices hold every voxel of {volume.paths[0]}: there is nothing left to "
            "predict."
        )
    return volume, annotation, reading


def input_of(volume: Volume, annotation: Annotation, prior: Prior | None = None) -> RunInput:
    """The input of a run on an annotated image, with an external prior if there is one."""
    return RunInput(
        volume.image,
        annotation.labels,
        volume.geometry,
        annotation.slices,
        volume.channels,
        name=stem_of(volume.paths[0]),
        prior=None if prior is None else prior.probabilities,
        prior_classes=() if prior is None else prior.classes,
        prior_known=None if prior is None else prior.known,
    )


def say_annotated(volume: Volume, annotation: Annotation) -> None:
    """Prints how many channels, slices and segments there are."""
    if len(volume.channels) > 1:
        say(f"{len(volume.channels)} channels: {', '.join(volume.channels)}.")
    say(
        f"{described(annotation.slices, annotation.labels)}; "
        f"{counted(len(annotation.segments), 'segment')}."
    )


def described(slices: Sequence[AnnotatedSlice], labels: np.ndarray) -> str:
    """Names what is annotated: 3 annotated slices (k:10,20 i:5), 2.1 % of the voxels labelled."""
    named = f" ({format_slices(slices)})" if slices else ""
    return (
        f"{counted(len(slices), 'annotated slice')}{named}, "
        f"{percent(annotated_share(labels))} of the voxels labelled"
    )


def label_files(options: argparse.Namespace) -> tuple[list[Path], Structures]:
    """The image files and the label files, these with the name of their structure if it was given.

    Raises:
        InputError: There are no images or no labels.
    """
    if options.labels is None:
        if len(options.files) < 2:
            raise InputError(
                f"{options.command} needs at least two files: the image and, last, the labels; "
                "or the image and --labels organ=FILE tumour=FILE."
            )
        return options.files[:-1], [(None, options.files[-1])]
    structures: Structures = []
    for text in options.labels:
        name, equals, file = text.partition("=")
        if equals and name.strip() and not Path(text).exists():
            structures.append((name.strip(), Path(file)))
        else:
            structures.append((None, Path(text)))
    names = [name or stem_of(path) for name, path in structures]
    if (twice := next((n for n in names if names.count(n) > 1), None)) is not None:
        raise InputError(f"two structures are called '{twice}': name each one, --labels a=FILE.")
    return options.files, structures

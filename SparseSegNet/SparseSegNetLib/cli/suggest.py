"""The command ``sparsesegnet suggest``: names the slices to draw next."""

from __future__ import annotations

import argparse
import json

import numpy as np

from ..annotation.merging import renumbered
from ..annotation.slices import AnnotatedSlice, parse_slices
from ..errors import InputError
from ..files.labels import Reading, read_annotation
from ..runfolder.exit_codes import DONE
from ..runfolder.folder import RunFolder
from ..runfolder.score import worth
from ..suggestion.ranking import suggest_slices
from ..suggestion.suggested_slice import SuggestedSlice
from .model import printable
from .progress import say


def suggest(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if options.number < 1:
        raise InputError(f"-n {options.number}: expected 1 or more slices.")
    folder = RunFolder.open(options.run_folder)
    _check(options, folder)
    found = {n: _suggested(options, folder, n) for n in range(1, folder.count + 1)}
    for note in folder.notes:
        say(f"note: {note}")
    names = {n: folder.description["inputs"][n - 1].get("name") or f"input {n}" for n in found}
    if options.json:
        rows = [
            {"input": n, "name": names[n], "slices": [one.to_json() for one in suggested]}
            for n, suggested in found.items()
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False))
        return DONE
    for n, suggested in found.items():
        if len(found) > 1:
            print(f"{printable(names[n])}:")
        for one in suggested:
            print(f"{one.slice!s:<7} {printable(one.reason)}")
        # The score is the first volume's, with what is drawn in the run folder.
        known = folder.read_score() if n == 1 and options.labels is None else None
        if suggested and (line := worth(known, folder.names, folder.geometry())):
            say(f"note: {line}")
        if not suggested:
            print("no slice is left that would show much that is not drawn yet")
    return DONE


def _check(options: argparse.Namespace, folder: RunFolder) -> None:
    """Raise InputError if the run is of another kind, or options do not fit together."""
    if folder.task == "segment":
        raise InputError(
            f"the run {folder.path} applies a model: nothing is drawn for it. Densify the image "
            "with --start-from to draw slices beside the model."
        )
    if options.labels is not None:
        if folder.count > 1:
            raise InputError(
                f"the run {folder.path} is of {folder.count} volumes: --labels is for a run of one."
            )
        return
    given = {
        "--slices": bool(options.slices),
        "--unlabelled": options.unlabelled is not None,
        "--background-label": options.background_label is not None,
        "--resample-labels": options.resample_labels,
    }
    if lonely := [name for name, value in given.items() if value]:
        raise InputError(f"{lonely[0]} tells how --labels is read: name that file too.")


def _suggested(options: argparse.Namespace, folder: RunFolder, number: int) -> list[SuggestedSlice]:
    """The slices of an input (from 1) to draw next."""
    if options.labels is None:
        labels, slices = folder.read_labels(number), folder.read_slices(number)
    else:
        labels, slices = _drawn_now(options, folder)
    return suggest_slices(
        labels,
        slices,
        folder.names,
        folder.geometry(number),
        folder.read_profiles(number),
        options.number,
        folder.options.seed,
    )


def _drawn_now(
    options: argparse.Namespace, folder: RunFolder
) -> tuple[np.ndarray, list[AnnotatedSlice]]:
    """The annotation in the file that is named, in the run's classes."""
    reading = Reading(
        options.unlabelled,
        parse_slices(options.slices) if options.slices else None,
        options.background_label,
        options.resample_labels,
    )
    drawn = read_annotation(options.labels, folder.geometry(), reading)
    for warning in drawn.warnings:
        say(f"note: {warning}")
    names = folder.names
    foreign = [s.name for s in drawn.segments if s.name not in names]
    if foreign:
        raise InputError(
            f"{options.labels} holds the segment '{foreign[0]}', which the run {folder.path} does "
            f"not know (it has {', '.join(names)}): name the annotation of this run."
        )
    numbers = [names.index(segment.name) + 1 for segment in drawn.segments]
    return renumbered(drawn.labels, numbers), drawn.slices

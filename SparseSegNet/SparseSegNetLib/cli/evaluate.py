"""The command ``sparsesegnet evaluate``: compares a segmentation with the truth, per segment."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..annotation.slices import AnnotatedSlice, parse_slices
from ..annotation.surface_distance import surface_score
from ..engine.compute import metrics
from ..errors import InputError
from ..files.images import geometry_of, read_file
from ..files.labels import Annotation, Reading, read_annotation
from ..files.writing import check_writable, link_target
from ..runfolder.atomic import write_json
from ..runfolder.exit_codes import DONE
from .progress import say

NAMELESS = re.compile(r"Label \d+")  # names that a label image's values are given
COLUMNS = ("dice", "iou", "surface_dice", "hausdorff95", "found_ml", "truth_ml")
TITLES = ("Dice", "IoU", "surface Dice", "95 % HD mm", "found ml", "truth ml")


@dataclass
class Pair:
    """A segment of the truth and the one of the prediction that it is compared with.

    Attributes:
        name: Of the segment.
        truth: Its class in the truth; None if only the prediction has it.
        found: Its class in the prediction; None if only the truth has it.
    """

    name: str
    truth: int | None
    found: int | None


def add_evaluate(commands) -> None:
    """Adds the command to the parser's."""
    command = commands.add_parser(
        "evaluate",
        help="compare a segmentation with the truth: Dice, IoU, surface Dice, Hausdorff distance",
        description="Compare two dense segmentations of one volume per segment: Dice, IoU, surface "
        "Dice (share of the border voxels of both within the tolerance of the other's) and 95 %% "
        "Hausdorff distance (larger of the two 95th percentiles of the distances between border "
        "voxels). Segments are compared by name, or by value where a label image has no names.",
    )
    command.add_argument("prediction", type=Path, metavar="PREDICTION", help="a segmentation")
    command.add_argument("truth", type=Path, metavar="TRUTH", help="the one to compare it with")
    command.add_argument(
        "--tolerance",
        type=float,
        metavar="MM",
        help="of surface Dice (default: the largest side of a voxel)",
    )
    command.add_argument(
        "--mask", type=Path, metavar="FILE", help="an image; only voxels above 0 in it count"
    )
    command.add_argument(
        "--unannotated",
        type=Path,
        metavar="LABELS",
        help="the annotation that the prediction was made from: only voxels that it leaves "
        "unlabelled count in Dice and IoU, as an honest figure needs it",
    )
    command.add_argument(
        "--slices",
        nargs="+",
        default=[],
        metavar="AXIS:INDEX",
        help="the completely annotated slices of --unannotated, as for densify",
    )
    command.add_argument(
        "--unlabelled",
        type=int,
        metavar="V",
        help=f"the value of unlabelled voxels in --unannotated (default {UNLABELLED})",
    )
    command.add_argument(
        "--json", metavar="FILE", help="write the figures there as JSON; - for standard output"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if options.tolerance is not None and not options.tolerance >= 0:
        raise InputError(f"--tolerance {options.tolerance:g}: give a number of mm from 0.")
    if options.slices and options.unannotated is None:
        raise InputError("--slices belong to --unannotated LABELS: name the annotation too.")
    inputs = [p for p in (options.prediction, options.truth, options.unannotated) if p]
    if options.json not in (None, "-"):
        check_writable(Path(options.json), inputs)
    grid = geometry_of(read_file(options.truth, "the truth", labels=True))
    truth, found = _dense(options.truth, grid), _dense(options.prediction, grid)
    pairs = paired(truth.segments, found.segments)
    counted = _counted(options, grid)
    rows = scores(
        pairs,
        truth.labels,
        found.labels,
        counted,
        grid,
        max(grid.spacing) if options.tolerance is None else options.tolerance,
        options.quiet,
    )
    for pair in pairs:
        if pair.found is None:
            say(f"note: '{pair.name}' is missing in {options.prediction}: Dice 0.")
        elif pair.truth is None:
            say(f"note: '{pair.name}' of {options.prediction} is not in the truth: Dice 0.")
    if counted is not None:
        share = 100 * np.count_nonzero(counted) / counted.size
        say(f"Dice and IoU are those of {share:.3g} % of the voxels; surfaces are of the whole.")
    mean = {name: metrics.mean(row[name] for row in rows) for name in COLUMNS[:4]}
    if options.json != "-":
        print(table(rows, mean))
    if options.json is not None:
        _write_json(options.json, {"segments": rows, "mean": mean})
    return DONE


def _write_json(where: str, content: dict) -> None:
    if where == "-":
        json.dump(content, sys.stdout, indent=2)
        print()
    else:
        write_json(link_target(Path(where)), content)


def _dense(path: Path, grid: Geometry) -> Annotation:
    """A dense segmentation on the grid of the truth."""
    every = [AnnotatedSlice("k", n) for n in range(grid.shape[0])]
    try:
        return read_annotation(path, grid, Reading(None, every))
    except InputError as error:
        own = geometry_of(read_file(path, "the segmentation", labels=True))
        if (difference := grid.difference(own)) is None:
            raise
        raise InputError(
            f"{path} lies on another grid than the truth: {difference} (truth against it). Write "
            "it on the grid of the truth, for example with the same image as input."
        ) from error


def paired(truth: Sequence[Segment], found: Sequence[Segment]) -> list[Pair]:
    """Pairs the segments of truth and prediction, by name, or by value where there are no names.

    Raises:
        InputError: They have no segment in common.
    """
    by_value = any(
        segments and all(NAMELESS.fullmatch(s.name) for s in segments)
        for segments in (truth, found)
    )

    def key(segment: Segment) -> str:
        return str(segment.value) if by_value else segment.name.strip().casefold()

    there = {key(segment): number for number, segment in enumerate(found, start=1)}
    pairs = [
        Pair(segment.name, number, there.pop(key(segment), None))
        for number, segment in enumerate(truth, start=1)
    ]
    if not any(pair.found for pair in pairs):
        names = [", ".join(s.name for s in side) or "none" for side in (truth, found)]
        raise InputError(
            f"the segmentations have no segment in common: the truth has {names[0]}, the "
            f"prediction {names[1]}. Give segments that are to be compared the same name."
        )
    return pairs + [Pair(found[number - 1].name, None, number) for number in there.values()]


def _counted(options: argparse.Namespace, grid: Geometry) -> np.ndarray | None:
    """Boolean (k, j, i), the voxels that count in Dice and IoU; None for all."""
    counted = None
    if options.unannotated is not None:
        slices = parse_slices(options.slices) if options.slices else None
        drawn = read_annotation(options.unannotated, grid, Reading(options.unlabelled, slices))
        counted = drawn.labels == UNLABELLED
    if options.mask is not None:
        import SimpleITK as sitk

        image = read_file(options.mask, "the mask", labels=True)
        if (difference := grid.difference(geometry_of(image))) is not None:
            raise InputError(f"the mask {options.mask} is on another grid: {difference}.")
        inside = sitk.GetArrayViewFromImage(image) > 0
        counted = inside if counted is None else counted & inside
    if counted is not None and not counted.any():
        raise InputError("no voxel is left to count: check --mask and --unannotated.")
    return counted


def scores(
    pairs: Sequence[Pair],
    truth: np.ndarray,
    found: np.ndarray,
    counted: np.ndarray | None,
    grid: Geometry,
    tolerance: float,
    quiet: bool = True,
) -> list[dict]:
    """Scores each pair of segments.

    Args:
        pairs: The segments.
        truth: uint8 (k, j, i).
        found: uint8 (k, j, i).
        counted: Boolean (k, j, i), the voxels that count in Dice and IoU; None for all.
        grid: Of both.
        tolerance: Of surface Dice, mm.
        quiet: Show no progress bar.

    Returns:
        Dictionaries of segment, dice, iou, surface_dice, hausdorff95 (mm), found_ml and truth_ml.
    """
    millilitres = float(np.prod(grid.spacing)) / 1000
    rows = []
    for pair in tqdm(pairs, disable=quiet or len(pairs) < 2, leave=False, file=sys.stderr):
        there = truth == pair.truth if pair.truth else np.zeros(truth.shape, bool)
        here = found == pair.found if pair.found else np.zeros(found.shape, bool)
        (overlap,) = metrics.overlap(here, there, 1, counted)
        surface = surface_score(here, there, grid.spacing_kji, tolerance)
        rows.append(
            {
                "segment": pair.name,
                "dice": overlap["dice"],
                "iou": overlap["iou"],
                **vars(surface),
                "found_ml": np.count_nonzero(here) * millilitres,
                "truth_ml": np.count_nonzero(there) * millilitres,
            }
        )
    return rows


def table(rows: Sequence[dict], mean: dict) -> str:
    """The figures as a table for a terminal."""
    lines = [["segment", *TITLES]]
    for row in [*rows, {"segment": "mean", **mean}]:
        cells = [
            "-" if row.get(name) is None else f"{row[name]:.3f}" if n < 3 else f"{row[name]:.4g}"
            for n, name in enumerate(COLUMNS)
        ]
        lines.append([row["segment"], *cells])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

"""The command ``sparsesegnet evaluate``: compares a segmentation with the truth, per segment."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np

from ..annotation.carry import carry
from ..annotation.composition import UNLABELLED
from ..annotation.grid_map import GridMap
from ..annotation.slices import format_slices, parse_slices
from ..engine.compute import metrics
from ..errors import InputError
from ..files.dense import Dense, read_dense_pair, read_mask
from ..files.labels import Reading, read_annotation
from ..files.writing import check_writable, link_target
from ..runfolder.atomic import write_json
from ..runfolder.exit_codes import DONE
from .evaluate_segments import SCORES, Pair, pair_segments, score
from .model import printable
from .progress import say

COLUMNS = {
    "dice": "Dice",
    "iou": "IoU",
    "surface_dice": "surface Dice",
    "hausdorff95_mm": "95 % HD mm",
    "prediction_ml": "prediction ml",
    "truth_ml": "truth ml",
}


def evaluate(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    _check(options)
    prediction, truth = read_dense_pair(options.prediction, options.truth, options.unlabelled)
    for note in [*prediction.notes, *truth.notes]:
        say(f"note: {note}")
    pairs = pair_segments(prediction, truth)
    grid = prediction.grid
    counted = _counted(options, prediction, truth)
    tolerance = min(grid.spacing) if options.tolerance is None else options.tolerance
    rows = score(pairs, prediction, truth, counted, tolerance, options.quiet)
    mean = {name: metrics.mean(row[name] for row in rows) for name in SCORES}
    for note in _notes(pairs, rows, prediction, truth):
        say(f"note: {note}")
    voxels = math.prod(grid.size)
    number = voxels if counted is None else int(np.count_nonzero(counted))
    if counted is not None:
        say(f"{number} of {voxels} voxels count ({100 * number / voxels:.3g} %).")
    found = {
        "prediction": str(options.prediction),
        "truth": str(options.truth),
        "tolerance_mm": tolerance,
        "voxels": voxels,
        "counted_voxels": number,
        "segments": rows,
        "mean": mean,
    }
    if options.json != "-":
        print(table(rows, mean, tolerance))
    else:
        print(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))
    if options.json not in (None, "-"):
        write_json(link_target(options.json), found)
    return DONE


def _check(options: argparse.Namespace) -> None:
    """Raise InputError if options do not fit together, before anything is read."""
    if options.tolerance is not None and not 0 <= options.tolerance < math.inf:
        raise InputError(f"--tolerance {options.tolerance:g}: expected mm, 0 or more.")
    if options.unannotated is None:
        given = {
            "--slices": options.slices,
            "--background-label": options.background_label is not None,
            "--resample-labels": options.resample_labels,
        }
        if lonely := [name for name, value in given.items() if value]:
            raise InputError(
                f"{lonely[0]} tells how the annotation is read: name it, with --unannotated LABELS."
            )
    parse_slices(options.slices)
    inputs = [options.prediction, options.truth, options.mask, options.unannotated]
    if options.json == "":
        raise InputError("--json: name a file, or - for standard output.")
    if options.json not in (None, "-"):
        check_writable(options.json, [path for path in inputs if path is not None])


def _counted(options: argparse.Namespace, prediction: Dense, truth: Dense) -> np.ndarray | None:
    """Boolean (k, j, i), the voxels that count; None for all."""
    parts = []
    if options.mask is not None:
        parts.append(read_mask(options.mask, prediction.grid))
    for one in (prediction, truth):
        missing = one.layers[0] == UNLABELLED  # in a label image, which has one layer
        if not one.named and missing.any():
            say(
                f"note: {np.count_nonzero(missing)} voxels of {one.path.name} are unlabelled and "
                "do not count."
            )
            parts.append(~missing)
    if options.unannotated is not None:
        slices = parse_slices(options.slices) if options.slices else None
        reading = Reading(
            options.unlabelled, slices, options.background_label, options.resample_labels
        )
        drawn = read_annotation(options.unannotated, prediction.own_grid, reading)
        for warning in drawn.warnings:
            say(f"note: {warning}")
        say(f"annotated slices: {format_slices(drawn.slices) or 'none'}.")
        place = GridMap.between(prediction.own_grid, prediction.grid)
        parts.append(carry(drawn.labels, place, UNLABELLED) == UNLABELLED)
    if not parts:
        return None
    counted = np.logical_and.reduce(parts)
    if not counted.any():
        raise InputError(
            "no voxel is left that counts: check --mask and --unannotated (a fully annotated "
            "volume has no other voxels)."
        )
    return counted


def _notes(pairs: list[Pair], rows: list[dict], prediction: Dense, truth: Dense) -> list[str]:
    """Messages about segments that only one of both has, and figures that a mean leaves out."""
    notes = []
    for missing, other, key in (
        (prediction, truth, "prediction"),
        (truth, prediction, "truth"),
    ):
        names = [repr(p.name) for p in pairs if getattr(p, key) is None]
        if names:
            notes.append(
                f"only {other.path.name} has {', '.join(names)}, not {missing.path.name}: "
                f"{'it is' if len(names) == 1 else 'they are'} scored as missing there and "
                "counted in the mean."
            )
    renamed = [
        f"{p.name!r} with {p.other_name!r}" for p in pairs if p.other_name not in (None, p.name)
    ]
    if renamed:
        notes.append(f"compared by terminology: {', '.join(renamed)} of {prediction.path.name}.")
    absent = [row["name"] for row in rows if row["dice"] is None]
    if absent:
        notes.append(
            f"neither file has voxels that count of {', '.join(map(repr, absent))}: no score."
        )
    far = [
        row["name"] for row in rows if row["hausdorff95_mm"] is None and row["name"] not in absent
    ]
    if far:
        notes.append(
            f"there is no Hausdorff distance where one surface is missing "
            f"({', '.join(map(repr, far))}): its mean is that of the other segments."
        )
    return notes


def table(rows: list[dict], mean: dict, tolerance: float) -> str:
    """The figures, for people."""
    titles = list(COLUMNS.values())
    titles[list(COLUMNS).index("surface_dice")] += f" ({tolerance:.3g} mm)"
    lines = [["segment", *titles]]
    for row in [*rows, {"name": "mean", **mean}]:
        cells = [_cell(name, row[name]) if name in row else "" for name in COLUMNS]
        lines.append([printable(row["name"]), *cells])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    )


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name not in ("dice", "iou", "surface_dice"):
        return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
    return f"{value:.3f}"

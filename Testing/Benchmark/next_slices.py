"""Which slice to draw next: ours against even spacing, random choice and entropy alone.

Each case begins with (1, 1, 1) slices; one after the other is added, filled from the truth, up to
13 in all. Every round is a row of a JSONL file in --keep, so that the command can be broken off and
started again. At the end (or with --table, of the cases, strategies and seeds that are named) it
prints the mean IoU of each strategy by number of slices, and the number needed for 95 % of what
even spacing reaches in the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ablation import volume_of
from cases import SHARED, Case, data_is_there, densify, halved, load_case
from compare import SHIFTS
from next_slices_table import table
from SparseSegNetLib.annotation.composition import UNLABELLED, keep_drawn, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import (
    AXES,
    AnnotatedSlice,
    array_axis,
    format_slices,
    parse_slices,
)
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.interaction.slice_sums import slice_sums
from SparseSegNetLib.engine.prediction.inference import finish
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.suggestion.ranking import suggest_slices
from SparseSegNetLib.suggestion.slice_profiles import SliceProfiles, contours_of, split
from storing import engine_hash, read_rows

CASES = (
    "hippocampus-007",
    "spinalcord-t1",
    "brain-mricrop",
    "braintumour-flair3",
    "spleen-ct",
    "ct-multiorgan",
    "mouse-skull-ct",
    "nuclei-1135",
)
STRATEGIES = ("ours", "even", "random", "entropy")
FIRST, LAST = 3, 13  # numbers of slices
QUICK_STEPS = (100, 300)  # of the shallow model, with --quick
QUICK_VOXELS = 5e5  # with --quick, of larger volumes every second voxel is taken
# (yz, xz, xy) for each number of slices; those of the paper's table where it has one.
EVEN = {
    3: (1, 1, 1),
    4: (2, 1, 1),
    5: (2, 2, 1),
    6: (2, 2, 2),
    7: (3, 2, 2),
    8: (3, 3, 2),
    9: (3, 3, 3),
    10: (4, 3, 3),
    11: (4, 4, 3),
    12: (5, 4, 3),
    13: (5, 5, 3),
}


@dataclass
class Prediction:
    """Labels uint8 (k, j, i) with the annotation in them, and sums over slices."""

    labels: np.ndarray
    profiles: SliceProfiles


def drawn_in(case: Case, slices: list[AnnotatedSlice]) -> Case:
    """The case with these slices annotated."""
    return replace(case, slices=slices, sparse=restrict_to_slices(case.truth, slices))


def predicted(case: Case, options, seed: int) -> Prediction:
    """The prediction from the slices that are annotated."""
    return _by_stack(case, seed) if options.stack_only else _by_engine(case, options, seed)


def _by_stack(case: Case, seed: int) -> Prediction:
    """Priors and shallow model alone, in this process, without a limit of time."""
    classes, volume = len(case.segments) + 1, volume_of(case)
    stack = Stacker(PriorMaker(volume, classes), seed).stack(volume.labels, volume.slices)
    found = prior_of(stack.target, classes)
    labels = keep_drawn(finish(found, volume.full_shape)[0].numpy(), case.sparse)
    spacing = case.geometry.spacing_kji
    return Prediction(labels, slice_sums(found, stack.disagreement, volume, labels, spacing))


def _by_engine(case: Case, options, seed: int) -> Prediction:
    """The command line, as a user calls it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        densify(
            [
                case.image_path,
                case.write_annotation(folder),
                "-o",
                folder / "result.nrrd",
                "--run",
                folder / "run",
                "--slices",
                *format_slices(case.slices).split(),
                "--quiet",
                "--time-budget",
                options.time,
                "--seed",
                seed,
            ]
        )
        run = RunFolder.open(folder / "run")
        profiles = run.read_profiles()
        if profiles is None:
            raise RuntimeError(f"the run of {case.name} has written no sums over slices")
        return _with_absent_segments(run.read_result(), profiles, case)


def _with_absent_segments(labels: np.ndarray, profiles: SliceProfiles, case: Case) -> Prediction:
    """A prediction of the drawn segments alone, which a label image is read with, as one of all."""
    values = np.unique(case.sparse[(case.sparse > 0) & (case.sparse != UNLABELLED)])
    table = np.zeros(UNLABELLED + 1, np.uint8)
    table[1 : len(values) + 1] = values
    drawn, count = len(values), len(case.segments)
    array = np.zeros((2 * count + 2, profiles.array.shape[1]), np.float32)
    for block in range(2):
        array[block * count + values - 1] = profiles.array[block * drawn : (block + 1) * drawn]
    array[-2:] = profiles.array[-2:]
    return Prediction(table[labels], SliceProfiles(array, profiles.shape))


def next_slices(
    strategy: str, case: Case, found: Prediction, seed: int, count: int
) -> list[AnnotatedSlice]:
    """The slices that a strategy has drawn next."""
    if strategy == "ours":
        names = [segment.name for segment in case.segments]
        suggested = suggest_slices(
            case.sparse, case.slices, names, case.geometry, found.profiles, count, seed
        )
        return [one.slice for one in suggested]
    if strategy == "random":
        random = np.random.default_rng((seed, len(case.slices)))
        shown = [
            item for axis in AXES for item in _showing(case.truth, axis) if item not in case.slices
        ]
        chosen = random.choice(len(shown), min(count, len(shown)), replace=False)
        return [shown[n] for n in chosen]
    entropies = {
        AnnotatedSlice(axis, index): value
        for axis in AXES
        for index, value in enumerate(found.profiles.entropy(axis))
    }
    for item in case.slices:
        entropies.pop(item, None)
    return sorted(entropies, key=lambda item: -entropies[item])[:count]


def _showing(truth: np.ndarray, axis: str) -> Iterator[AnnotatedSlice]:
    """The slices of an axis that show the object."""
    across = tuple(a for a in range(3) if a != array_axis(axis))
    for index in np.flatnonzero((truth > 0).any(axis=across)):
        yield AnnotatedSlice(axis, int(index))


def rounds(case: Case, strategy: str, seed: int, options, rows: list[dict]) -> Iterator[dict]:
    """The rows that are not there yet, one by one."""
    mine = [row for row in rows if _key(row) == (case.name, seed, strategy)]
    shift = SHIFTS[seed]
    contours = split(contours_of(case.truth), case.truth.shape)

    def spread(count: int) -> list[AnnotatedSlice]:
        return spread_slices(EVEN[count], case.truth.shape, case.truth > 0, shift)

    slices = spread(FIRST)
    if mine:
        last = max(mine, key=lambda row: row["count"])
        slices = parse_slices([last["slices"]]) + parse_slices([last["next"] or "none"])
        if not last["next"]:
            return
    for _ in range(options.rounds):
        if strategy == "even" and mine:
            slices = spread(len(slices))
        begun = time.monotonic()
        case = drawn_in(case, sorted(slices))
        found = predicted(case, options, seed)
        predicting, begun = time.monotonic() - begun, time.monotonic()
        count = min(options.slices_per_round, options.last - len(slices))
        if strategy == "even":  # as many as the next round has
            new = spread(len(slices) + count)[:count] if count else []
        else:
            new = next_slices(strategy, case, found, seed, count) if count else []
        scores = case.scores(found.labels)
        yield {
            "case": case.name,
            "seed": seed,
            "strategy": strategy,
            "count": len(slices),
            "iou": [row["iou"] for row in scores],
            "mean_iou": metrics.mean(row["iou"] for row in scores),
            "contour": float(
                sum(contours[array_axis(item.axis)][item.index] for item in case.slices)
            ),
            "slices": format_slices(slices),
            "next": format_slices(new),
            "seconds": round(predicting, 1),
            "choosing": round(time.monotonic() - begun, 3),
            "engine": engine_hash(),
        }
        if not new:
            return
        slices, mine = [*slices, *new], [{}]


def _key(row: dict) -> tuple:
    return row["case"], row["seed"], row["strategy"]


def main() -> int:
    """Measures what is missing, and prints the table."""
    options = _options()
    name = ("quick" if options.quick else "stack") if options.stack_only else f"{options.time:g}s"
    path = options.keep / f"{name}.jsonl"
    options.keep.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if not data_is_there(options.data):
            return 2
        prepare_threads()
        if options.quick:
            voxel_classifier.STEPS = QUICK_STEPS
        for seed in options.seeds or [0]:
            for name in options.cases:
                for strategy in options.strategies:
                    _measure(name, strategy, seed, options, path)
    rows = [
        row
        for row in read_rows(path)
        if row["case"] in options.cases
        and row["strategy"] in options.strategies
        and row["seed"] in (options.seeds or [row["seed"]])
    ]
    print(table(rows, options.share))
    return 0


def _measure(name: str, strategy: str, seed: int, options, path: Path) -> None:
    case = load_case(options.data / name, EVEN[FIRST], SHIFTS[seed])
    if options.quick and case.truth.size > QUICK_VOXELS:
        case = halved(case)
    for row in rounds(case, strategy, seed, options, read_rows(path)):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{name:18s} {seed} {strategy:8s} {row['count']:2d}  IoU {row['mean_iou']:.3f}  "
            f"{row['seconds']:.0f} s  then {row['next']}",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the JSONL file")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--seeds", nargs="+", type=int, help="default 0; for the table all")
    parser.add_argument("--slices-per-round", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=LAST - FIRST + 1, help="at most, now")
    parser.add_argument("--last", type=int, default=LAST, help="number of slices at the end")
    parser.add_argument("--stack-only", action="store_true", help="no network, no limit of time")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="with --stack-only: large volumes at half resolution, few steps of the shallow model",
    )
    parser.add_argument("--time", type=float, default=20.0, help="seconds of the engine per round")
    parser.add_argument("--share", type=float, default=0.95, help="of the final IoU")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if options.quick and not options.stack_only:
        parser.error("--quick goes with --stack-only")
    return options


if __name__ == "__main__":
    sys.exit(main())

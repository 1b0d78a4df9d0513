"""How honest the expected scores are, and the table of intervals that is shipped.

Every case is annotated in (1,1,1), (2,2,1), (3,3,2) and (5,5,3) slices at two places, and with
three corrections drawn three voxels beside old slices; priors and shallow model (in this process,
without a limit of time) predict the rest and say how good it is. Each segment is a row of a JSONL
file in --keep, so that the command can be broken off and started again. With --table it fits the
best estimate and the quantiles, each case by the others, and prints how they do; --write replaces
engine/scoring/interval_table.py by the fit of all cases.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ablation import volume_of
from cases import SHARED, Case, data_is_there, halved, load_case
from score_fit import fit, report, table_file
from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice, array_axis
from SparseSegNetLib.annotation.surface_metrics import surface_agreement
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.compute.metrics import overlap
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.scoring.scoring import Scoring
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.annotation_distance import log_distance_to_annotation
from SparseSegNetLib.engine.stacking.folds import complete_slices
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stacker import Stacker
from storing import read_rows

CASES = (
    "hippocampus-019",
    "spinalcord-t2",
    "nuclei-1135",
    "mouse-skull-ct",
    "brain-t1",
    "spleen-ct",
    "braintumour-flair3",
    "ct-multiorgan",
)
BUDGETS = ((1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 5, 3))
SHIFTS = (0.0, 0.3)
BESIDE, AWAY = 3, 3  # corrections, and how many voxels beside an old slice
MOST_VOXELS = 2e6  # of larger volumes every second voxel is taken
STEPS = (100, 300)  # of the shallow model
TABLE = Path(__file__).parents[2] / (
    "SparseSegNet/SparseSegNetLib/engine/scoring/interval_table.py"
)


def annotated(
    data: Path, name: str, counts: tuple[int, int, int], shift: float, beside: int
) -> Case:
    """A case with its slices, and with corrections beside some of them."""
    case = load_case(data / name, counts, shift)
    if case.truth.size > MOST_VOXELS:
        case = halved(case)
    slices = spread_slices(counts, case.truth.shape, case.truth > 0, shift)
    for n in np.random.default_rng(0).choice(len(slices), beside, replace=False):
        item = slices[n]
        room = item.index + AWAY < case.truth.shape[array_axis(item.axis)]
        slices.append(AnnotatedSlice(item.axis, item.index + (AWAY if room else -AWAY)))
    slices = sorted(set(slices))
    return replace(case, slices=slices, sparse=restrict_to_slices(case.truth, slices))


def measured(case: Case) -> list[dict]:
    """A row per segment that has a score: what is expected, and what is true."""
    classes, volume = len(case.segments) + 1, volume_of(case)
    maker = PriorMaker(volume, classes)
    stack = Stacker(maker).stack(volume.labels, volume.slices)
    slices = complete_slices(volume.labels, volume.slices)
    distance = log_distance_to_annotation(volume.labels, slices, volume, maker.spacing)
    chance = prior_of(stack.target, classes)
    return compared(stack.out_of_fold, volume.labels, chance, distance, case.truth)


def compared(found, labels, chance, distance, truth: np.ndarray) -> list[dict]:
    """Rows of out-of-fold predictions and a prediction of the whole volume."""
    if found is None:
        return []
    scoring = Scoring.of(found, labels)
    scores = scoring.score(chance, labels, distance)
    left, guess = labels.numpy() == UNLABELLED, chance.argmax(dim=0).numpy().astype(np.uint8)
    pooled, rows = found.scores(), []
    for value, (score, true) in enumerate(
        zip(scores, overlap(guess, truth, len(scores), left), strict=True), start=1
    ):
        if score.iou is None or true["iou"] is None:
            continue
        near = surface_agreement(guess == value, truth == value, np.eye(3), 1.0, left)
        rows.append(
            {
                "segment": value,
                "true": true["iou"],
                "true_near": near.surface_dice,
                "pooled": pooled[value - 1]["iou"],
                "folds": score.folds,
                "plug_in": score.folds if score.plug_in is None else score.plug_in,
                "near_folds": score.near_folds,
                "near_plug_in": score.near_plug_in,
                "error_before": scoring.before.error,
                "error_after": scoring.after.error,
            }
        )
    return rows


def main() -> int:
    """Measures what is missing, or fits and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the JSONL file")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--table", action="store_true", help="only fit and print the table")
    parser.add_argument("--write", action="store_true", help="also replace the shipped table")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    path = options.keep / "rows.jsonl"
    if not options.table:
        if not data_is_there(options.data):
            return 2
        prepare_threads()
        voxel_classifier.STEPS = STEPS
        _measure_all(options, path)
    rows = [one for run in read_rows(path) for one in run["rows"]]
    print(report(rows))
    if options.write:
        TABLE.write_text(table_file(fit(rows)), encoding="utf-8")
    return 0


def _measure_all(options: argparse.Namespace, path: Path) -> None:
    done = {run["run"] for run in read_rows(path)}
    settings = [(counts, shift, 0) for shift in SHIFTS for counts in BUDGETS]
    settings += [(counts, 0.0, BESIDE) for counts in BUDGETS[2:]]
    for counts, shift, beside in settings:
        for name in options.cases:
            run = f"{name} {counts} {shift} {beside}"
            if run in done:
                continue
            about = {"case": name, "slices": sum(counts), "beside": beside}
            rows = measured(annotated(options.data, name, counts, shift, beside))
            line = json.dumps({"run": run, "rows": [{**about, **row} for row in rows]})
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(run, len(rows), flush=True)


if __name__ == "__main__":
    sys.exit(main())

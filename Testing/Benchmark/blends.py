"""Other ways to blend priors and shallow models, judged in minutes.

Blends differ little and cost nothing; what they blend costs minutes. So the predictions of every
case, of the annotated voxels out of fold and of the whole volume, are computed once, without a
limit of time and without a network, and kept in --keep; --table judges every blend on them. The
cases, slices and steps are those of score_intervals.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ablation import volume_of
from cases import SHARED, data_is_there
from score_intervals import CASES, STEPS, annotated
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.surface_metrics import surface_agreement
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.compute.metrics import overlap
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.folds import complete_slices, scorable_voxels, shown_in
from SparseSegNetLib.engine.stacking.smoothing import smooth_probabilities
from SparseSegNetLib.engine.stacking.stack_time import StackTime
from SparseSegNetLib.engine.stacking.stacker import Stacker

BUDGETS = ((1, 1, 1), (2, 2, 1), (5, 5, 3))
SHIFTS = (0.0, 0.3)  # places of the slices


@dataclass
class Predictions:
    """All that a blend is made from, and the truth.

    Attributes:
        rows: Per fold float16 (predictors, classes, voxels), out of fold: priors, the shallow
            model, and the one that sees no priors.
        truths: Per fold uint8 (voxels,).
        every: float16 (predictors, classes, k, j, i), made with all labels.
        default: float32 (predictors,), the default weights.
        shown: For each class the number of slices that show it.
        prior_only: Classes that the shallow model with priors was not fitted on.
        image: float32 (channels, k, j, i), normalised.
        spacing: mm along (k, j, i).
        labels: uint8 (k, j, i), 255 = unlabelled.
        truth: uint8 (k, j, i).
    """

    rows: list[torch.Tensor]
    truths: list[torch.Tensor]
    every: torch.Tensor
    default: torch.Tensor
    shown: list[int]
    prior_only: tuple[int, ...]
    image: torch.Tensor
    spacing: tuple
    labels: torch.Tensor
    truth: np.ndarray


def predicted(case) -> Predictions | None:
    """Computes what is kept of a case; None where nothing can be trained out of fold."""
    classes, volume = len(case.segments) + 1, volume_of(case)
    stacker = Stacker(PriorMaker(volume, classes))
    labels, slices = volume.labels, complete_slices(volume.labels, volume.slices)
    stacker.interpolates = bool(slices)
    priors = stacker.maker.make(labels, slices).half()
    folds = stacker._folds(labels, slices, None)
    if len(folds) < 2:
        return None
    (models, *others), _ = stacker._fit(folds, StackTime(None, None))
    shallow = models.probabilities(stacker._inputs(priors, stacker._distance(labels, slices)))
    folds, found = stacker._out_of_fold(folds, others, False)
    shown = torch.unique(torch.cat([f.truth for f in folds])).tolist()
    scorable = [scorable_voxels(labels, volume, slices)[f.known] for f in folds]
    return Predictions(
        [rows[:, :, s] for rows, s in zip(found, scorable, strict=True)],
        [f.truth[s] for f, s in zip(folds, scorable, strict=True)],
        torch.cat((priors, shallow)),
        stacker.default_weights,
        shown_in(labels, volume, slices, classes)[0],
        tuple(c for c in range(1, classes) if c not in shown),
        volume.image,
        stacker.maker.spacing,
        labels,
        case.truth,
    )


def judged(found: Predictions, probabilities: torch.Tensor) -> tuple[float, float, float]:
    """Means over the classes: IoU, IoU without the voxels at the true border, surface Dice.

    On voxels that were not annotated, after the smoothing that the engine applies.
    """
    smooth = smooth_probabilities(probabilities.float(), found.image, found.spacing)
    guess = smooth.argmax(dim=0).numpy().astype(np.uint8)
    left, count = found.labels.numpy() == UNLABELLED, probabilities.shape[0] - 1
    inner = left & ~at_border(found.truth)
    surface = [
        surface_agreement(guess == c, found.truth == c, np.eye(3), 1.0, left).surface_dice
        for c in range(1, count + 1)
    ]
    return (
        mean(r["iou"] for r in overlap(guess, found.truth, count, left)),
        mean(r["iou"] for r in overlap(guess, found.truth, count, inner)),
        mean(surface),
    )


def mean(values) -> float:
    """Mean of the values that are there."""
    there = [v for v in values if v is not None]
    return statistics.fmean(there) if there else float("nan")


def at_border(truth: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour along an axis of another class."""
    border = np.zeros(truth.shape, bool)
    for axis in range(3):
        a = np.moveaxis(truth, axis, 0)
        b = np.moveaxis(border, axis, 0)
        differ = a[1:] != a[:-1]
        b[1:] |= differ
        b[:-1] |= differ
    return border


def compute(options: argparse.Namespace) -> None:
    """Computes and keeps what is not there yet."""
    voxel_classifier.STEPS = STEPS
    for shift in SHIFTS:
        for counts in BUDGETS:
            for name in options.cases:
                path = options.keep / f"{name}-{sum(counts)}-{shift}.pt"
                if path.exists():
                    continue
                found = predicted(annotated(options.data, name, counts, shift, 0))
                part = path.with_suffix(".part")
                torch.save(None if found is None else vars(found), part)
                part.replace(path)
                print(path.name, "computed", flush=True)


def table(options: argparse.Namespace, blends: dict[str, Callable]) -> None:
    """Prints each blend's difference to the first: mean, its standard error, and by case."""
    results: dict[str, dict[tuple, tuple]] = {name: {} for name in blends}
    for path in sorted(options.keep.glob("*.pt")):
        name, slices, shift = path.stem.rsplit("-", 2)
        if name not in options.cases or (options.slices and int(slices) not in options.slices):
            continue
        state = torch.load(path, weights_only=False)
        if state is None:
            continue
        found = Predictions(**state)
        for blend, way in blends.items():
            results[blend][name, int(slices), shift] = judged(found, way(found))
    first = next(iter(blends))
    for slices in sorted({key[1] for key in results[first]}):
        print(f"\n{slices} slices          IoU  inner  surface   difference of IoU (s.e.), by case")
        for blend, rows in results.items():
            keys = [k for k in rows if k[1] == slices]
            means = [statistics.fmean(rows[k][n] for k in keys) for n in range(3)]
            by_case = {
                name: statistics.fmean(
                    rows[k][0] - results[first][k][0] for k in keys if k[0] == name
                )
                for name in sorted({k[0] for k in keys})
            }
            apart = list(by_case.values())
            error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
            print(
                f"{blend:20} {means[0]:.4f} {means[1]:.4f} {means[2]:.4f}  "
                f"{statistics.fmean(apart):+.4f} ({error:.4f})  "
                + " ".join(f"{name[:10]} {value:+.4f}" for name, value in by_case.items()),
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Computes what is missing, or judges the blends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the predictions")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--slices", nargs="+", type=int, help="numbers of slices (default: all)")
    parser.add_argument("--blends", nargs="+", help="which (default: all)")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--table", action="store_true", help="only judge what is there")
    options = parser.parse_args(arguments)
    options.keep.mkdir(parents=True, exist_ok=True)
    if not options.table:
        if not data_is_there(options.data):
            return 2
        prepare_threads()
        compute(options)
    from blend_variants import BLENDS

    first = next(iter(BLENDS))
    wanted = {first, *(options.blends or BLENDS)}
    table(options, {name: way for name, way in BLENDS.items() if name in wanted})
    return 0


if __name__ == "__main__":
    sys.exit(main())

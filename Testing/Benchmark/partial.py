"""Accuracy where slices are annotated in part or scribbled on, and after a correction.

python Testing/Benchmark/partial.py --cases hippocampus-007 --kinds halves scribbles correction
python Testing/Benchmark/partial.py --kinds slice-k slice-j slice-i slice-box slice-scribbles

Dice and IoU over the segments that the annotation shows, on voxels that were not annotated, beside
the score that the run reports. Where all annotation lies in one slice, also the IoU of giving each
voxel of the smoothed image the class whose mean it is nearest to.
`--library DIR` measures another checkout's SparseSegNet folder, to compare before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from cases import SHARED, data_is_there, load_case
from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.compute.metrics import mean, overlap

ROOT = Path(__file__).resolve().parents[2]
ONE_SLICE = ("slice-k", "slice-j", "slice-i", "slice-box", "slice-scribbles")
KINDS = ("halves", "scribbles", "correction", *ONE_SLICE)
DISCS = 12  # strokes per class, discs of RADIUS voxels
RADIUS = 3
BORDER = 5  # voxels of background around the structures in a box
SMOOTH = 1.0  # finest voxels, before classes are told apart by their means
CORRECTED = 4  # voxels


def halves(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Two slices per axis through the structures, of each of which one half is labelled."""
    labels = np.full(truth.shape, UNLABELLED, np.uint8)
    for axis in range(3):
        other = (axis + 1) % 3
        hit = np.flatnonzero((truth > 0).any(axis=tuple({0, 1, 2} - {axis})))
        for share in (1 / 3, 2 / 3):
            place = [slice(None)] * 3
            place[axis] = int(hit[0] + share * (hit[-1] - hit[0]))
            middle = truth.shape[other] // 2
            place[other] = slice(0, middle) if share < 0.5 else slice(middle, None)
            labels[tuple(place)] = truth[tuple(place)]
    return labels


def scribbles(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Small discs in k planes, on each class."""
    labels = np.full(truth.shape, UNLABELLED, np.uint8)
    rows, columns = np.ogrid[: truth.shape[1], : truth.shape[2]]
    for value in np.unique(truth):
        at = np.argwhere(truth == value)
        for k, j, i in at[random.choice(len(at), min(len(at), DISCS), replace=False)]:
            disc = (rows - j) ** 2 + (columns - i) ** 2 <= RADIUS**2
            where = disc & (truth[k] == value)
            labels[k][where] = value
    return labels


def in_one_slice(kind: str, truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The slice through the middle of the structures along an axis; or, of the one along k, a box
    around the structures, or small discs on each class."""
    axis = kind[-1] if kind[-2] == "-" else "k"
    (item,) = spread_slices(tuple(int(axis == a) for a in "ijk"), truth.shape, truth > 0)
    labels = restrict_to_slices(truth, [item])
    if kind in ("slice-k", "slice-j", "slice-i"):
        return labels
    rows, columns = np.indices(truth.shape[1:])
    kept = np.zeros(truth.shape[1:], bool)
    plane = truth[item.index]
    if kind == "slice-box":
        low, high = (f(np.argwhere(plane > 0), axis=0) for f in (np.min, np.max))
        low = np.maximum(low - BORDER, 0)
        kept[low[0] : high[0] + BORDER + 1, low[1] : high[1] + BORDER + 1] = True
    else:
        for value in np.unique(plane):
            at = np.argwhere(plane == value)
            for j, i in at[random.choice(len(at), min(len(at), DISCS // 3), replace=False)]:
                disc = (rows - j) ** 2 + (columns - i) ** 2 <= RADIUS**2
                kept |= disc & (plane == value)
    labels[item.index][~kept] = UNLABELLED
    return labels


def nearest_mean(case, labels: np.ndarray) -> np.ndarray:
    """The class, among those shown, whose mean is nearest to each voxel of the smoothed image."""
    spacing = case.geometry.spacing_kji
    image = ndimage.gaussian_filter(
        case.image.astype(np.float32), [SMOOTH * min(spacing) / mm for mm in spacing]
    )
    shown = [c for c in np.unique(labels) if c != UNLABELLED]
    far = [np.abs(image - image[labels == c].mean()) for c in shown]
    return np.array(shown)[np.argmin(far, axis=0)]


def scores(result: np.ndarray, case, labels: np.ndarray, on: np.ndarray) -> tuple[float, float]:
    """Mean Dice and IoU of the segments that the labels show."""
    rows = overlap(result, case.truth, len(case.segments), on)
    rows = [row for value, row in enumerate(rows, start=1) if (labels == value).any()]
    return mean(row["dice"] for row in rows), mean(row["iou"] for row in rows)


def corrected(
    labels: np.ndarray, truth: np.ndarray, random: np.random.Generator, whole: bool
) -> np.ndarray:
    """A few voxels of a slice that was not annotated are corrected. whole: the slice that they lie
    in counts as complete, so that everything else in it becomes background (the old fault)."""
    free = [k for k in range(len(truth)) if (labels[k] == UNLABELLED).mean() > 0.5]
    shown = sorted(free, key=lambda k: int((truth[k] > 0).sum()))[-len(free) // 2 :]
    k = shown[len(shown) // 2]
    at = np.argwhere((truth[k] > 0) & (labels[k] == UNLABELLED))[:CORRECTED]
    labels = labels.copy()
    if whole:
        labels[k][labels[k] == UNLABELLED] = 0
    labels[k][tuple(at.T)] = truth[k][tuple(at.T)]
    return labels


def measured(given: argparse.Namespace, case, labels: np.ndarray, score_on: np.ndarray) -> str:
    """Mean Dice and IoU on voxels of the boolean (k, j, i) array, and what the run says of it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(sitk.ReadImage(str(case.image_path)))
        sitk.WriteImage(image, str(folder / "labels.nrrd"))
        environment = os.environ | {"PYTHONPATH": str(given.library)}
        subprocess.run(
            [
                sys.executable,
                "-m",
                "SparseSegNetLib.cli",
                "densify",
                str(case.image_path),
                str(folder / "labels.nrrd"),
                "-o",
                str(folder / "result.nrrd"),
                "--time-budget",
                str(given.time_budget),
                "--seed",
                str(given.seed),
                "--metrics",
                str(folder / "report.json"),
                "--quiet",
            ],
            check=True,
            env=environment,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        result = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "result.nrrd")))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    dice, iou = scores(result, case, labels, score_on)
    held = report.get("held_out")
    said = None if held is None else mean(row["dice"] for row in held)
    score = "no score" if said is None else f"says {said:.3f}"
    seconds = f"{report['seconds']:.0f} s, {report['steps']} steps"
    return f"Dice {dice:.3f} IoU {iou:.3f} ({score}; {seconds})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["hippocampus-007", "spinalcord-t1"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--library", type=Path, default=ROOT / "SparseSegNet")
    parser.add_argument("--time-budget", type=float, default=40.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not data_is_there(given.data):
        return 2
    for name in given.cases:
        case = load_case(given.data / name, (2, 2, 1))
        for kind in given.kinds:
            random = np.random.default_rng(given.seed)
            if kind == "correction":
                fair = corrected(case.sparse, case.truth, random, whole=False)
                wrong = corrected(case.sparse, case.truth, random, whole=True)
                score_on = fair == UNLABELLED
                print(
                    f"{name} correction as voxels: {measured(given, case, fair, score_on)}; "
                    f"as a slice: {measured(given, case, wrong, score_on)}",
                    flush=True,
                )
                continue
            other = ""
            if kind in ONE_SLICE:
                labels = in_one_slice(kind, case.truth, random)
                rival = scores(nearest_mean(case, labels), case, labels, labels == UNLABELLED)
                other = f"; nearest mean IoU {rival[1]:.3f}"
            else:
                labels = {"halves": halves, "scribbles": scribbles}[kind](case.truth, random)
            found = measured(given, case, labels, labels == UNLABELLED)
            print(f"{name} {kind}: {found}{other}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

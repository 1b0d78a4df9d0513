"""Segmentation of volumes that nobody drew in, by models of sparsely annotated ones.

    python new_volumes.py leave-one-out --families hippocampus --methods auto unet3d --keep MODELS
    python new_volumes.py volumes --volumes 1 2 3 5   # IoU against the number of annotated volumes
    python new_volumes.py start-from --keep MODELS    # densify with the model of the other volumes

Each family's volumes are annotated in `--slices` (yz, xz, xy) slices over the structure. A model is
trained on all but one and segments that one; the score is the mean IoU over the segments on all
voxels of it (with `start-from`: on those that were not annotated). Prints Markdown rows.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cases import SHARED, data_is_there, slice_counts
from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.files.images import read_file, read_volume
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

METHODS = {
    "auto": {},
    "unet3d": {"network": "unet3d"},
    "unet3d without BN": {"network": "unet3d", "batch_norm": False},
    "unet2d": {"network": "unet2d"},
}


@dataclass
class Scan:
    """A volume with dense truth.

    Attributes:
        name: Of the case.
        item: The volume without annotation.
        truth: uint8 (k, j, i).
        segments: The classes 1..K.
    """

    name: str
    item: RunInput
    truth: np.ndarray
    segments: list[Segment]

    def annotated(self, counts: tuple[int, ...]) -> RunInput:
        """The volume with so many annotated slices (yz, xz, xy)."""
        slices = spread_slices(counts, self.truth.shape, self.truth > 0)
        labels = restrict_to_slices(self.truth, slices)
        return RunInput(
            self.item.image, labels, self.item.geometry, slices, ["image"], name=self.name
        )

    def score(self, found: np.ndarray, known: np.ndarray | None = None) -> float:
        """Mean IoU over the segments, outside of the voxels that were known."""
        mask = None if known is None else known == UNLABELLED
        rows = metrics.overlap(found, self.truth, len(self.segments), mask)
        return metrics.mean(row["iou"] for row in rows) or 0.0


def read_family(folder: Path, family: str) -> list[Scan]:
    """All volumes of a family, by their names."""
    found = []
    for path in sorted(folder.glob(f"{family}*-image.nrrd")):
        name = path.name.removesuffix("-image.nrrd")
        volume = read_volume([path])
        truth = read_file(path.with_name(f"{name}-labels.nrrd"), "the ground truth", labels=True)
        labels = sitk.GetArrayFromImage(truth).astype(np.uint8)
        segments = [Segment.numbered(v, v - 1) for v in range(1, int(labels.max()) + 1)]
        empty = np.full(labels.shape, UNLABELLED, np.uint8)
        item = RunInput(volume.image, empty, volume.geometry, [], ["image"], name=name)
        found.append(Scan(name, item, labels, segments))
    return found


def run(folder: RunFolder) -> EngineRun:
    """Carries out a run; raises its error if it fails."""
    engine = EngineRun(folder)
    if engine.wait() != "done":
        raise engine.error or RuntimeError(engine.state)
    return engine


def model_of(scans: list[Scan], counts: tuple[int, ...], options: Options, path: Path) -> EngineRun:
    """Trains a model on annotated volumes."""
    inputs = [scan.annotated(counts) for scan in scans]
    for item in inputs:
        item.predict = []
    return run(RunFolder.create(path, inputs, scans[0].segments, options, task="train"))


def segmented(scan: Scan, model: Path, path: Path) -> np.ndarray:
    """Applies a model to a volume without annotation."""
    folder = RunFolder.create(
        path, [scan.item], scan.segments, Options(time_budget=600.0), task="segment", model=model
    )
    return run(folder).result()


def leave_one_out(scans: list[Scan], given: argparse.Namespace, work: Path) -> None:
    """A model of all volumes but one, and its score on that one."""
    for method in given.methods:
        row, steps, said = [], [], []
        for out, scan in enumerate(scans[: given.tests]):
            others = [s for s in scans if s is not scan]
            options = Options(time_budget=given.time, seed=given.seed, **METHODS[method])
            training = model_of(others, given.slices, options, work / f"{method}-{out}")
            model = training.folder.model_path
            row.append(scan.score(segmented(scan, model, work / f"{method}-{out}-new")))
            steps.append(training.summary["step"])
            held = training.summary["held_out"]
            said.append(None if held is None else metrics.mean(r["iou"] for r in held))
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model, given.keep / f"{scan.name}-{method}.safetensors")
        print_row(method, [f"{v:.3f}" for v in row], f"{np.mean(row):.3f}", steps, said)


def by_volumes(scans: list[Scan], given: argparse.Namespace, work: Path) -> None:
    """The score on a new volume against the number of annotated ones."""
    for count in given.volumes:
        row, steps, said = [], [], []
        for out, scan in enumerate(scans[: given.tests]):
            others = [s for s in scans if s is not scan][:count]
            options = Options(time_budget=given.time, seed=given.seed)
            training = model_of(others, given.slices, options, work / f"{count}-{out}")
            found = segmented(scan, training.folder.model_path, work / f"{count}-{out}-new")
            row.append(scan.score(found))
            steps.append(training.summary["step"])
            held = training.summary["held_out"]
            said.append(None if held is None else metrics.mean(r["iou"] for r in held))
        name = f"{count} volumes, {given.slices}"
        print_row(name, [f"{v:.3f}" for v in row], f"{np.mean(row):.3f}", steps, said)


def start_from(scans: list[Scan], given: argparse.Namespace, work: Path) -> None:
    """Densify a volume from few slices, with and without the model of the others."""
    rows: dict[str, list[float]] = {"from nothing": [], "from the model": []}
    for out, scan in enumerate(scans[: given.tests]):
        model = given.keep / f"{scan.name}-auto.safetensors"
        for name, path in (("from nothing", None), ("from the model", model)):
            item = scan.annotated(given.slices)
            options = Options(time_budget=given.time, seed=given.seed)
            folder = RunFolder.create(
                work / f"{out}-{name}", [item], scan.segments, options, model=path
            )
            rows[name].append(scan.score(run(folder).result(), item.labels))
    for name, row in rows.items():
        print_row(name, [f"{v:.3f}" for v in row], f"{np.mean(row):.3f}", [], [])


def print_row(name: str, cells: list[str], mean: str, steps: list, said: list) -> None:
    """Prints a row of the table, with steps and the model's own scores behind it."""
    shown = ", ".join("-" if value is None else f"{value:.2f}" for value in said)
    print(f"| {name} | {' | '.join(cells)} | **{mean}** | {steps} | {shown} |", flush=True)


TABLES = {"leave-one-out": leave_one_out, "volumes": by_volumes, "start-from": start_from}


def main() -> None:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--families", nargs="+", default=["hippocampus"])
    parser.add_argument("--methods", nargs="+", default=["auto"], choices=METHODS)
    parser.add_argument("--volumes", nargs="+", type=int, default=[1, 2, 3, 5])
    parser.add_argument("--slices", type=slice_counts, default=(1, 1, 1))
    parser.add_argument("--tests", type=int, default=99, help="how many volumes are left out")
    parser.add_argument("--time", type=float, default=120.0, help="seconds of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder of the models of leave-one-out")
    given = parser.parse_args()
    if not data_is_there(given.data):
        sys.exit(2)
    for family in given.families:
        scans = read_family(given.data, family)
        names = " | ".join(scan.name for scan in scans[: given.tests])
        print(
            f"\n{family}, {given.table}, {given.slices}, {given.time:g} s\n\n| | {names} | mean |"
        )
        with tempfile.TemporaryDirectory() as work:
            TABLES[given.table](scans, given, Path(work))


if __name__ == "__main__":
    main()

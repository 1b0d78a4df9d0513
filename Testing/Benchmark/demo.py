"""`make demo`: densify a case from a few annotated slices, score it and draw a report.

Ctrl-C stops the training cleanly; the report then shows the best result so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cases import Case, load_case, slice_counts
from report import write_report
from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.writing import write_labels
from SparseSegNetLib.runfolder.atomic import write_json
from SparseSegNetLib.runfolder.folder import RunFolder, annotated_share


def main() -> int:
    options = _options()
    try:
        case = load_case(options.case, options.spread)
    except InputError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 2
    out = options.output
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "run", ignore_errors=True)
    result_path = out / "segmentation.seg.nrrd"
    print(
        f"{case.name}: {'x'.join(map(str, case.geometry.size))} voxels, annotated slices "
        f"{len(case.slices)}, ready in about {options.time_budget:.0f} s",
        file=sys.stderr,
    )
    code = cli.main(
        [
            "densify",
            str(case.image_path),
            str(case.write_annotation(out)),
            "-o",
            str(result_path),
            "--time-budget",
            str(options.time_budget),
            "--metrics",
            str(out / "metrics.json"),
            "--run",
            str(out / "run"),
            "--seed",
            str(options.seed),
        ]
    )
    if code:
        return code
    finish(case, out)
    return 0


def finish(case: Case, out: Path) -> None:
    """Score what was written, draw the report, print the table."""
    result = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "segmentation.seg.nrrd")))
    write_labels(out / "labels.nrrd", result, case.geometry, case.segments, case.image_path)
    folder = RunFolder.open(out / "run")
    rows = case.scores(result)
    about = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    about["case"] = case.name
    about["scores_on_unannotated_voxels"] = {
        s.name: row for s, row in zip(case.segments, rows, strict=True)
    }
    about["mean_iou"] = metrics.mean(row["iou"] for row in rows)
    about["mean_dice"] = metrics.mean(row["dice"] for row in rows)
    write_json(out / "metrics.json", about)
    share = annotated_share(case.sparse)
    write_report(
        out / "report.png",
        image=case.image,
        labels=result.astype(np.uint8),
        sparse=case.sparse,
        slices=case.slices,
        names=[s.name for s in case.segments],
        colors=[s.color for s in case.segments],
        spacing=case.geometry.spacing,
        truth=case.truth,
        directions=case.geometry.directions,
        history=folder.read_metrics(),
        scores={s.name: row for s, row in zip(case.segments, rows, strict=True)},
        expected=folder.read_score(),
        title=f"{case.name}: dense 3D segmentation from {len(case.slices)} annotated slices",
        subtitle=f"{100 * share:.1f} % of the voxels annotated, {about['seconds']:.0f} s, "
        f"{about['steps']} steps on {about['plan']['device']}",
    )
    print(table(case, rows, share, about["seconds"]))
    print(f"\n{out}/report.png shows it; {out}/segmentation.seg.nrrd opens in 3D Slicer.")


def table(case: Case, rows: list[dict], share: float, seconds: float) -> str:
    """The scores on voxels that were not annotated, as text."""

    def line(name: str, row: dict) -> str:
        iou, dice = ("   -  " if row[k] is None else f"{row[k]:6.3f}" for k in ("iou", "dice"))
        return f"{name:<{width}}  {iou}  {dice}"

    names = [s.name for s in case.segments]
    width = max(12, *map(len, names))
    average = {k: metrics.mean(r[k] for r in rows) for k in ("iou", "dice")}
    return "\n".join(
        [
            "",
            "On voxels that were not annotated:",
            f"{'segment':<{width}}  {'IoU':>6}  {'Dice':>6}",
            *(line(n, r) for n, r in zip(names, rows, strict=True)),
            line("mean", average),
            f"annotated {100 * share:.1f} % in {len(case.slices)} slices; {seconds:.0f} s.",
        ]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", type=Path, help="the case's path up to '-image.nrrd'")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--time-budget", type=float, default=90.0)
    parser.add_argument(
        "--spread",
        default="3,3,2",
        type=slice_counts,
        help="annotated slices (yz,xz,xy) where the case brings no annotation",
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("demo: stopped.")

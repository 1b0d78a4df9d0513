"""`make benchmark-accuracy`: IoU against the number of annotated slices, five kinds of case.

The 3D U-Net paper's Table 2 on our development volumes: (yz, xz, xy) slices evenly spread over
the structure, a fixed time budget, mean IoU over the foreground classes on the voxels that were
not annotated. Every result is stored with its settings under Testing/Benchmark/runs and reused,
so the command can be broken off and started again; it prints as it goes and writes the table to
Testing/Benchmark/runs/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cases import SHARED, data_is_there, densify, load_case
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.runfolder.atomic import atomic_path
from SparseSegNetLib.runfolder.folder import annotated_share
from storing import ENGINE, RUNS, engine_hash, stored

CASES = ("hippocampus-007", "spleen-ct", "nuclei-1135", "brain-mricrop", "mouse-skull-ct")
BUDGETS = ((1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 5, 3))


def main() -> int:
    options = _options()
    if not data_is_there(options.data):
        return 2
    results = {}
    for case in options.cases:
        for counts in BUDGETS:
            found = result_of(case, counts, options)
            results[case, counts] = found
            print(
                f"{case:16s} {counts}  IoU {found['mean_iou']:.3f}  "
                f"{100 * found['annotated_share']:.1f} %  {found['seconds']:.0f} s, "
                f"{found['steps']} steps",
                flush=True,
            )
    text = table(results, options)
    with atomic_path(RUNS / "accuracy.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print("\n" + text)
    return 0


def result_of(case_name: str, counts: tuple[int, int, int], options) -> dict:
    """The stored result of these settings and this engine, or a new one."""
    settings = {
        "case": case_name,
        "counts": counts,
        "time_budget": options.time_budget,
        "seed": options.seed,
        "engine": engine_hash(),
    }
    return stored(
        RUNS / "accuracy",
        f"{case_name}-{'-'.join(map(str, counts))}",
        settings,
        lambda: _made(case_name, counts, options),
    )


def _made(case_name: str, counts: tuple[int, int, int], options) -> dict:
    case = load_case(options.data / case_name, counts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, report = folder / "result.nrrd", folder / "metrics.json"
        densify(
            [
                case.image_path,
                case.write_annotation(folder),
                "-o",
                out,
                "--quiet",
                "--time-budget",
                options.time_budget,
                "--seed",
                options.seed,
                "--metrics",
                report,
            ]
        )
        about = json.loads(report.read_text(encoding="utf-8"))
        result = sitk.GetArrayFromImage(sitk.ReadImage(str(out))).astype(np.uint8)
    rows = case.scores(result)
    return {
        "mean_iou": metrics.mean(r["iou"] for r in rows),
        "mean_dice": metrics.mean(r["dice"] for r in rows),
        "scores": rows,
        "annotated_share": annotated_share(case.sparse),
        "seconds": about["seconds"],
        "steps": about["steps"],
        "held_out": about["held_out"],
        "plan": about["plan"],
    }


def table(results: dict, options) -> str:
    """Markdown: one row per case, one column per number of slices."""
    commit = (
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            encoding="utf-8",
            check=False,
            cwd=ENGINE,
        ).stdout.strip()
        or "unknown"
    )
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {options.time_budget:g} s each, "
        f"seed {options.seed}; IoU (share of voxels annotated)",
        "",
        "| case | " + " | ".join(str(c) for c in BUDGETS) + " |",
        "|---" * (len(BUDGETS) + 1) + "|",
    ]
    for case in options.cases:
        cells = [results[case, c] for c in BUDGETS]
        lines.append(
            f"| {case} | "
            + " | ".join(f"{r['mean_iou']:.3f} ({100 * r['annotated_share']:.1f} %)" for r in cells)
            + " |"
        )
    means = [np.mean([results[case, c]["mean_iou"] for case in options.cases]) for c in BUDGETS]
    lines.append("| **mean** | " + " | ".join(f"**{m:.3f}**" for m in means) + " |")
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--time-budget", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=SHARED)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`make benchmark`: our engine and what people use instead, on the same slices and machine.

Every result is stored with its settings under Testing/Benchmark/runs/compare as it is made, and
reused: the command can be broken off and started again. Peers' results stay while their settings
do; ours are made again when the engine's code changes. `--quick` is for day to day: three cases,
two slice budgets. With several seeds the slices lie elsewhere for each, and means come with their
standard deviation over the seeds. Writes compare.md and compare.png beside the results.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import features
import peers
from cases import SHARED, Case, data_is_there, densify, load_case, slice_counts
from overlap_and_surface import scores
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.runfolder.atomic import atomic_path
from SparseSegNetLib.runfolder.folder import annotated_share
from storing import RUNS, engine_hash, stored

CASES = (
    "hippocampus-007",
    "spinalcord-t2",
    "spleen-ct",
    "brain-mricrop",
    "nuclei-1135",
    "ct-multiorgan",
    "mouse-skull-ct",
    "braintumour-flair3",
)
QUICK = ("spleen-ct", "brain-mricrop", "nuclei-1135")
COUNTS = ((1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 5, 3))
QUICK_COUNTS = ((2, 2, 1), (5, 5, 3))
OURS = "SparseSegNet"
STORE = RUNS / "compare"
SHIFTS = (0.0, 0.25, -0.25, 0.125, -0.125)  # of the slices, in parts of their distance, per seed
NOT_RUN = {
    "nnU-Net v2": "on two cores one of its steps takes about 6 s (24 steps in 112 s, measured once "
    "elsewhere on such a machine), so that it cannot learn anything in these budgets",
}


def main() -> int:
    options = _options()
    if not data_is_there(options.data):
        return 2
    found, failed = {}, {}
    for name in options.cases:
        for counts in options.counts:
            for seed in options.seeds:
                case = load_case(options.data / name, counts, SHIFTS[seed])
                for method, budget in _methods(options):
                    if method in failed:
                        continue
                    try:
                        record = result_of(case, counts, method, budget, seed)
                    except ImportError as error:
                        failed[method] = f"not installed ({error.name})"
                        continue
                    found.setdefault((name, counts, method, budget), []).append(record)
                    print(
                        f"{name:18s} {counts} seed {seed} {method:16s} {budget or '':>5} "
                        f"IoU {record['iou']:.3f} in {record['seconds']:.0f} s",
                        flush=True,
                    )
    text = table(found, failed, options)
    with atomic_path(RUNS / "compare.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print("\n" + text)
    draw(found, options, RUNS / "compare.png")
    return 0


def _methods(options) -> list[tuple[str, float]]:
    """Methods with their time budgets; 0 for those that take what they take."""
    chosen = [p for p in peers.PEERS.values() if p.name in options.methods]
    return [(p.name, b) for p in chosen for b in (options.budgets if p.timed else [0.0])] + (
        [(OURS, b) for b in options.budgets] if OURS in options.methods else []
    )


def result_of(case: Case, counts: tuple, method: str, budget: float, seed: int) -> dict:
    """The stored result of these settings, or a new one."""
    settings = {
        "case": case.name,
        "counts": counts,
        "method": method,
        "budget": budget,
        "seed": seed if method == OURS else 0,
        "code": _code(method),
    }
    if SHIFTS[seed]:
        settings["shift"] = SHIFTS[seed]
    return stored(
        STORE,
        f"{case.name}-{'-'.join(map(str, counts))}-{method}",
        settings,
        lambda: _made(case, method, budget, seed),
    )


def _made(case: Case, method: str, budget: float, seed: int) -> dict:
    if method == OURS:
        begun = time.monotonic()
        result, seconds = ours(case, budget, seed), time.monotonic() - begun
    else:
        # In a process of its own: the libraries of several peers do not go well together.
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            result, seconds = pool.submit(_timed, method, case, budget).result()
    return {
        "seconds": seconds,
        **scores(case, result),
        "annotated_share": annotated_share(case.sparse),
    }


def _timed(method: str, case: Case, budget: float) -> tuple[np.ndarray, float]:
    """A peer's labels and the seconds it took, with loading its libraries."""
    begun = time.monotonic()
    return peers.PEERS[method].run(case, budget), time.monotonic() - begun


def _code(method: str) -> str:
    """Changes when the code of a method does."""
    if method == OURS:
        return engine_hash()
    text = inspect.getsource(peers.PEERS[method].run)
    if "forest" in method:
        text += inspect.getsource(features) + inspect.getsource(peers._forest)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def ours(case: Case, budget: float, seed: int) -> np.ndarray:
    """The engine through the command line, as a user calls it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "result.nrrd"
        densify(
            [
                case.image_path,
                case.write_annotation(folder),
                "-o",
                out,
                "--quiet",
                "--time-budget",
                budget,
                "--seed",
                seed,
            ]
        )
        return sitk.GetArrayFromImage(sitk.ReadImage(str(out))).astype(np.uint8)


def _title(method: str, budget: float) -> str:
    title = peers.PEERS[method].title if method in peers.PEERS else method
    return f"{title}, {budget:g} s" if budget else title


def _iou(records: list[dict]) -> float:
    """Mean over seeds."""
    return float(np.mean([r["iou"] for r in records]))


def _deviation(by_case: list[list[dict]]) -> str:
    """The standard deviation over seeds of the mean over cases; nothing for one seed."""
    means = np.mean([[r["iou"] for r in records] for records in by_case], axis=0)
    return f" ± {means.std(ddof=1):.3f}" if len(means) > 1 else ""


def table(found: dict, failed: dict, options) -> str:
    """Markdown: a table of means, then IoU per case."""
    seeds = ", ".join(map(str, options.seeds))
    spread = " ± standard deviation over seeds" if len(options.seeds) > 1 else ""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, seed {seeds}, {len(options.cases)} cases: "
        f"{', '.join(options.cases)}. Mean foreground IoU on voxels that were not annotated"
        f"{spread} (surface Dice at one voxel; 95 % "
        "Hausdorff in mm), and the mean seconds taken.",
        "",
    ]
    heads = [str(c) for c in options.counts]
    lines += ["| method | " + " | ".join(heads) + " | seconds |", "|---" * (len(heads) + 2) + "|"]
    for method, budget in _methods(options):
        if method in failed:
            continue
        cells, seconds = [], []
        for counts in options.counts:
            by_case = [found[name, counts, method, budget] for name in options.cases]
            records = [r for each in by_case for r in each]
            means = [
                metrics.mean(r[k] for r in records) for k in ("iou", "surface_dice", "hausdorff95")
            ]
            cells.append(
                "{:.3f}{} ({:.2f}; {:.1f})".format(
                    means[0], _deviation(by_case), *(m or 0.0 for m in means[1:])
                )
            )
            seconds += [r["seconds"] for r in records]
        lines.append(
            f"| {_title(method, budget)} | " + " | ".join(cells) + f" | {np.mean(seconds):.0f} |"
        )
    for counts in options.counts:
        lines += [
            "",
            f"IoU with {counts} slices:",
            "",
            "| method | " + " | ".join(options.cases) + " |",
            "|---" * (len(options.cases) + 1) + "|",
        ]
        for method, budget in _methods(options):
            if method not in failed:
                lines.append(
                    f"| {_title(method, budget)} | "
                    + " | ".join(
                        f"{_iou(found[name, counts, method, budget]):.3f}"
                        f"{_deviation([found[name, counts, method, budget]])}"
                        for name in options.cases
                    )
                    + " |"
                )
    reasons = {**{_title(m, 0): why for m, why in failed.items()}, **NOT_RUN}
    lines += ["", "Not run: " + "; ".join(f"{m}: {why}" for m, why in reasons.items()) + "."]
    return "\n".join(lines) + "\n"


def draw(found: dict, options, path: Path) -> None:
    """IoU against seconds and IoU against the annotated share, means over the cases."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    counts = options.counts[-1]
    colours = plt.get_cmap("tab10")
    methods = [m for m in [*peers.PEERS, OURS] if any(key[2] == m for key in found)]
    for n, method in enumerate(methods):
        style = {
            "color": "black" if method == OURS else colours(n % 10),
            "linewidth": 2.5 if method == OURS else 1.2,
            "marker": "o",
            "markersize": 5,
        }
        budgets = sorted({key[3] for key in found if key[2] == method})
        points = []
        for budget in budgets:
            records = [r for name in options.cases for r in found[name, counts, method, budget]]
            points.append(
                (np.mean([r["seconds"] for r in records]), np.mean([r["iou"] for r in records]))
            )
        left.plot(*zip(*sorted(points), strict=True), label=_title(method, 0), **style)
        line = []
        for c in options.counts:
            records = [r for name in options.cases for r in found[name, c, method, budgets[-1]]]
            line.append(
                (
                    100 * np.mean([r["annotated_share"] for r in records]),
                    np.mean([r["iou"] for r in records]),
                )
            )
        right.plot(*zip(*line, strict=True), label=_title(method, budgets[-1]), **style)
    left.set(
        xscale="log",
        xlabel="seconds",
        ylabel="mean IoU, voxels not annotated",
        title=f"Against time, {counts} slices",
    )
    left.xaxis.set_major_formatter("{x:g}")
    right.set(xlabel="annotated voxels (%)", title="Against what was annotated")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    with atomic_path(path, ".png") as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--counts", nargs="+", type=slice_counts, metavar="YZ,XZ,XY")
    parser.add_argument("--budgets", nargs="+", type=float, default=[30.0, 120.0])
    parser.add_argument(
        "--methods", nargs="+", default=[*peers.PEERS, OURS], choices=[*peers.PEERS, OURS]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], choices=range(len(SHIFTS)))
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    options.cases = options.cases or list(QUICK if options.quick else CASES)
    options.counts = options.counts or list(QUICK_COUNTS if options.quick else COUNTS)
    return options


if __name__ == "__main__":
    sys.exit(main())

"""`make benchmark-live`: how soon corrections show, and what living beside a training costs.

A volume of 128^3 voxels is trained on while slices are added to its labels one after another, as a
user would. Measured: time until the new labels are in use and until the first preview shows them,
the longest `poll()`, the share of the training that previews and checkpoints take, and the bytes
on disk. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

TICK = 0.02  # seconds between polls, as a timer in Slicer makes them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--corrections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, truth = prepared(Path(name) / "run", options.edge, options.seconds)
        measure(EngineRun(folder), folder, truth, options)
    return 0


def prepared(
    path: Path, edge: int, seconds: float, device: str = "auto"
) -> tuple[RunFolder, np.ndarray]:
    """A noisy shell around a core, annotated in (2, 2, 1) slices."""
    shape = (edge,) * 3
    radius = np.sqrt(sum(((x - (edge - 1) / 2) / (0.4 * edge)) ** 2 for x in np.indices(shape)))
    truth = np.where(radius < 0.5, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    image = np.array([60.0, 160.0, 100.0])[truth] + np.random.default_rng(0).normal(0, 25, shape)
    slices = spread_slices((2, 2, 1), shape, truth > 0)
    grid = Geometry(shape, (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    item = RunInput(image.astype(np.int16)[None], restrict_to_slices(truth, slices), grid, slices)
    segments = [Segment.numbered(1, 0), Segment.numbered(2, 1)]
    options = Options(time_budget=seconds, device=device)
    return RunFolder.create(path, [item], segments, options), truth


def measure(run: EngineRun, folder: RunFolder, truth: np.ndarray, options) -> None:
    polls: list[tuple[float, float]] = []
    heard: list[tuple[float, dict]] = []
    run.observe(lambda event: heard.append((time.monotonic(), event)))

    def follow(arrived) -> float | None:
        """Poll as Slicer would until `arrived(event)`; when it came."""
        seen = len(heard)
        while not run.ended:
            begun, work = time.perf_counter(), time.thread_time()
            run.poll()
            polls.append((time.perf_counter() - begun, time.thread_time() - work))
            for when, event in heard[seen:]:
                seen += 1
                if arrived(event):
                    return when
            time.sleep(TICK)
        return None

    follow(lambda e: e["event"] == "progress" and e["step"] > 0)
    rows = []
    labels, slices = folder.read_labels(), folder.read_slices()
    for number in range(options.corrections):
        item = AnnotatedSlice("kji"[number % 3], (17 + 23 * number) % options.edge)
        labels[item.selector()] = truth[item.selector()]
        slices.append(item)
        begun = time.monotonic()
        run.change_labels(labels, slices)
        run.preview([f"k:{options.edge // 2}", f"j:{options.edge // 2}", f"i:{options.edge // 2}"])
        used = follow(lambda e: e["event"] == "labels")
        shown = follow(lambda e: e["event"] == "preview" and e.get("planes"))
        if shown is None:
            break
        rows.append((used - begun, shown - begun))
        pause = time.monotonic() + options.seconds / (options.corrections + 6)
        follow(lambda e, pause=pause: time.monotonic() > pause)
    follow(lambda e: False)
    if run.state != "done":
        print(run.error, file=sys.stderr)
        return
    report(run, rows, polls, options)


def report(run: EngineRun, rows: list, polls: list, options) -> None:
    used, shown = zip(*rows, strict=True)
    aside = run.summary["seconds_aside"]
    training = aside["training"]
    print(
        f"{options.edge}^3 voxels, {options.seconds:g} s, {run.plan['device']}, "
        f"{run.summary['step']} steps\n"
    )
    print("| measured | median | most |\n|---|---|---|")
    for name, values in (
        ("new labels in use, s", used),
        ("three slices shown with them, s", shown),
        ("poll(), ms", [1000 * wall for wall, _ in polls]),
        ("poll(), ms of processor time", [1000 * work for _, work in polls]),
    ):
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")
    print(
        f"\n{len(polls)} polls. Of {training:.0f} s of training: "
        + ", ".join(
            f"{name} {100 * aside[name] / training:.1f} %"
            for name in ("checkpoints", "previews", "priors")
        )
        + "."
    )
    print(
        "On disk: "
        + ", ".join(
            f"{part} {_bytes(run.folder.path / part) / 1e6:.1f} MB"
            for part in ("inputs", "checkpoint", "preview", "result", "metrics.jsonl", "log.txt")
        )
        + "."
    )


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


if __name__ == "__main__":
    sys.exit(main())

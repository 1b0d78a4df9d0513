"""`make benchmark-limits`: how soon the first usable preview comes, and how near a few slices come
to labels everywhere.

For each case, in one run of ours through the client: when each dense preview came and its share of
the final IoU. Then the network alone, trained on *all* voxels of the same volume for three times
the seconds: what it fits of labels that it has seen is the most that it could reach. IoU on the
voxels that were not annotated, here and there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ablation import iou_of, volume_of
from cases import SHARED, Case, data_is_there, load_case, slice_counts
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.training.report import by_time
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

USABLE = 0.8  # of the final IoU


def followed(case: Case, seconds: float, seed: int) -> tuple[list[tuple[float, float]], float]:
    """(seconds since the start, IoU) of each dense preview, and the IoU of the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(
            Path(name) / "run",
            [RunInput(case.image[None], case.sparse, case.geometry, case.slices)],
            case.segments,
            Options(time_budget=seconds, seed=seed, device="cpu"),
        )
        begun, previews = time.monotonic(), []

        def came(event: dict) -> None:
            if event["event"] == "preview" and "planes" not in event:
                previews.append((time.monotonic() - begun, folder.read_preview()))

        run = EngineRun(folder)
        run.observe(came)
        if run.wait() != "done":
            raise RuntimeError(str(run.error))
        return ([(at, _iou(case, labels)) for at, labels in previews], _iou(case, run.result()))


def densely_taught(case: Case, seconds: float, seed: int) -> tuple[float, int]:
    """IoU that the network alone reaches when all voxels are labelled, and its steps."""
    classes = len(case.segments) + 1
    fingerprint = Fingerprint.of(
        case.truth, case.geometry.spacing_kji, 1, classes, len(case.slices)
    )
    plan = replace(make_plan(fingerprint), dtype="bfloat16", held_out_share=0.0, priors=False)
    learner = Trainer(
        plan, [volume_of(replace(case, sparse=case.truth))], classes, None, seed, None
    )
    learner.train(by_time(seconds))
    return iou_of(case, learner.probabilities()), learner.steps


def _iou(case: Case, labels) -> float:
    return metrics.mean(row["iou"] for row in case.scores(labels))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["hippocampus-007", "spleen-ct", "brain-mricrop", "nuclei-1135"],
    )
    parser.add_argument("--spread", default="5,5,3", type=slice_counts)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["previews"])
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not data_is_there(options.data):
        return 2
    counts = options.spread
    threads = prepare_threads()
    print(
        f"{counts} slices, {options.seconds:g} s, dense {3 * options.seconds:g} s, seed "
        f"{options.seed}, {threads} threads\n"
    )
    print(
        "| case | voxels | first preview, s | its IoU | result | share | labels everywhere "
        "| steps | reached |\n" + "|---" * 9 + "|"
    )
    for name in options.cases:
        case = load_case(options.data / name, counts)
        previews, final = followed(case, options.seconds, options.seed)
        at, first = next(((t, v) for t, v in previews if v >= USABLE * final), (float("nan"),) * 2)
        dense, steps = (
            (float("nan"), 0)
            if options.only
            else densely_taught(case, 3 * options.seconds, options.seed)
        )
        print(
            f"| {name} | {case.truth.size / 1e6:.2f} M | {at:.1f} | {first:.3f} | {final:.3f} "
            f"| {first / final:.2f} | {dense:.3f} | {steps} | {final / dense:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

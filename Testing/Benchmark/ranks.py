"""`make benchmark-ranks`: training by two ranks against training alone, as ratios.

Weak scaling: each rank draws as many patches as one process alone. Strong scaling: the ranks draw
as many together. Where other programs compute on the same cores, two processes that train side by
side without knowing of each other say what could be reached at all; all rows are measured in turns.
On graphics cards: --device cuda --count N, one card per rank.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from cases import load_case
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.engine.compute.ranks import Ranks
from SparseSegNetLib.engine.compute.timing import synchronize
from SparseSegNetLib.engine.training.together import Follower, Leader
from SparseSegNetLib.engine.training.trainer import Trainer
from speed import prepared

SAMPLE = Path(__file__).parents[2] / "SparseSegNet/Resources/Sample/kidney"
SLICES = (3, 3, 2)
WARM_UP = 3  # steps


def trainer_on(device: torch.device, patches: int | None, dtype: str | None) -> Trainer:
    """A training on the shipped sample."""
    case = load_case(SAMPLE, SLICES)
    plan, volume = prepared(case, device)
    plan = replace(plan, batch=patches or plan.batch, dtype=dtype or plan.dtype)
    return Trainer(plan, [volume], len(case.segments) + 1, None, 0)


def timed(trainer: Trainer, seconds: float) -> dict:
    """Steps per second, and seconds of the processor per step, of this process."""
    for _ in range(WARM_UP):
        trainer.step(0.3)
    synchronize(trainer.device)
    begun, used, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        trainer.step(0.3)
        steps += 1
    synchronize(trainer.device)
    return {
        "steps": steps / (time.perf_counter() - begun),
        "processor": (time.process_time() - used) / steps,
        "loss": sum(trainer.losses) / max(1, len(trainer.losses)),
    }


def as_rank(options: argparse.Namespace) -> None:
    """What one process of a row does; rank 0, or one alone, prints what it measured."""
    if options.threads:
        torch.set_num_threads(options.threads)
    ranks = None
    if "RANK" in os.environ:
        ranks = Ranks(*(int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        ranks.join()
        if ranks.rank:
            Follower(ranks).follow()
            return
    device = torch.device(options.device)
    trainer = trainer_on(device, options.patches, options.dtype)
    if ranks is not None:
        trainer.partners = Leader(ranks)
    print(json.dumps(timed(trainer, options.seconds)), flush=True)
    trainer.partners.end(0)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def measured(
    options: argparse.Namespace, count: int, together: bool, patches: int | None
) -> list[dict]:
    """What the processes of a row measure.

    Args:
        options: Of the command.
        count: Processes.
        together: Whether they are ranks of one training.
        patches: Per step of each.
    """
    port, children = free_port(), []
    arguments = [sys.executable, __file__, "--as-rank", "--device", options.device]
    arguments += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    arguments += ["--patches", str(patches)] if patches else []
    arguments += ["--dtype", options.dtype] if options.dtype else []
    for rank in range(count):
        environment = engine_environment()
        environment.pop("PYTHONSAFEPATH")  # benchmarks import those beside them
        if options.threads:
            environment["OMP_NUM_THREADS"] = str(options.threads)
        if together:
            environment |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        elif count > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(rank)
        children.append(
            subprocess.Popen(arguments, env=environment, encoding="utf-8", stdout=subprocess.PIPE)
        )
    said = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError(f"exit codes {[child.returncode for child in children]}")
    return [json.loads(text) for text in said if text]


def table(options: argparse.Namespace) -> None:
    """Measures all rows in turns, and prints their medians."""
    count, whole = options.count, options.patches
    part = max(1, whole // count)
    rows = {
        f"1 process, {whole} patches": (1, False, whole),
        f"1 rank in a group, {whole} patches": (1, True, whole),
        f"{count} processes at once, each alone, {whole} patches": (count, False, whole),
        f"weak: {count} ranks, {whole} patches each": (count, True, whole),
        f"1 process, {part} patches": (1, False, part),
        f"strong: {count} ranks, {part} patches each": (count, True, part),
    }
    found: dict[str, list[dict]] = {name: [] for name in rows}
    for turn in range(options.turns):
        for name, row in rows.items():
            each = measured(options, *row)
            keys = ("steps", "processor")
            found[name].append({k: statistics.mean(one[k] for one in each) for k in keys})
            print(f"turn {turn + 1}: {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    first = next(iter(rows))
    print("| | steps per second | patches per second | as many as alone | processor, s per patch |")
    print("|---|---|---|---|---|")
    for name, (processes, _, patches) in rows.items():
        # Turns are compared with themselves: what else the machine does changes meanwhile.
        ratio = statistics.median(
            one["steps"] * processes * patches / (alone["steps"] * whole)
            for one, alone in zip(found[name], found[first], strict=True)
        )
        steps = statistics.median(one["steps"] for one in found[name])
        used = statistics.median(one["processor"] for one in found[name]) / patches
        print(
            f"| {name} | {steps:.2f} | {steps * processes * patches:.1f} | {ratio:.2f} | "
            f"{used:.4f} |"
        )


def main() -> None:
    """Measures; or is one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="of the convolutions; the plan's by default")
    parser.add_argument("--count", type=int, default=2, help="ranks")
    parser.add_argument("--patches", type=int, default=32, help="per step of one process")
    parser.add_argument("--seconds", type=float, default=8.0, help="per row and turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process; 0: torch's choice")
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    as_rank(options) if options.as_rank else table(options)


if __name__ == "__main__":
    main()

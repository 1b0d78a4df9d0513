"""`make benchmark-memory`: estimates of memory against what was used, per network.

Each measurement runs in a child process: the peak of its resident memory less what it held once
everything was loaded and the volume made (on a GPU: what torch's allocator held at most). Estimates
are those by which runs are planned: of training by `engine.describe.training_memory`, of tiles by
`engine.describe.tile_memory`, of stacking and of applying a model by bytes per voxel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.compute.allocation import keep_freed_memory
from SparseSegNetLib.engine.compute.device import choose_device
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.describe import tile_memory, training_memory
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.recipes import published_plan
from SparseSegNetLib.engine.prediction.inference import Predictor
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.options import Options

CLASSES = 3
LEAST = 48  # voxels of the volume's edge
# What is measured, of which network, at which size: voxels of a patch or a tile (k, j, i), or of
# the volume.
TASKS = [
    ("training", "auto", (16, 16, 16)),
    ("training", "auto", (32, 32, 32)),
    ("prediction", "auto", (64, 64, 64)),
    ("prediction", "auto", (128, 128, 128)),
    *(
        (task, network, size)
        for network, sizes in (
            ("unet3d", [(100, 100, 100), (116, 132, 132)]),
            ("fcn3d", [(32, 64, 64), (64, 64, 64)]),
            ("vnet", [(32, 64, 64), (64, 128, 128)]),
            ("unet2d", [(1, 188, 188), (1, 508, 508)]),
        )
        for size in sizes
        for task in ("training", "prediction")
    ),
    ("stacking", "auto", (64, 64, 64)),
    ("stacking", "auto", (96, 96, 96)),
    ("stacking", "auto", (128, 128, 128)),
]


def volume_of(edge: tuple[int, ...], device: torch.device) -> WorkingVolume:
    """Two balls in noise, with five annotated slices."""
    at = np.indices(edge).astype(np.float32)
    place = [2 * (x + 0.5) / n - 1 for x, n in zip(at, edge, strict=True)]
    truth = np.zeros(edge, np.uint8)
    for value, (middle, radius) in enumerate([(-0.4, 0.4), (0.4, 0.3)], start=1):
        truth[sum((x - middle) ** 2 for x in place) < radius**2] = value
    slices = spread_slices((2, 2, 1), edge, truth > 0)
    labels = np.full(edge, UNLABELLED, np.uint8)
    for item in slices:
        labels[item.selector()] = truth[item.selector()]
    noise = np.random.default_rng(0).normal(0, 0.3, edge)
    image = torch.from_numpy((truth + noise).astype(np.float32))[None].to(device)
    return WorkingVolume(
        image, torch.from_numpy(labels).to(device), torch.ones(3), edge, list(slices)
    )


def plan_of(network: str, size: tuple[int, ...], volume: WorkingVolume) -> Plan:
    """The network's plan with patches and tiles of this size."""
    fingerprint = Fingerprint(volume.shape, (1.0, 1.0, 1.0), 1, CLASSES, 1000, 5)
    if network == "auto":
        plan = make_plan(fingerprint, volume.image.device.type)
        return replace(plan, patch=size, tile=size)
    return published_plan(fingerprint, Options(network=network, tile=tuple(reversed(size))))


def measured(task: str, network: str, size: tuple[int, ...], device: torch.device) -> dict:
    """Estimated and used bytes of one task, in this process."""
    keep_freed_memory()  # as the engine does
    torch.set_num_threads(1)
    edge = size if task == "stacking" else tuple(max(n, LEAST) for n in size)
    volume = volume_of(edge, device)
    if task == "stacking":
        estimated = Stacker.bytes_per_voxel(1, CLASSES) * float(np.prod(edge))

        def work() -> None:
            maker = PriorMaker(volume, CLASSES)
            Stacker(maker).stack(volume.labels, volume.slices)
    else:
        plan = plan_of(network, size, volume)
        inputs = 1 + (CLASSES - 1 if plan.priors and network == "auto" else 0)
        inputs += 3 if plan.position else 0
        with torch.device("meta"):
            empty = build(plan, inputs, CLASSES)
        if task == "training":
            estimated = training_memory(empty, plan, inputs)

            def work() -> None:
                trainer = Trainer(plan, [volume], CLASSES, None, 0)
                for _ in range(2):
                    trainer.step(0.1)
        else:
            estimated = tile_memory(empty, plan, inputs)
            trainer = Trainer(plan, [volume], CLASSES, None, 0)
            predictor: Predictor = trainer.predictor()
            sides = zip(plan.tile, plan.margin, volume.shape, strict=True)
            high = [min(tile - 2 * margin, n) for tile, margin, n in sides]

            def work() -> None:
                predictor.probabilities(trainer.target, high=high)

    return {"estimated": estimated, "used": peak(work, device)}


def peak(work: Callable[[], None], device: torch.device) -> int:
    """Bytes that a function takes at most, beside what is held before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    unit = 1 if sys.platform == "darwin" else 1024
    torch.nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 8, 8, 8)).sum().backward()  # loads kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", default=sorted({name for _, name, _ in TASKS}))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measured(*TASKS[options.child], choose_device(options.device))))
        return 0
    print("| | network | voxels | estimated, MB | used, MB | used / estimated |")
    print("|---" * 6 + "|")
    for number, (task, network, size) in enumerate(TASKS):
        if network not in options.networks:
            continue
        done = subprocess.run(
            [sys.executable, __file__, "--child", str(number), "--device", options.device],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        name = "x".join(map(str, reversed(size)))
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            print(f"| {task} | {network} | {name} | | | {why} |", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        estimated, used = found["estimated"], found["used"]
        print(
            f"| {task} | {network} | {name} | {estimated / 1e6:.0f} | {used / 1e6:.0f} | "
            f"{used / estimated:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

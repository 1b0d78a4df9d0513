"""`make benchmark-profile`: where the time goes, in a training step and in what comes before it.

Each part is timed without the parts inside it, and waits for the device before and after, so that
what runs side by side on a GPU is counted one after the other. A step's arithmetic is counted by
torch and set against a large matrix product in the same run and number format.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from ablation import STACKS, stacked
from cases import SHARED, Case, data_is_there, load_case, slice_counts
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.compute.number_formats import number_formats
from SparseSegNetLib.engine.compute.timing import seconds_taken, synchronize
from SparseSegNetLib.engine.data import sampling
from SparseSegNetLib.engine.priors import geodesic
from SparseSegNetLib.engine.priors import maker as priors
from SparseSegNetLib.engine.priors.propagation import Propagation
from SparseSegNetLib.engine.priors.random_walk import RandomWalk
from SparseSegNetLib.engine.stacking import fold_weights
from SparseSegNetLib.engine.stacking import stacker as stacking
from SparseSegNetLib.engine.stacking.voxel_classifier import ClassifierFitter, VoxelClassifier
from SparseSegNetLib.engine.training import trainer as training
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.trial.choice import choose_devices
from speed import WARM_UP, prepared, rate

SECONDS = 6.0  # of steps that are not divided into parts
WARMING = "hippocampus-007"  # the smallest case: its stack takes seconds

STACK = (
    (Propagation, "__init__", "registering slices"),
    (Propagation, "propagate", "propagating labels"),
    (priors, "interpolate", "interpolating shapes"),
    (RandomWalk, "probabilities", "random walks"),
    (geodesic, "probabilities", "geodesic distances"),
    (stacking, "voxel_features", "filters and position"),
    (stacking, "log_distance_to_annotation", "distance to the slices"),
    (ClassifierFitter, "fit", "fitting shallow models"),
    (VoxelClassifier, "probabilities", "shallow models predict"),
    (fold_weights, "fit_ensemble_weights", "ensemble weights"),
    (stacking, "weighted_mean", "ensemble"),
    (stacking, "smooth_probabilities", "smoothing"),
)


class Clock:
    """Seconds per part, each without the parts inside it."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, defaultdict(float)
        self._inside: list[float] = []

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        synchronize(self.device)
        begun = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            synchronize(self.device)
            taken = time.perf_counter() - begun
            self.seconds[title] += taken - self._inside.pop()
            if self._inside:
                self._inside[-1] += taken

    def watching(self, holder: object, name: str, title: str):
        """A patch: calls of this function count as a part."""
        function = getattr(holder, name)

        def watched(*arguments, **options):
            with self.part(title):
                return function(*arguments, **options)

        return patch.object(holder, name, watched)

    def table(self, head: str, times: int = 1) -> None:
        whole = sum(self.seconds.values())
        print(f"| {head} | ms | share |\n|---|---|---|")
        for title, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            print(f"| {title} | {1000 * seconds / times:.1f} | {100 * seconds / whole:.0f} % |")
        print(f"| all | {1000 * whole / times:.1f} | |\n", flush=True)


def stack_of(case: Case, device: torch.device, dtype: str) -> stacking.Stack:
    """Priors and shallow models, without a time limit, and where their time goes."""
    clock = Clock(device)
    with ExitStack() as watched:
        for part in STACK:
            watched.enter_context(clock.watching(*part))
        with clock.part("the rest"):
            stack = stacked(case, STACKS[0], 0, device, dtype)
    clock.table(f"priors and shallow models, {len(stack.folds)} folds, {dtype}")
    return stack


def steps_of(trainer: Trainer, count: int) -> None:
    """Where a training step's time goes, and what share of the device's arithmetic it uses."""
    device = trainer.device
    for _ in range(WARM_UP):
        trainer.step(0.3)
    clock = Clock(device)
    with ExitStack() as watched:
        for part in (
            (trainer.sampler, "batch", "choosing patches, coordinates"),
            (sampling.aug, "resample_image", "sampling the image"),
            (sampling.aug, "resample_labels", "sampling the labels"),
            (sampling.aug, "vary_intensity", "varying intensities"),
            (trainer.network, "forward", "forward"),
            (trainer, "loss", "loss"),
            (torch.Tensor, "backward", "backward"),
            (torch.nn.utils, "clip_grad_norm_", "norm of the gradients"),
            (trainer.optimiser, "step", "optimiser"),
            (training, "update_average", "averaged weights"),
        ):
            watched.enter_context(clock.watching(*part))
        for _ in range(count):
            with clock.part("the rest"):
                trainer.step(0.3)
    plan = trainer.plan
    clock.table(
        f"a training step, {plan.batch} patches of {plan.patch}, width {plan.width}, {plan.dtype}",
        count,
    )
    with FlopCounterMode(display=False) as counted:
        trainer.step(0.3)
    steps = rate(lambda: trainer.step(0.3), SECONDS, device)
    reached = counted.get_total_flops() * steps
    most = product_rate(device, getattr(torch, trainer.plan.dtype))
    print(
        f"A step takes {1000 / steps:.0f} ms and {counted.get_total_flops() / 1e9:.1f} GFLOP: "
        f"{reached / 1e12:.3f} TFLOP/s, {100 * reached / most:.0f} % of the "
        f"{most / 1e12:.3f} TFLOP/s of a large matrix product.\n",
        flush=True,
    )


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a product of large matrices, the best of ten."""
    edge = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    return 2 * edge**3 / min(seconds_taken(lambda: a @ b, device) for _ in range(10))


def profile(case: Case, device: torch.device, count: int) -> None:
    plan, volume = prepared(case, device)
    classes = len(case.segments) + 1
    print(f"## {case.name}, {'x'.join(map(str, volume.shape))} voxels, {classes} classes\n")
    stack = stack_of(case, device, number_formats(device)[0])
    for dtype in number_formats(device):
        steps_of(
            Trainer(replace(plan, dtype=dtype, priors=True), [volume], classes, None, 0, stack),
            count,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["nuclei-1135", "ct-multiorgan"])
    parser.add_argument("--spread", default="5,5,3", type=slice_counts)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not data_is_there(options.data):
        return 2
    threads, device = prepare_threads(), choose_devices(options.device).network
    print(f"{device}, {threads} threads, torch {torch.__version__}\n")
    # What happens only once is not counted.
    stacked(load_case(options.data / WARMING, options.spread), STACKS[0], 0, device)
    for name in options.cases:
        profile(load_case(options.data / name, options.spread), device, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())

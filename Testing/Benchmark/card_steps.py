"""Training steps on a card: what sizes and number formats cost, and whether compiling pays.

Parts of `make benchmark-gpu` (see gpu.py), each printed as a table.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from cases import Case
from SparseSegNetLib.engine.compute.allocation import most_allocated
from SparseSegNetLib.engine.compute.losses import merge_unknown
from SparseSegNetLib.engine.compute.number_formats import (
    candidate_formats,
    computing_in,
    number_formats,
)
from SparseSegNetLib.engine.compute.timing import seconds_taken, synchronize
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import BATCHES, make_plan
from SparseSegNetLib.engine.planning.probe import MIDDLE, WIDTHS
from SparseSegNetLib.engine.planning.sizes import Size, sizes_on
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.errors import EngineError
from speed import rate, volume_of

REPEATS = 5
COMPILED_WIDTHS = (MIDDLE, 32)  # a short and a long training


def plan_of(case: Case, device: torch.device, size: Size, dtype: str) -> Plan:
    """The plan of the auto network, as the probe measures it."""
    fingerprint = Fingerprint.of(
        case.sparse, case.geometry.spacing_kji, 1, len(case.segments) + 1, len(case.slices)
    )
    patches = size.voxels, size.batch
    return replace(make_plan(fingerprint, device.type, size.width, None, patches), dtype=dtype)


def trainer_of(case: Case, volume: WorkingVolume, plan: Plan) -> Trainer:
    """A trainer with empty priors: the time is the same."""
    return Trainer(plan, [volume], len(case.segments) + 1, None, 0)


def tabulate_sizes(case: Case, device: torch.device, seconds: float) -> None:
    """Steps per second and memory of each size of a training, the smallest first."""
    volume, dtype = volume_of(case, device), candidate_formats(device)[0]
    print(f"{case.name}, {dtype}; the guess of memory is from the size before.\n")
    print(
        "| width | patch | per step | steps per minute | choosing and augmenting patches "
        "| memory, GiB | guessed |\n|---|---|---|---|---|---|---|"
    )
    before: tuple[float, float] | None = None
    sizes = sizes_on(device.type, BATCHES[device.type], WIDTHS)
    for size in reversed(sizes if device.type == "cuda" else sizes[-2:]):
        plan = plan_of(case, device, size, dtype)
        trainer = trainer_of(case, volume, plan)
        memory = most_allocated(device)
        try:
            message = trainer.step_or_shrink(0.3)
            per_second = rate(lambda t=trainer: t.step_or_shrink(0.3), seconds, device)
        except EngineError as error:  # not even the smallest part of it fits
            print(f"| {plan.width} | {error.cause} | | | | | |", flush=True)
            continue
        taken, plan = memory() / 2**30, trainer.plan
        drawing = statistics.median(
            seconds_taken(lambda t=trainer, n=plan.batch: t.sampler.batch(n), device)
            for _ in range(REPEATS)
        )
        extent = plan.width * plan.batch * math.prod(plan.patch)
        guess = "" if before is None else f"{before[0] * extent / before[1]:.2f}"
        before = taken, extent
        patch, share = "x".join(map(str, plan.patch)), 100 * drawing * per_second
        print(
            f"| {plan.width} | {patch} | {plan.batch} | {60 * per_second:.0f} | {share:.0f} % "
            f"| {taken:.2f} | {guess} |" + (f" {message}" if message else ""),
            flush=True,
        )
        del trainer


def tabulate_formats(case: Case, device: torch.device, seconds: float) -> None:
    """Steps per second in each number format, and how many steps a scaled loss has skipped."""
    volume = volume_of(case, device)
    size = next(s for s in sizes_on(device.type, BATCHES[device.type], WIDTHS) if s.width == MIDDLE)
    print(f"\nFormats worth a trial: {', '.join(candidate_formats(device))}.\n")
    print("| number format | steps per second | skipped | loss at the end |\n|---|---|---|---|")
    for dtype in number_formats(device):
        trainer = trainer_of(case, volume, plan_of(case, device, size, dtype))
        losses = []
        per_second = rate(lambda t=trainer, o=losses: o.append(t.step(0.3)), seconds, device)
        last = next((loss for loss in reversed(losses) if loss is not None), math.nan)
        skipped = f"{trainer.scale.skipped} of {len(losses)}"
        print(f"| {dtype} | {per_second:.2f} | {skipped} | {last:.3f} |", flush=True)


class FixedBatch:
    """Loss and gradient of one batch, over and over: what may be captured or compiled.

    Args:
        trainer: Gives network, loss and batch.
    """

    def __init__(self, trainer: Trainer):
        self.trainer, self.network = trainer, trainer.network.train()
        pixels, self.labels, self.unknown = trainer.sampler.batch(trainer.plan.batch)
        self.pixels = pixels.contiguous(memory_format=torch.channels_last_3d)

    def forget(self) -> None:
        """Leaves no gradient, so that the next one is not added to it."""
        self.trainer.optimiser.zero_grad()

    def gradient(self, network: torch.nn.Module | None = None) -> torch.Tensor:
        """Computes the gradient; returns the loss."""
        with computing_in(self.trainer.device, self.trainer.plan.dtype):
            logits = (self.network if network is None else network)(self.pixels)
        loss = self.trainer.loss(merge_unknown(logits, self.unknown), self.labels)
        loss.backward()
        return loss.detach()

    def eager(self) -> Callable[[], torch.Tensor]:
        """As the engine does it."""

        def step() -> torch.Tensor:
            self.forget()
            return self.gradient()

        return step

    def compiled(self) -> Callable[[], torch.Tensor]:
        """With torch.compile; without a card by its front end alone: does it take the network?"""
        backend = "inductor" if self.trainer.device.type == "cuda" else "eager"
        network = torch.compile(self.network, dynamic=False, backend=backend)

        def step() -> torch.Tensor:
            self.forget()
            return self.gradient(network)

        step()
        return step

    def captured(self) -> Callable[[], torch.Tensor]:
        """As a CUDA graph, after a few steps beside the current stream, as torch asks for."""
        if self.trainer.device.type != "cuda":
            raise RuntimeError("there are CUDA graphs on NVIDIA's cards alone")
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self.forget()
                self.gradient()
        torch.cuda.current_stream().wait_stream(aside)
        self.forget()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.gradient()

        def step() -> torch.Tensor:
            graph.replay()
            return loss

        step()
        return step


def tabulate_compiled(case: Case, device: torch.device, seconds: float) -> None:
    """Eager steps against CUDA graphs and torch.compile: when do they pay for their start?"""
    volume, dtype = volume_of(case, device), candidate_formats(device)[0]
    print(
        "Forward and backward pass of one batch. Break-even: seconds of training after which the "
        "start is paid for.\n\n| width | how | seconds to start | ms per pass | break-even | loss |"
        "\n|---|---|---|---|---|---|"
    )
    sizes = {s.width: s for s in reversed(sizes_on(device.type, BATCHES[device.type], WIDTHS))}
    for width in COMPILED_WIDTHS if device.type == "cuda" else COMPILED_WIDTHS[:1]:
        trainer = trainer_of(case, volume, plan_of(case, device, sizes[width], dtype))
        fixed, eager = FixedBatch(trainer), None
        for name in ("eager", "captured", "compiled"):
            begun = time.perf_counter()
            try:
                step = getattr(fixed, name)()
                synchronize(device)
                start = time.perf_counter() - begun
                each = 1 / rate(step, seconds, device)
            except Exception as error:  # the others are worth knowing
                print(f"| {width} | {name} | {_first_line(error)} | | | |", flush=True)
                continue
            eager = each if eager is None else eager
            gain = eager - each
            even = (
                "" if name == "eager" else f"{start * eager / gain:.0f} s" if gain > 0 else "never"
            )
            print(
                f"| {width} | {name} | {start:.1f} | {1000 * each:.2f} | {even} "
                f"| {float(step()):.4f} |",
                flush=True,
            )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]

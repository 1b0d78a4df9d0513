"""`make benchmark-speed`: training and prediction against MONAI's standard pipeline, as ratios.

Same network, patches, batch, loss and optimiser, same data, in the same run, taking turns (machines
are shared and noisy). MONAI's side is what its tutorials do: cached data, crops around labelled
classes, random affine and intensity transforms, a data loader with workers; and
`sliding_window_inference` with Gaussian blending. Prints where a step of ours spends its time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ablation import volume_of
from cases import SHARED, Case, data_is_there, load_case
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.engine.compute.boxes import round_up
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.compute.losses import auto_loss
from SparseSegNetLib.engine.compute.number_formats import channels_last, number_formats
from SparseSegNetLib.engine.compute.optimisers import make_optimiser
from SparseSegNetLib.engine.compute.timing import seconds_taken, synchronize
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume, grid_positions
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint, Plan
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.prediction.inference import Predictor
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.trial.choice import choose_devices

WARM_UP = 3  # steps that are not counted
TURNS = 3
REPEATS = 10


def prepared(case: Case, device: torch.device) -> tuple[Plan, WorkingVolume]:
    """The network alone: priors are none of MONAI's business."""
    classes = len(case.segments) + 1
    fingerprint = Fingerprint.of(
        case.sparse, case.geometry.spacing_kji, 1, classes, len(case.slices)
    )
    plan = replace(make_plan(fingerprint, device.type), priors=False, held_out_share=0.0)
    return plan, volume_of(case, device)


def with_position(volume: WorkingVolume) -> torch.Tensor:
    """float32 (4, k, j, i) on the CPU: what our network sees of a whole volume."""
    return torch.cat(
        (volume.image.cpu(), grid_positions([torch.arange(n) for n in volume.shape], volume.shape))
    )


def monai_steps(
    plan: Plan, volume: WorkingVolume, classes: int, workers: int
) -> Callable[[], None]:
    """A function that does one training step as MONAI's tutorials do."""
    from monai.data import CacheDataset, DataLoader, list_data_collate
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        RandAffined,
        RandCropByLabelClassesd,
        RandGaussianNoised,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    device = volume.image.device
    labels = volume.labels.cpu()
    # Crops are drawn around labelled voxels: the class is 1 + label, 0 being unlabelled.
    crop = torch.where(labels == UNLABELLED, 0, labels + 1)[None].float()
    items = [{"image": with_position(volume), "label": labels[None].float(), "crop": crop}]
    keys = ("image", "label")
    transform = Compose(
        [
            EnsureChannelFirstd(("image", "label", "crop"), channel_dim=0),
            RandCropByLabelClassesd(
                keys,
                "crop",
                plan.patch,
                [0] + [1] * classes,
                classes + 1,
                num_samples=plan.batch,
                warn=False,
            ),
            RandAffined(
                keys,
                prob=1.0,
                rotate_range=(0.17,) * 3,
                scale_range=(0.1,) * 3,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandScaleIntensityd("image", 0.1, prob=1.0, channel_wise=True),
            RandShiftIntensityd("image", 0.1, prob=1.0),
            RandGaussianNoised("image", 0.5, std=0.05),
        ]
    )
    loader = DataLoader(
        CacheDataset(items * 64, transform, progress=False, num_workers=0),
        batch_size=1,
        num_workers=workers,
        collate_fn=list_data_collate,
        persistent_workers=workers > 0,
    )
    network = build(plan, 4, classes).to(device).train()
    optimiser = make_optimiser(plan, network)
    batches = iter(loader)

    def step() -> None:
        nonlocal batches
        if (batch := next(batches, None)) is None:
            batches = iter(loader)
            batch = next(batches)
        pixels = batch["image"].as_tensor().to(device)
        truth = batch["label"].as_tensor()[:, 0].round().to(device, torch.uint8)
        optimiser.zero_grad()
        loss = auto_loss(network(pixels), truth)
        loss.backward()
        optimiser.step()
        loss.item()

    return step


def rate(step: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Steps per second."""
    for _ in range(WARM_UP):
        step()
    synchronize(device)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        step()
        steps += 1
    synchronize(device)
    return steps / (time.perf_counter() - begun)


def training(plan: Plan, volume: WorkingVolume, classes: int, options) -> None:
    device = volume.image.device
    ours = {
        dtype: Trainer(replace(plan, dtype=dtype), [volume], classes, None, 0)
        for dtype in number_formats(device)
    }
    theirs = {f"MONAI, {n} workers": monai_steps(plan, volume, classes, n) for n in options.workers}
    methods = {**{f"SparseSegNet, {k}": lambda t=t: t.step(0.3) for k, t in ours.items()}, **theirs}
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(TURNS):
        for name, step in methods.items():
            found[name].append(rate(step, options.seconds, device))
    best = max(statistics.median(found[name]) for name in theirs)
    print(f"Training: patches {plan.patch}, {plan.batch} per step, width {plan.width}\n")
    print("| pipeline | steps per second | ratio to MONAI's best |\n|---|---|---|")
    for name, rates in found.items():
        middle = statistics.median(rates)
        print(f"| {name} | {middle:.2f} | {middle / best:.2f} |")
    trainer = ours[number_formats(device)[0]]

    def middle_of(action: Callable[[], object]) -> float:
        return statistics.median(seconds_taken(action, device) for _ in range(REPEATS))

    share = middle_of(lambda: trainer.sampler.batch(plan.batch)) / middle_of(
        lambda: trainer.step(0.3)
    )
    print(
        f"\nOf a step of ours ({trainer.plan.dtype}), sampling and augmentation take "
        f"{100 * share:.0f} %.\n"
    )


def inference(plan: Plan, volume: WorkingVolume, classes: int) -> None:
    from monai.inferers import sliding_window_inference

    device = volume.image.device
    torch.manual_seed(0)
    tile = round_up(tuple(min(64, n) for n in volume.shape), plan.divisor)
    plan = replace(plan, tile=tile)
    network = channels_last(build(plan, 4, classes).to(device))
    trainer = Trainer(plan, [volume], classes, None, 0)
    trainer.train(by_steps(30))  # a network that says something
    network.load_state_dict(trainer.average.state_dict())
    network.eval()
    pixels = with_position(volume)[None].to(device)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        # Probabilities are blended, as ours are: blended logits give other labels where tiles meet.
        return (
            sliding_window_inference(
                pixels,
                tile,
                1,
                lambda x: network(x).softmax(dim=1),
                overlap=plan.overlap,
                mode="gaussian",
            )[0]
            .argmax(dim=0)
            .cpu()
        )

    def ours(dtype: str) -> torch.Tensor:
        return (
            Predictor(network, classes, replace(plan, dtype=dtype))
            .probabilities(volume)
            .argmax(dim=0)
        )

    methods = {
        "MONAI": theirs,
        **{f"SparseSegNet, {d}": lambda d=d: ours(d) for d in number_formats(device)},
    }
    seconds, results = {name: [] for name in methods}, {}
    for _ in range(TURNS + 1):
        for name, action in methods.items():

            def kept(name: str = name, action: Callable[[], torch.Tensor] = action) -> None:
                results[name] = action()

            seconds[name].append(seconds_taken(kept, device))
    base = statistics.median(seconds["MONAI"][1:])
    print(f"Prediction: {volume.shape} voxels, tiles {tile}, overlap {plan.overlap}\n")
    print("| pipeline | seconds | times as fast as MONAI | same labels |\n|---|---|---|---|")
    for name in methods:
        middle = statistics.median(seconds[name][1:])
        same = float((results[name] == results["MONAI"]).float().mean())
        print(f"| {name} | {middle:.2f} | {base / middle:.2f} | {100 * same:.2f} % |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="nuclei-1135")
    parser.add_argument("--seconds", type=float, default=15.0, help="per pipeline and turn")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=["training", "prediction"])
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not data_is_there(options.data):
        return 2
    threads = prepare_threads()
    device = choose_devices(options.device).network
    case = load_case(options.data / options.case, (3, 3, 2))
    np.random.seed(0)
    plan, volume = prepared(case, device)
    print(f"{options.case}, {device}, {threads} threads, torch {torch.__version__}\n")
    if options.only != "prediction":
        training(plan, volume, len(case.segments) + 1, options)
    if options.only != "training":
        inference(plan, volume, len(case.segments) + 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make benchmark-ablation`: what the engine's choices are worth, one changed at a time.

Trains in this process, without probe and held-out slices, for a fixed time per variant, and
prints the mean IoU over the foreground classes on voxels that were not annotated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cases import SHARED, Case, load_case
from SparseSegNetLib.engine import losses, metrics
from SparseSegNetLib.engine.augmentation import Strength
from SparseSegNetLib.engine.device import prepare_threads
from SparseSegNetLib.engine.inference import finish
from SparseSegNetLib.engine.plan import (
    Plan,
    box_within,
    fingerprint,
    levels,
    make_plan,
    round_up,
)
from SparseSegNetLib.engine.preprocess import Normalisation, working_volume
from SparseSegNetLib.engine.trainer import Trainer
from SparseSegNetLib.run.folder import RunInput

STRONG = Strength(rotation=25, scale=0.2, elastic=5.5, contrast=0.25, brightness=0.2, noise=0.15,
                  gamma=0.3)


@dataclass
class Variant:
    """plan: changes a plan.  balance: power of the class weights in the cross-entropy."""

    name: str
    plan: Callable[[Plan], Plan] = lambda plan: plan
    balance: float = 0.5


def with_patch(edge: int, batch: int) -> Callable[[Plan], Plan]:
    """Patches of about edge^3 voxels, with the levels that fit them."""
    def change(plan: Plan) -> Plan:
        patch = box_within(plan.shape, plan.spacing, edge**3)
        strides, kernels = levels(patch, plan.spacing)
        plan = replace(plan, batch=batch, strides=strides, kernels=kernels)
        return replace(plan, patch=round_up(patch, plan.divisor),
                       tile=round_up(plan.tile, plan.divisor))
    return change


def changed(**fields) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **fields)


VARIANTS = (
    Variant("as shipped"),
    Variant("2 patches of 48^3", with_patch(48, 2)),
    Variant("12 patches of 24^3", with_patch(24, 12)),
    Variant("6 patches of 32^3", with_patch(32, 6)),
    Variant("learning rate 4e-3", changed(learning_rate=4e-3)),
    Variant("learning rate 2e-2", changed(learning_rate=2e-2)),
    Variant("strong augmentation", changed(strength=STRONG)),
    Variant("mirrored patches", changed(strength=replace(Strength(), flips=True))),
    Variant("no position channels", changed(position=False)),
    Variant("instance norm", changed(norm="instance")),
    Variant("8 channels", changed(width=8)),
    Variant("32 channels", changed(width=32)),
    Variant("classes not balanced", balance=0.0),
    Variant("classes fully balanced", balance=1.0),
)


def run(case: Case, variant: Variant, seconds: float, seed: int) -> tuple[float, int]:
    """Mean IoU and number of steps."""
    spacing = case.geometry.spacing_kji
    classes = len(case.segments) + 1
    print_ = fingerprint(case.sparse, spacing, 1, classes, len(case.slices))
    plan = variant.plan(replace(make_plan(print_), dtype="bfloat16", held_out_share=0.0))
    image = case.image[None]
    volume = working_volume(RunInput(image, case.sparse, case.geometry, case.slices), plan.shape,
                            Normalisation.measure(image), torch.device("cpu"))

    def loss(logits, labels):
        logits = logits.float()
        weights = losses.balancing_weights(labels, classes, variant.balance)
        return losses.masked_cross_entropy(logits, labels, weights) \
            + losses.masked_dice_loss(logits, labels)

    learner = Trainer(plan, [volume], classes, None, seed)
    learner.loss = loss
    learner.train(seconds)
    labels, _ = finish(learner.predictor().probabilities(volume), volume.full_shape)
    rows = case.scores(labels.numpy())
    return metrics.mean(row["iou"] for row in rows), learner.steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["brain-mricrop", "nuclei-1135"])
    parser.add_argument("--spread", default="3,3,2")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    prepare_threads()
    counts = tuple(map(int, options.spread.split(",")))
    cases = [load_case(options.data / name, counts) for name in options.cases]
    print("| variant | " + " | ".join(c.name for c in cases) + " |")
    print("|---" * (len(cases) + 1) + "|")
    begun = time.monotonic()
    for variant in VARIANTS:
        cells = []
        for case in cases:
            iou, steps = run(case, variant, options.seconds, options.seed)
            cells.append(f"{iou:.3f} ({steps} steps)")
        print(f"| {variant.name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nseed {options.seed}, {options.spread} slices, {options.seconds:g} s each, "
          f"{time.monotonic() - begun:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())

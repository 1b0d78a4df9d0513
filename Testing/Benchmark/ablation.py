"""`make benchmark-ablation`: what the engine's choices are worth, one changed at a time.

Two tables of the mean IoU over the foreground classes on voxels that were not annotated: of the
ensemble of priors and shallow model, and with a network that is trained for a fixed time. In this
process, without probe and held-out slices.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

import variants
from cases import SHARED, Case, data_is_there, load_case, slice_counts
from SparseSegNetLib.engine.compute import losses, metrics
from SparseSegNetLib.engine.compute.boxes import box_within, round_up
from SparseSegNetLib.engine.compute.device import prepare_threads
from SparseSegNetLib.engine.data.preprocessing import Normalisation, WorkingVolume, working_volume
from SparseSegNetLib.engine.interaction.export import final_labels
from SparseSegNetLib.engine.networks.residual_unet import ResidualBlock
from SparseSegNetLib.engine.plan import Fingerprint, Plan, Strength
from SparseSegNetLib.engine.planning.auto_plan import levels, make_plan
from SparseSegNetLib.engine.prediction.inference import finish
from SparseSegNetLib.engine.priors.maker import PRIOR_NAMES, PriorMaker
from SparseSegNetLib.engine.stacking import filters, fold_weights, smoothing, voxel_classifier
from SparseSegNetLib.engine.stacking import stacker as stacking
from SparseSegNetLib.engine.stacking import voxel_features as features
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stack import Stack
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.engine.training.report import by_time
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.run_input import RunInput

STRONG = Strength(
    rotation=25, scale=0.2, elastic=5.5, contrast=0.25, brightness=0.2, noise=0.15, gamma=0.3
)


class Without(PriorMaker):
    """Priors of which one gives every class the same probability."""

    def __init__(self, *arguments, missing: str):
        super().__init__(*arguments)
        self.missing = missing

    def make(self, *arguments, **options) -> torch.Tensor:
        found = super().make(*arguments, **options).clone()
        found[PRIOR_NAMES.index(self.missing)] = 1 / self.classes
        return found


class Nearsighted(Stacker):
    """A shallow model that is not told how far the nearest slice is."""

    def _distance(self, labels, slices) -> torch.Tensor:
        return torch.zeros_like(super()._distance(labels, slices))


@dataclass
class StackVariant:
    """constants: (module, name, value) that differ.  largest: without components that touch no
    annotation."""

    name: str
    constants: tuple = ()
    without: str = ""
    stacker: type[Stacker] = Stacker
    largest: bool = False


@dataclass
class Variant:
    """plan, learner: change a plan, a trainer.  share: of the network in the ensemble with its
    prior, None for what is shipped.  priors: False trains the network alone.  balance: power of the
    class weights.  predict: class probabilities.  constants: (module, name, value) that differ."""

    name: str
    plan: Callable[[Plan], Plan] = field(default=lambda plan: plan)
    learner: Callable[[Trainer], None] = field(default=lambda learner: None)
    share: float | None = None
    priors: bool = True
    balance: float = 0.5
    predict: Callable[[Trainer], torch.Tensor] = Trainer.probabilities
    constants: tuple = ()


STACKS = (
    StackVariant("as shipped"),
    *(StackVariant(f"without the prior '{prior}'", without=prior) for prior in PRIOR_NAMES),
    StackVariant("filters at three scales", ((filters, "SCALES", (0.7, 1.6, 3.5)),)),
    StackVariant("without the surroundings' features", ((filters, "AROUND", slice(0)),)),
    StackVariant("position without waves", ((features, "WAVES", ()),)),
    StackVariant("without the distance to the slices", stacker=Nearsighted),
    StackVariant("at most 400 steps", ((voxel_classifier, "STEPS", (100, 400)),)),
    StackVariant("no wide shallow models", ((voxel_classifier, "WIDE_FROM", 1 << 40),)),
    StackVariant("four folds, never one per slice", ((stacking, "LEAVE_ONE_OUT", 0),)),
    StackVariant("fitted ensemble weights alone", ((fold_weights, "SHRINKAGE", 1.0),)),
    StackVariant("default ensemble weights alone", ((fold_weights, "SHRINKAGE", 0.0),)),
    StackVariant(
        "no shallow models in the ensemble",
        (
            (fold_weights, "SHRINKAGE", 0.0),
            (fold_weights, "DEFAULT_WEIGHTS", (0.0, 0.25, 0.15, 0.6, 0.0, 0.0)),
        ),
    ),
    StackVariant(
        "shallow model alone",
        (
            (fold_weights, "SHRINKAGE", 0.0),
            # Not 0: classes that one fold alone shows are left to the priors' mean.
            (fold_weights, "DEFAULT_WEIGHTS", (1e-6, 1e-6, 1e-6, 1e-6, 1.0, 1e-6)),
        ),
    ),
    StackVariant("not smoothed", ((smoothing, "ROUNDS", 0),)),
    StackVariant("without components that touch no annotation", largest=True),
)


def with_patch(edge: int, batch: int) -> Callable[[Plan], Plan]:
    """Patches of about edge^3 voxels, with the levels that fit them."""

    def change(plan: Plan) -> Plan:
        patch_ = box_within(plan.shape, plan.spacing, edge**3)
        strides, kernels = levels(patch_, plan.spacing)
        plan = replace(plan, batch=batch, strides=strides, kernels=kernels)
        return replace(
            plan, patch=round_up(patch_, plan.divisor), tile=round_up(plan.tile, plan.divisor)
        )

    return change


def changed(**fields) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **fields)


NETWORKS = (
    Variant("as shipped"),
    Variant("network without its prior in the ensemble", share=1.0),
    Variant("network alone, no prior", priors=False),
    Variant("2 patches of 48^3", with_patch(48, 2)),
    Variant("6 patches of 32^3", with_patch(32, 6)),
    Variant("12 patches of 24^3", with_patch(24, 12)),
    Variant("8 channels", changed(width=8)),
    Variant("32 channels", changed(width=32)),
    Variant("learning rate 3e-3", changed(learning_rate=3e-3)),
    Variant("constant learning rate", changed(drop_every=0)),
    Variant("no averaged weights (EMA)", changed(ema=0.0)),
    Variant("instance norm", changed(norm="instance")),
    Variant("no position channels", changed(position=False)),
    Variant("strong augmentation", changed(strength=STRONG)),
    Variant("mirrored patches", changed(strength=replace(Strength(), flips=True))),
    Variant("classes not balanced", balance=0.0),
    Variant("classes fully balanced", balance=1.0),
    Variant("no residual shortcuts", constants=((ResidualBlock, "forward", variants.plain_block),)),
    Variant("deep supervision", learner=variants.deep_supervision),
    Variant("consistency on unlabelled voxels", learner=variants.mean_teacher),
    Variant("larger patches later", learner=variants.growing_patches(24, 12)),
    Variant("test-time flips", predict=variants.test_time_flips),
    Variant(
        "test-time flips, mirrored patches",
        predict=variants.test_time_flips,
        plan=changed(strength=replace(Strength(), flips=True)),
    ),
)


def volume_of(case: Case, device: torch.device | str = "cpu") -> WorkingVolume:
    image = case.image[None]
    return working_volume(
        RunInput(image, case.sparse, case.geometry, case.slices),
        case.sparse.shape,
        Normalisation.measure(image),
        device,
    )


@contextmanager
def differing(constants: tuple) -> Iterator[None]:
    """(module, name, value): so they are meanwhile."""
    with ExitStack() as changes:
        for module, name, value in constants:
            changes.enter_context(patch.object(module, name, value))
        yield


def stacked(
    case: Case,
    variant: StackVariant,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: str = "bfloat16",
) -> Stack:
    classes, volume = len(case.segments) + 1, volume_of(case, device)
    kind = partial(Without, missing=variant.without) if variant.without else PriorMaker
    with differing(variant.constants):
        return variant.stacker(kind(volume, classes), seed, dtype=dtype).stack(
            volume.labels, volume.slices
        )


def iou_of(case: Case, probabilities: torch.Tensor, largest: bool = False) -> float:
    labels = final_labels(finish(probabilities, case.sparse.shape)[0].numpy(), case.sparse, largest)
    return metrics.mean(row["iou"] for row in case.scores(labels))


def trained(
    case: Case, variant: Variant, stack: Stack, seconds: float, seed: int
) -> tuple[float, int]:
    """Mean IoU and number of steps."""
    classes = len(case.segments) + 1
    fingerprint = Fingerprint.of(
        case.sparse, case.geometry.spacing_kji, 1, classes, len(case.slices)
    )
    plan = replace(
        make_plan(fingerprint), dtype="bfloat16", held_out_share=0.0, priors=variant.priors
    )

    def loss(logits, labels):
        logits = logits.float()
        weights = losses.balancing_weights(labels, classes, variant.balance)
        return losses.masked_cross_entropy(logits, labels, weights) + losses.masked_dice_loss(
            logits, labels
        )

    with differing(variant.constants):
        learner = Trainer(
            variant.plan(plan),
            [volume_of(case)],
            classes,
            None,
            seed,
            stack if variant.priors else None,
        )
        learner.loss = loss
        variant.learner(learner)
        if variant.share is not None:
            learner.network_share = variant.share
        learner.train(by_time(seconds))
        return iou_of(case, variant.predict(learner)), learner.steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["hippocampus-007", "spleen-ct", "brain-mricrop", "nuclei-1135"],
    )
    parser.add_argument("--spread", default="2,2,1", type=slice_counts)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["stack", "network"])
    parser.add_argument("--rows", default="", help="a regular expression: these rows alone")
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not data_is_there(options.data):
        return 2
    prepare_threads()
    cases = [load_case(options.data / name, options.spread) for name in options.cases]
    head = " | ".join(c.name for c in cases)
    begun = time.monotonic()
    if options.only != "network":
        _table(
            f"| priors and shallow model | {head} | mean |",
            _chosen(STACKS, options.rows),
            cases,
            lambda case, variant: (
                iou_of(
                    case,
                    prior_of(stacked(case, variant, options.seed).target, len(case.segments) + 1),
                    variant.largest,
                ),
                "",
            ),
        )
    if options.only != "stack":
        stacks = {case.name: stacked(case, STACKS[0], options.seed) for case in cases}

        def one(case: Case, variant: Variant) -> tuple[float, str]:
            iou, steps = trained(case, variant, stacks[case.name], options.seconds, options.seed)
            return iou, f" ({steps} steps)"

        _table(
            f"| network, {options.seconds:g} s | {head} | mean |",
            _chosen(NETWORKS, options.rows),
            cases,
            one,
        )
    print(f"seed {options.seed}, {options.spread} slices, {time.monotonic() - begun:.0f} s in all")
    return 0


def _chosen(variants_: tuple, rows: str) -> list:
    return [v for v in variants_ if re.search(rows, v.name)]


def _table(head: str, variants, cases: list[Case], measure: Callable) -> None:
    print(head + "\n" + "|---" * (len(cases) + 2) + "|")
    for variant in variants:
        cells = [measure(case, variant) for case in cases]
        mean = sum(iou for iou, _ in cells) / len(cells)
        print(
            f"| {variant.name} | "
            + " | ".join(f"{iou:.3f}{note}" for iou, note in cells)
            + f" | {mean:.3f} |",
            flush=True,
        )
    print()


if __name__ == "__main__":
    sys.exit(main())

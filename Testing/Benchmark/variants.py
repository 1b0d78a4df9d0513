"""Techniques of the literature that the engine does not have, as changes of a trainer: the
ablation says what they would be worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.engine.compute.boxes import box_within, round_up
from SparseSegNetLib.engine.compute.losses import masked_cross_entropy
from SparseSegNetLib.engine.compute.number_formats import computing_in
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.training.trainer import Trainer

WARM_UP = 50  # steps before unlabelled voxels count
CONSISTENCY = 1.0  # weight of their loss
TEACHER_NOISE = 0.1  # of the image's standard deviation


def mean_teacher(learner: Trainer) -> None:
    """On unlabelled voxels the network is to agree with its own average (Tarvainen 2017)."""
    seen: list[torch.Tensor] = []
    learner.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    supervised = learner.loss

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        pixels, found = seen.pop(), supervised(logits, labels)
        unknown = labels == UNLABELLED
        if learner.steps < WARM_UP or not bool(unknown.any()):
            return found
        pixels = pixels.clone()
        pixels[:, 0] += TEACHER_NOISE * torch.randn_like(pixels[:, 0])
        with torch.no_grad(), computing_in(learner.device, learner.plan.dtype):
            taught = learner.average(pixels).float().softmax(dim=1)
        apart = (logits.float().softmax(dim=1) - taught).square().sum(dim=1)
        return found + CONSISTENCY * apart[unknown].mean()

    learner.loss = loss


def deep_supervision(learner: Trainer) -> None:
    """Coarser levels are taught too, each with half the weight of the finer (Lee 2015)."""
    network = getattr(learner.network, "network", learner.network)
    coarser, seen = network.merge[1:], []
    heads = nn.ModuleList(nn.Conv3d(m[0].out_channels, learner.classes, 1) for m in coarser)
    for level, merge in enumerate(coarser):
        merge.register_forward_hook(lambda _m, _i, out, level=level: seen.append((level, out)))
    learner.optimiser.param_groups[0]["params"] += heads.parameters()
    supervised = learner.loss

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = supervised(logits, labels)
        for level, features in seen:
            smaller = F.interpolate(labels[:, None].float(), features.shape[2:])[:, 0]
            found = found + 0.5 ** (level + 1) * masked_cross_entropy(
                heads[level](features.float()), smaller.to(labels.dtype)
            )
        seen.clear()
        return found

    learner.loss = loss


def growing_patches(edge: int, batch: int) -> Callable[[Trainer], None]:
    """From half the time on larger patches, fewer per step."""

    def change(learner: Trainer) -> None:
        plan = learner.plan
        larger = replace(
            plan,
            batch=batch,
            patch=round_up(box_within(plan.shape, plan.spacing, edge**3), plan.divisor),
        )
        step = learner.step

        def grown(fraction: float) -> float | None:
            if fraction > 0.5:
                learner.plan = learner.sampler.plan = larger
            return step(fraction)

        learner.step = grown

    return change


def plain_block(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The forward pass of a residual block without its shortcut."""
    return F.leaky_relu(block.second(block.first(x)), 0.01)


def test_time_flips(learner: Trainer) -> torch.Tensor:
    """Class probabilities float32 (classes, k, j, i): the network's, averaged over the volume and
    its three mirror images, blended with the prior."""
    predictor, target = learner.predictor(), learner.target
    total = predictor.probabilities(target)
    for axis in (1, 2, 3):
        mirrored = replace(target, image=target.image.flip(axis))
        total = total + predictor.probabilities(mirrored).flip(axis)
    return torch.lerp(prior_of(target, learner.classes), total / 4, learner.network_share)

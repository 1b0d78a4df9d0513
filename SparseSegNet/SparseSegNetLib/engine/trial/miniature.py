"""The engine in miniature: each part of it once, on a volume of a few thousand voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AnnotatedSlice
from ..data.preprocessing import WorkingVolume
from ..plan import Fingerprint, Plan
from ..planning.auto_plan import make_plan
from ..priors import geodesic
from ..priors.propagation import Propagation
from ..priors.random_walk import RandomWalk
from ..stacking.voxel_classifier import ClassifierFitter
from ..stacking.voxel_features import voxel_features
from ..training.trainer import Trainer

SHAPE, CLASSES = (16, 18, 20), 3
SLICES = [
    AnnotatedSlice("k", 4),
    AnnotatedSlice("k", 8),
    AnnotatedSlice("j", 7),
    AnnotatedSlice("i", 6),
]
STEPS = 30  # of the shallow model
WIDTH, PATCHES = 4, 2  # of the network, and per step
ENSEMBLE, NETWORK = "ensemble", "network"

Output = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """A part of the engine.

    Attributes:
        name: As users are told.
        stage: ENSEMBLE (priors and shallow model) or NETWORK: what must run on one device.
        run: Computes it from the volume on a device, in a number format.
        in_formats: Whether the number format makes a difference.
        tolerance: Largest mean difference from the CPU's result in float32, as a share of that
            result's standard deviation.
    """

    name: str
    stage: str
    run: Callable[[WorkingVolume, str], Output]
    in_formats: bool = False
    tolerance: float = 0.1


@cache
def small_volume() -> WorkingVolume:
    """A bright ellipsoid with a brighter core, annotated in four slices, on the CPU.

    It lies off the centre: a result that is mirrored is wrong.
    """
    axes = [torch.linspace(-1.2, 1.9, n) for n in SHAPE]
    radius = sum(x**2 for x in torch.meshgrid(*axes, indexing="ij"))
    assert isinstance(radius, torch.Tensor)
    truth = (radius < 1).to(torch.uint8) + (radius < 0.3).to(torch.uint8)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    labels = torch.full(SHAPE, UNLABELLED, dtype=torch.uint8)
    for item in SLICES:
        labels[item.selector()] = truth[item.selector()]
    return WorkingVolume(
        (truth.float() + 0.2 * noise - 0.4)[None], labels, torch.ones(3), SHAPE, SLICES
    )


def _registration(volume: WorkingVolume, dtype: str) -> Output:
    with torch.inference_mode():
        found = Propagation(volume.image, tuple(volume.spacing.tolist()), [0], 1)
        return {"": found.propagate(volume.labels, SLICES, CLASSES)}


def _random_walk(volume: WorkingVolume, dtype: str) -> Output:
    with torch.inference_mode():
        walk = RandomWalk(volume.image, tuple(volume.spacing.tolist()))
        return {"": walk.probabilities(volume.labels, CLASSES)}


def _geodesic(volume: WorkingVolume, dtype: str) -> Output:
    with torch.inference_mode():
        spacing = tuple(volume.spacing.tolist())
        return {"": geodesic.probabilities(volume.image, spacing, volume.labels, CLASSES)}


def _features(volume: WorkingVolume) -> torch.Tensor:
    return voxel_features(volume, tuple(volume.spacing.tolist()), lambda: None, True)


def _filters(volume: WorkingVolume, dtype: str) -> Output:
    with torch.inference_mode():
        return {"": _features(volume)}


def _shallow_model(volume: WorkingVolume, dtype: str) -> Output:
    features = _features(volume)
    known = volume.labels != UNLABELLED
    fitter = ClassifierFitter([features[:, known].T], [volume.labels[known]], CLASSES, 0, dtype)
    (model,) = fitter.fit([[0]], STEPS)
    return {"": model.probabilities(features)}


def _network(volume: WorkingVolume, dtype: str) -> Output:
    """A training step, with augmentation and optimiser, then a prediction."""
    trainer = Trainer(small_plan(dtype), [volume], CLASSES, None, 0)
    random = trainer.sampler.generator.get_state()
    loss, skipped = trainer.step(0.3), 0
    while loss is None and trainer.scale.skipped > skipped:  # in float16: the same with less scale
        trainer.sampler.generator.set_state(random)
        skipped = trainer.scale.skipped
        loss = trainer.step(0.3)
    if loss is None:
        return {"gradient": torch.tensor([float("nan")])}
    gradients = [p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]
    return {
        "gradient": torch.cat(gradients),
        "prediction": trainer.predictor().probabilities(volume),
    }


def small_plan(dtype: str) -> Plan:
    """The plan of a narrow `auto` network. Its noise, which differs between devices, is faint."""
    fingerprint = Fingerprint(SHAPE, (1.0, 1.0, 1.0), 1, CLASSES, len(SLICES), 0)
    plan = make_plan(fingerprint, "cpu", WIDTH)
    return replace(
        plan, batch=PATCHES, dtype=dtype, priors=False, strength=replace(plan.strength, noise=1e-3)
    )


PARTS = (
    Part("registration of slices", ENSEMBLE, _registration),
    Part("random walks", ENSEMBLE, _random_walk),
    Part("geodesic distances", ENSEMBLE, _geodesic),
    Part("filter responses", ENSEMBLE, _filters),
    # Each device draws random numbers of its own: the models are as good, not the same.
    Part("shallow model", ENSEMBLE, _shallow_model, True, 0.25),
    Part("network", NETWORK, _network, True, 0.2),
)

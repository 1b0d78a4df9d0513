"""The published trainings: the papers' figures, and ours where they are silent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...annotation.geometry import Triple
from ...runfolder.options import Options
from ...runfolder.presets import Preset, preset
from ..compute.boxes import round_up
from ..plan import Fingerprint, Plan, Strength
from .auto_plan import held_out_share


@dataclass(frozen=True)
class Recipe:
    """A published training; batch counts patches per step, the other fields are the plan's."""

    batch: int
    norm: str
    loss: str
    optimiser: str
    learning_rate: float
    momentum: float
    drop_every: int
    strength: Strength
    overlap: float = 0.0
    weight_decay: float = 0.0


# Rotation, scaling and grey values are varied in Cicek 2016 without figures: these are ours.
# Learning rate and momentum are not given either: 0.01 and 0.9 learn with batch normalisation
# and without (docs/lab/published-networks.md).
_CICEK = Strength(
    rotation=15.0, scale=0.1, elastic=4.0, elastic_grid=32.0, elastic_vary=False, in_voxels=True
)
_STILL = Strength.none()

RECIPES = {
    "unet3d": Recipe(1, "tile", "balanced cross-entropy", "sgd", 1e-2, 0.9, 0, _CICEK),
    "unet2d": Recipe(
        1, "tile", "balanced cross-entropy", "sgd", 1e-2, 0.9, 0, replace(_CICEK, planar=True)
    ),
    "fcn3d": Recipe(
        3,
        "batch",
        "Dice, all classes",
        "adam",
        1e-2,
        0.0,
        0,
        replace(
            _STILL,
            rotation=20.0,
            translation=20.0,
            elastic=4.0,
            elastic_grid=24.0,
            elastic_kind="uniform",
            elastic_vary=False,
            in_voxels=True,
        ),
        overlap=0.25,
    ),
    # Divided by ten every 25,000 iterations.
    "vnet": Recipe(
        2,
        "none",
        "Dice, squared",
        "sgd",
        1e-4,
        0.99,
        25_000,
        replace(
            _STILL,
            elastic=15.0,
            elastic_grid=0.0,
            elastic_vary=False,
            in_voxels=True,
            histogram=True,
        ),
        overlap=0.25,
    ),
}


def published_plan(
    fingerprint: Fingerprint, options: Options, shape: Triple | None = None, tile_voxels: float = 0
) -> Plan:
    """Makes the plan of a published network.

    Args:
        fingerprint: Of the first annotated volume.
        options: Name the network, and may change tile, width, kernel and normalisation.
        shape: The working grid (k, j, i), else the volume's.
        tile_voxels: Most voxels of a tile while predicting, where the paper takes more than the
            patch (`fcn3d`: all of x and y).
    """
    about, recipe = preset(options.network), RECIPES[options.network]
    shape = shape or fingerprint.shape
    spacing = fingerprint.spacing_on(shape)
    patch = about.tile if options.tile is None else tuple(reversed(options.tile))
    side = options.kernel or about.kernels[0]
    flat = 1 if about.planar else side
    margin = (0 if about.planar else about.lost // 2, about.lost // 2, about.lost // 2)
    plan = Plan(
        shape,
        spacing,
        patch,
        patch,
        strides=((1 if about.planar else 2, 2, 2),) * _poolings(about),
        kernels=((flat, side, side),) * (_poolings(about) + 1),
        width=options.width or about.width,
        batch=recipe.batch,
        network=about.name,
        margin=margin,
        norm=recipe.norm if options.batch_norm else "none",
        position=False,
        mirror=True,
        overlap=recipe.overlap,
        loss=recipe.loss,
        optimiser=recipe.optimiser,
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        drop_every=recipe.drop_every,
        clip=0.0,
        ema=0.0,
        held_out_share=held_out_share(fingerprint.slices),
        strength=recipe.strength,
    )
    return replace(plan, tile=_whole_planes(plan, tile_voxels)) if about.name == "fcn3d" else plan


def _poolings(about: Preset) -> int:
    return int(math.log2(about.multiple))


def _whole_planes(plan: Plan, voxels: float) -> Triple:
    """The full x and y extent with the patch's depth, if that has at most `voxels` voxels."""
    planes = round_up((plan.patch[0], *plan.shape[1:]), plan.divisor)
    planes = tuple(max(p, n) for p, n in zip(plan.patch, planes, strict=True))
    return planes if math.prod(planes) <= voxels else plan.patch

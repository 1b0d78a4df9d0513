"""The plan: every choice of a training in one place, made from the data's fingerprint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple

WIDEST = 320  # channels


@dataclass(frozen=True)
class Fingerprint:
    """Properties of the first annotated volume that a plan is made from.

    Attributes:
        shape: Voxels along k, j, i.
        spacing: mm along k, j, i.
        channels: Channels of the image.
        classes: Labels with background.
        labelled: Labelled voxels.
        slices: Annotated slices.
        volumes: Volumes that the run has, annotated or not.
    """

    shape: Triple
    spacing: tuple[float, float, float]
    channels: int
    classes: int
    labelled: int
    slices: int
    volumes: int = 1

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        spacing: tuple[float, float, float],
        channels: int,
        classes: int,
        slices: int,
        volumes: int = 1,
    ) -> Fingerprint:
        """Counts what a label array holds.

        Args:
            labels: uint8 (k, j, i), 255 = unlabelled.
            spacing: mm along k, j, i.
            channels: Channels of the image.
            classes: Labels with background.
            slices: Annotated slices.
            volumes: Volumes that the run has, annotated or not.
        """
        return cls(
            triple(labels.shape),
            spacing,
            channels,
            classes,
            int((labels != UNLABELLED).sum()),
            slices,
            volumes,
        )

    @property
    def priors(self) -> bool:
        """True if priors can be made: there is one volume alone."""
        return self.volumes == 1

    def spacing_on(self, shape: Triple) -> tuple[float, float, float]:
        """Spacing in mm of a grid of another shape over the same extent, (k, j, i)."""
        k, j, i = (s * n / m for s, n, m in zip(self.spacing, self.shape, shape, strict=True))
        return k, j, i


@dataclass(frozen=True)
class Strength:
    """Strength of the augmentation. Lengths are in working voxels.

    The defaults are mild: the volume to be segmented is the one that is trained on, so there is
    no other scanner or patient to prepare for, and within the first minutes stronger variation
    costs more than it gives (docs/lab/ablation.md).

    Attributes:
        rotation: Largest angle about each axis, degrees; the angle about the axes in the plane of
            thick slices is scaled down with the anisotropy.
        scale: Largest relative change of size.
        translation: Largest distance of the drawn voxel from the patch's centre along each axis;
            None for anywhere well inside.
        flips: Whether axes are mirrored half of the time.
        elastic: Displacements at the control points of a deformation.
        elastic_grid: Distance of the control points (0: 2x2x2 points at the patch's corners).
        elastic_kind: 'normal' (`elastic` is their standard deviation) or 'uniform' (the largest).
        elastic_vary: Whether displacements are scaled by a random share, so that some patches are
            hardly deformed.
        in_voxels: Whether deformations have the same number of voxels along each axis, as
            published; otherwise they are in voxels of the finest axis, and equal in mm.
        planar: Whether nothing moves along the first axis.
        contrast: Of intensities, as a share.
        brightness: In standard deviations of the normalised image.
        noise: In standard deviations of the normalised image.
        gamma: Of intensities, as a share.
        histogram: Whether patches are matched to the histogram of a volume of the training set
            that is drawn at random (Milletari 2016).
    """

    rotation: float = 10.0
    scale: float = 0.1
    translation: float | None = None
    flips: bool = False
    # A B-spline averages its control points: 4 here move voxels by 1.4 (one standard deviation).
    elastic: float = 4.0
    elastic_grid: float = 16.0
    elastic_kind: str = "normal"
    elastic_vary: bool = True
    in_voxels: bool = False
    planar: bool = False
    contrast: float = 0.1
    brightness: float = 0.1
    noise: float = 0.05
    gamma: float = 0.1
    histogram: bool = False

    @classmethod
    def none(cls) -> Strength:
        """No augmentation."""
        return cls(rotation=0, scale=0, elastic=0, contrast=0, brightness=0, noise=0, gamma=0)


@dataclass(frozen=True)
class Plan:
    """All choices of a training. Sizes are (k, j, i) in voxels of the working grid.

    Attributes:
        shape: The working grid.
        spacing: Its spacing, mm.
        patch: Input of the network while training.
        tile: Input of the network while predicting.
        strides: Between the levels of the network.
        kernels: Of each level.
        width: Channels at the finest level.
        batch: Patches per step.
        network: A preset's name.
        margin: Voxels that the network takes off each side of patch and tile (valid convolutions).
        norm: See `networks.blocks.make_norm`.
        position: Whether three more channels hold the position of a voxel.
        priors: Whether further channels hold the ensemble of priors and shallow model.
        mirror: Whether the volume is mirrored at its border instead of continued with its edge.
        overlap: Share of a tile that it has in common with the next, at least.
        dtype: Of the convolutions, 'bfloat16', 'float16' or 'float32'.
        loss: A name of `losses.LOSSES`.
        optimiser: 'adamw', 'adam' or 'sgd'.
        learning_rate: Its peak.
        momentum: Of 'sgd'.
        weight_decay: Of the optimiser.
        drop_every: Steps after which the learning rate is divided by ten (0: never); None for half
            a cosine over the training.
        clip: Largest norm of the gradient (0: not clipped).
        ema: Decay of the averaged weights (0: the newest weights count).
        held_out_share: Share of the training time during which some slices are held out.
        seconds_per_step: Measured by the probe.
        seconds_to_predict: Estimated by the probe.
        strength: Of the augmentation.
    """

    shape: Triple
    spacing: tuple[float, float, float]
    patch: Triple
    tile: Triple
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    width: int
    batch: int
    network: str = "auto"
    margin: Triple = (0, 0, 0)
    norm: str = "batch"
    position: bool = True
    priors: bool = False
    mirror: bool = False
    overlap: float = 0.25
    dtype: str = "float32"
    loss: str = "auto"
    optimiser: str = "adamw"
    learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 1e-2
    drop_every: int | None = None
    clip: float = 5.0
    ema: float = 0.99
    held_out_share: float = 0.0
    seconds_per_step: float = 0.0
    seconds_to_predict: float = 0.0
    strength: Strength = field(default_factory=Strength)

    @property
    def planar(self) -> bool:
        """True if the network works on single slices."""
        return self.strength.planar

    @property
    def output(self) -> Triple:
        """Output for a patch, (k, j, i)."""
        return triple(n - 2 * m for n, m in zip(self.patch, self.margin, strict=True))

    @property
    def channels(self) -> tuple[int, ...]:
        """Feature channels per level."""
        return tuple(min(WIDEST, self.width * 2**n) for n in range(len(self.kernels)))

    @property
    def divisor(self) -> Triple:
        """Tiles and patches are multiples of this, so that pooling and enlarging meet."""
        return triple(math.prod(s[axis] for s in self.strides) for axis in range(3))

    @property
    def trainable(self) -> bool:
        """True if batch normalisation has the values that it needs to train.

        These are two per channel at least at the coarsest level.
        """
        coarsest = math.prod(-(-n // d) for n, d in zip(self.patch, self.divisor, strict=True))
        return self.batch >= 1 and (self.norm != "batch" or self.batch * coarsest > 1)

    def to_json(self) -> dict:
        """The plan as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Plan:
        """The plan of a JSON object; unknown entries are ignored, missing ones have defaults."""

        def tuples(value):
            return tuple(map(tuples, value)) if isinstance(value, list) else value

        def known(kind: type, given: dict) -> dict:
            names = {f.name for f in fields(kind)}
            return {k: tuples(v) for k, v in given.items() if k in names}

        strength = Strength(**known(Strength, data.get("strength", {})))
        return cls(**{**known(cls, data), "strength": strength})

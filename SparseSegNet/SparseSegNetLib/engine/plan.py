"""The plan: every choice of a training in one place, made from the data's fingerprint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple

WIDEST = 320  # channels
LEAST_SLICES = 2  # for priors that are learnt out of fold


@dataclass(frozen=True)
class Fingerprint:
    """What the plan is made from, of the first annotated volume. shape and spacing (mm) are
    (k, j, i).  volumes: how many the run has, annotated or not."""

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
            tuple(labels.shape),
            tuple(spacing),
            channels,
            classes,
            int((labels != UNLABELLED).sum()),
            slices,
            volumes,
        )

    @property
    def priors(self) -> bool:
        """Whether the slices alone can say something of every volume: there is just one."""
        return self.volumes == 1 and self.slices >= LEAST_SLICES

    def spacing_on(self, shape: Triple) -> tuple[float, float, float]:
        """Spacing in mm of a grid of another shape over the same extent, (k, j, i)."""
        return tuple(s * n / m for s, n, m in zip(self.spacing, self.shape, shape, strict=True))


@dataclass(frozen=True)
class Strength:
    """How far patches are varied. Angles in degrees; lengths in working voxels.

    rotation: largest angle about each axis; the angle about the axes in the plane of thick
    slices is scaled down with the anisotropy.  scale: largest relative change of size.
    translation: how far the drawn voxel may lie from the patch's centre along each axis; None:
    anywhere well inside.  flips: whether axes are mirrored half of the time.
    elastic: displacements at control points `elastic_grid` voxels apart (0: 2x2x2 points at the
    patch's corners); `elastic_kind` 'normal': their standard deviation, 'uniform': the largest.
    elastic_vary: scale them by a random share, so that some patches are hardly deformed.
    in_voxels: the same number of voxels along each axis, as published; otherwise lengths of the
    deformation are in voxels of the finest axis, and equal in mm along the others.
    planar: nothing moves along the first axis.
    Intensities are in units of the normalised image's standard deviation.  histogram: match
    the patch to the histogram of a volume of the set drawn at random (Milletari 2016).

    The defaults are mild: the volume to be segmented is the one that is learnt from, so there is
    no other scanner or patient to prepare for, and within the first minutes stronger variation
    costs more than it gives (docs/lab/ablation.md).
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
        """No variation at all."""
        return cls(rotation=0, scale=0, elastic=0, contrast=0, brightness=0, noise=0, gamma=0)


@dataclass(frozen=True)
class Plan:
    """network: a preset's name.  shape: the working grid.  patch: what the network takes in while
    training, tile: while predicting.  margin: voxels that it takes off each side of both (valid
    convolutions).  patch, tile, margin, strides, kernels: (k, j, i) voxels of the working grid.
    width: channels at the finest level.  norm: see networks.blocks.  position: three more inputs
    say where a voxel lies.  priors: further inputs say what the annotated slices alone suggest.
    mirror: beyond its border the volume goes on mirrored instead of with its edge.
    overlap: share of a tile that it has in common with the next, at least.
    dtype: of the convolutions, 'bfloat16' or 'float32'.
    loss: a name of losses.LOSSES.  optimiser: 'adamw', 'adam' or 'sgd'.  drop_every: steps after
    which the learning rate is divided by ten (0: never); None: half a cosine over the training.
    clip: largest norm of the gradient (0: not clipped).  ema: share of the averaged weights that
    stays at each step (0: the newest weights count).
    held_out_share: share of the training time during which some slices are held out.
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
        """Whether the network works on single slices."""
        return self.strength.planar

    @property
    def output(self) -> Triple:
        """What comes out for a patch, (k, j, i)."""
        return tuple(n - 2 * m for n, m in zip(self.patch, self.margin, strict=True))

    @property
    def channels(self) -> tuple[int, ...]:
        """Feature channels per level."""
        return tuple(min(WIDEST, self.width * 2**n) for n in range(len(self.kernels)))

    @property
    def divisor(self) -> Triple:
        """Tiles and patches are multiples of this, so that pooling and enlarging meet."""
        return tuple(math.prod(s[axis] for s in self.strides) for axis in range(3))

    @property
    def trainable(self) -> bool:
        """Whether batch normalisation has two values per channel at least at the coarsest level,
        without which it cannot train."""
        coarsest = math.prod(-(-n // d) for n, d in zip(self.patch, self.divisor, strict=True))
        return self.batch >= 1 and (self.norm != "batch" or self.batch * coarsest > 1)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> Plan:
        def tuples(value):
            return tuple(map(tuples, value)) if isinstance(value, list) else value

        def known(kind: type, given: dict) -> dict:
            names = {f.name for f in fields(kind)}
            return {k: tuples(v) for k, v in given.items() if k in names}

        strength = Strength(**known(Strength, data.get("strength", {})))
        return cls(**{**known(cls, data), "strength": strength})

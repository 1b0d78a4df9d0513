"""The plan: every choice of a training in one place, made from the data's fingerprint."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np

from .augmentation import Strength

Triple = tuple[int, int, int]

# An axis counts as thick, and is neither pooled nor convolved across, while its spacing is at
# least this many times the finest one (nnU-Net's rule, Isensee 2021, uses 2 for pooling).
THICK = 2.0
SMALLEST_FEATURE = 4  # voxels along an axis at the coarsest level
MOST_LEVELS = 5
WIDEST = 320  # channels
# Voxels per patch and patches per step: on few cores many small patches teach more per second
# than few large ones (docs/lab/ablation.md).
BATCHES = {"cpu": (16**3, 32), "cuda": (48**3, 12), "mps": (32**3, 8)}
LEAST_SLICES = 2  # for priors that are learnt out of fold
TILE_VOXELS = 128**3  # per tile of the prediction


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

    @property
    def priors(self) -> bool:
        """Whether the slices alone can say something of every volume: there is just one."""
        return self.volumes == 1 and self.slices >= LEAST_SLICES

    def spacing_on(self, shape: Triple) -> tuple[float, float, float]:
        """Spacing in mm of a grid of another shape over the same extent, (k, j, i)."""
        return tuple(s * n / m for s, n, m in
                     zip(self.spacing, self.shape, shape, strict=True))


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


def make_plan(print_: Fingerprint, device: str = "cpu", width: int = 16,
              shape: Triple | None = None) -> Plan:
    """A plan for a volume, before anything was measured.

    device: its type.  width: channels at the finest level.  shape: a working grid, else the full.
    """
    shape = shape or print_.shape
    patch_voxels, batch = BATCHES[device]
    spacing = print_.spacing_on(shape)
    patch = box_within(shape, spacing, patch_voxels)
    strides, kernels = levels(patch, spacing)
    # What priors and shallow model say is scored out of fold; only a fold that is not dear is
    # held out from the network too.
    share = held_out_share(print_.slices) if not print_.priors or print_.slices >= 5 else 0.0
    plan = Plan(shape, spacing, patch, patch, strides, kernels, width, batch,
                held_out_share=share, priors=print_.priors)
    return replace(plan, patch=round_up(patch, plan.divisor),
                   tile=round_up(box_within(shape, spacing, TILE_VOXELS), plan.divisor))


def box_within(shape: Triple, spacing: tuple[float, ...], voxels: int) -> Triple:
    """A box of about `voxels` voxels, a cube in mm where the volume's shape allows."""
    low, high = 0.0, 2.0 * max(n * s for n, s in zip(shape, spacing, strict=True))
    for _ in range(50):
        edge = (low + high) / 2
        box = [min(n, max(1.0, edge / s)) for n, s in zip(shape, spacing, strict=True)]
        low, high = (edge, high) if math.prod(box) < voxels else (low, edge)
    return tuple(max(1, round(b)) for b in box)


def levels(patch: Triple, spacing: tuple[float, ...]) -> tuple[tuple, tuple]:
    """Strides between levels and kernel size per level for a patch (k, j, i)."""
    size, mm = list(patch), list(spacing)
    strides, kernels = [], [_kernel(size, mm)]
    while len(kernels) < MOST_LEVELS:
        able = [n // 2 >= SMALLEST_FEATURE for n in size]
        if not any(able):
            break
        finest = min(s for s, a in zip(mm, able, strict=True) if a)
        stride = [2 if a and s < THICK * finest else 1 for s, a in zip(mm, able, strict=True)]
        size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
        mm = [a * s for a, s in zip(mm, stride, strict=True)]
        strides.append(tuple(stride))
        kernels.append(_kernel(size, mm))
    return tuple(strides), tuple(kernels)


def _kernel(size: list[int], mm: list[float]) -> Triple:
    finest = min(mm)
    return tuple(1 if n < 2 or s >= THICK * finest else 3 for n, s in zip(size, mm, strict=True))


def halved(box: Triple, divisor: Triple) -> Triple | None:
    """Half a box along its longest axis, still a multiple of the divisor; None if it cannot be."""
    axis = max(range(3), key=lambda a: box[a] // divisor[a])
    if box[axis] // divisor[axis] < 2:
        return None
    half = box[axis] // divisor[axis] // 2 * divisor[axis]
    return tuple(half if a == axis else n for a, n in enumerate(box))


def round_up(box: Triple, divisor: Triple) -> Triple:
    return tuple(-(-n // d) * d for n, d in zip(box, divisor, strict=True))


def working_shape(shape: Triple, spacing: tuple[float, ...], voxels: float) -> Triple:
    """The shape of at most about `voxels` voxels to which a volume is reduced, finest axes first.

    Axes are only reduced to the spacing of the thicker ones before all are reduced together, so
    a stack of thick slices keeps its slices.
    """
    if math.prod(shape) <= voxels:
        return shape
    low, high = min(spacing), max(spacing) * (math.prod(shape) / voxels) + max(spacing)
    for _ in range(60):
        mm = math.sqrt(low * high)
        count = math.prod(_reduced(shape, spacing, mm))
        low, high = (mm, high) if count > voxels else (low, mm)
    return _reduced(shape, spacing, high)


def _reduced(shape: Triple, spacing: tuple[float, ...], mm: float) -> Triple:
    return tuple(n if s >= mm else max(min(n, 16), round(n * s / mm))
                 for n, s in zip(shape, spacing, strict=True))


def held_out_share(slices: int) -> float:
    """For how much of the training time slices can be held out for an honest score.

    With three or four slices every one is dear, so the score is only taken early; with fewer
    there is none.
    """
    return 0.0 if slices < 3 else 0.35 if slices < 5 else 0.6


def fingerprint(labels: np.ndarray, spacing: tuple[float, float, float], channels: int,
                classes: int, slices: int, volumes: int = 1) -> Fingerprint:
    """labels: uint8 (k, j, i), 255 = unlabelled.  spacing: mm along k, j, i."""
    return Fingerprint(tuple(labels.shape), tuple(spacing), channels, classes,
                       int((labels != 255).sum()), slices, volumes)

"""Preprocessing: normalised intensities on the working grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED
from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice, array_axis
from ...runfolder.run_input import RunInput

# Intensities beyond these percentiles are clipped: a few hot pixels or a metal implant must not
# set the scale for everything else.
CLIP = (0.1, 99.9)
SAMPLE = 2_000_000
# Where there are more of them (an implant, a saturated border) the labelled voxels show it: an end
# of the range that lies beyond the classes' own by FAR times its width is moved to BEYOND times it.
CLASS_RANGE = (5, 95)  # percentiles of each class
FAR, BEYOND = 3.0, 1.0
LEAST_LABELLED = 20  # voxels of a class, or its range tells nothing


@dataclass(frozen=True)
class Normalisation:
    """Normalisation per channel: clip to [low, high], subtract mean, divide by sd."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def measure(cls, image: np.ndarray, labels: np.ndarray | None = None) -> Normalisation:
        """Measures an image; large ones are sampled at regular intervals.

        Args:
            image: (c, k, j, i).
            labels: uint8 (k, j, i), 255 = unlabelled; None where there are none.
        """
        columns = []
        for channel in image:
            step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
            values = np.asarray(channel[::step, ::step, ::step], dtype=np.float64)
            low, high = np.percentile(values, CLIP)
            if high <= low:  # nearly constant: the few other values are all there is to see
                low, high = float(values.min()), float(values.max())
            elif labels is not None:
                low, high = _within_classes(channel, labels, low, high)
            clipped = values.clip(low, high)
            columns.append(
                (float(low), float(high), float(clipped.mean()), float(clipped.std()) or 1.0)
            )
        return cls(*map(tuple, zip(*columns, strict=True)))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Normalises an image (c, k, j, i) to float32 with zero mean and unit variance."""
        out = np.empty(image.shape, np.float32)
        for n, channel in enumerate(image):
            np.clip(channel, self.low[n], self.high[n], out=out[n], casting="unsafe")
            out[n] -= self.mean[n]
            out[n] /= self.sd[n]
        return out


def _within_classes(
    channel: np.ndarray, labels: np.ndarray, low: float, high: float
) -> tuple[float, float]:
    """The range [low, high] without ends that lie far beyond the intensities of all classes."""
    known = labels != UNLABELLED
    values, classes = channel[known].astype(np.float64), labels[known]
    ranges = [
        np.percentile(values[classes == c], CLASS_RANGE)
        for c in np.unique(classes)
        if np.count_nonzero(classes == c) >= LEAST_LABELLED
    ]
    if not ranges:
        return low, high
    first, last = min(r[0] for r in ranges), max(r[1] for r in ranges)
    width = last - first
    if not width > 0:
        return low, high
    return (
        first - BEYOND * width if low < first - FAR * width else low,
        last + BEYOND * width if high > last + FAR * width else high,
    )


@dataclass(frozen=True)
class Part:
    """The place of a box in a working grid that is too large to be held as a whole.

    Attributes:
        first: First voxel of the box, (k, j, i).
        whole: Shape of the grid, (k, j, i).
        usual: Along k, j and i the `usual_differences` of the whole image, float32 (c, 1, 1, 1).
    """

    first: Triple
    whole: Triple
    usual: tuple[torch.Tensor, ...] = ()


@dataclass(eq=False)  # two volumes are the same only if they are one
class WorkingVolume:
    """A volume on the working grid and on the device.

    Attributes:
        image: float32 (c, k, j, i), normalised.
        labels: uint8 (k, j, i), 255 = unlabelled.
        spacing: (3,) mm along k, j, i.
        full_shape: The original grid; equal to the working grid when nothing was resampled.
        slices: The annotated ones, on the working grid.
        unknown: Classes that the annotation does not tell from the background.
        part: Of which grid the arrays are a box; None if they are all of it.
    """

    image: torch.Tensor
    labels: torch.Tensor
    spacing: torch.Tensor
    full_shape: tuple[int, int, int]
    slices: list[AnnotatedSlice] = field(default_factory=list)
    unknown: tuple[int, ...] = ()
    part: Part | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The working grid (k, j, i)."""
        return tuple(self.labels.shape) if self.part is None else self.part.whole

    @property
    def device(self) -> torch.device:
        """The device that the arrays are on."""
        return self.image.device

    @property
    def channels(self) -> int:
        """Channels of the image, with those of a prior."""
        return self.image.shape[0]

    @property
    def first(self) -> tuple[int, int, int]:
        """The voxel of the working grid at which the arrays begin."""
        return (0, 0, 0) if self.part is None else self.part.first

    def to(self, device: torch.device) -> WorkingVolume:
        """The volume on a device; itself if it is there."""
        if self.image.device == device:
            return self
        return replace(self, image=self.image.to(device), labels=self.labels.to(device))


def working_volume(
    item: RunInput,
    shape: Triple,
    normalised: Normalisation | np.ndarray,
    device: torch.device,
) -> WorkingVolume:
    """Makes a working volume: normalised and, where `shape` differs, resampled.

    Args:
        item: The input.
        shape: Of the working grid (k, j, i); it covers the same extent as the input.
        normalised: The image after normalisation, float32 (c, k, j, i), or the normalisation.
        device: Of the result.
    """
    labels, spacing = item.labels, item.geometry.spacing_kji
    full = tuple(labels.shape)
    if isinstance(normalised, Normalisation):
        normalised = normalised.apply(item.image)
    pixels = resampled(torch.from_numpy(normalised), shape)
    mm = torch.tensor([s * n / m for s, n, m in zip(spacing, full, shape, strict=True)])
    return WorkingVolume(
        pixels.to(device),
        torch.from_numpy(labels_on(labels, shape)).to(device),
        mm.float(),
        full,
        slices_on(item.slices, full, shape),
    )


def resampled(pixels: torch.Tensor, shape: Triple) -> torch.Tensor:
    """Values float32 (c, k, j, i) on another grid over the same extent.

    Axes that become shorter are averaged, along the others it is interpolated.
    """
    full = tuple(pixels.shape[1:])
    coarse = tuple(min(n, m) for n, m in zip(full, shape, strict=True))
    if coarse != full:
        # Area averaging is the right low-pass filter for a reduction, whole-numbered or not.
        pixels = F.interpolate(pixels[None], size=coarse, mode="area")[0]
    if coarse != tuple(shape):
        pixels = F.interpolate(
            pixels[None], size=tuple(shape), mode="trilinear", align_corners=False
        )[0]
    return pixels


def labels_on(labels: np.ndarray, shape: Triple) -> np.ndarray:
    """Labels uint8 (k, j, i) on another grid over the same extent.

    Axes that become shorter are reduced (see `reduce_labels`), along the others the nearest voxel
    is taken.
    """
    labels = reduce_labels(
        labels, tuple(min(n, m) for n, m in zip(labels.shape, shape, strict=True))
    )
    for axis, n in enumerate(shape):
        if labels.shape[axis] != n:
            labels = labels.take(np.arange(n) * labels.shape[axis] // n, axis)
    return np.ascontiguousarray(labels)


def slices_on(slices: list[AnnotatedSlice], shape: Triple, working: Triple) -> list[AnnotatedSlice]:
    """Annotated slices (whole planes) on another grid; shapes are (k, j, i).

    On a coarser grid slices that fall together count once, on a finer one the middle one of the
    planes that a slice became is taken.
    """
    found = set()
    for item in slices:
        axis = array_axis(item.axis)
        found.add(AnnotatedSlice(item.axis, coarse_index(item.index, shape[axis], working[axis])))
    return sorted(found)


def coarse_index(index, size: int, working: int):
    """Index on an axis of another size of the voxel that holds the middle of voxel `index`.

    Args:
        index: A number, or an array of integers.
        size: Voxels of the axis that it counts on.
        working: Voxels of the other axis, over the same extent.
    """
    return (2 * index + 1) * working // (2 * size)


def reduce_labels(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels on a coarser grid: in each coarse voxel the most frequent *labelled* class.

    A slice one voxel thick would be missed by nearest-neighbour sampling; here no labelled voxel
    is lost. Ties go to the higher label, so that thin structures survive against background.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled.
        shape: Of the coarser grid.
    """
    if tuple(labels.shape) == tuple(shape):
        return labels
    known = np.nonzero(labels != UNLABELLED)
    values = labels[known]
    coarse = np.ravel_multi_index(
        tuple(coarse_index(at, n, m) for at, n, m in zip(known, labels.shape, shape, strict=True)),
        shape,
    )
    out = np.full(int(np.prod(shape)), UNLABELLED, np.uint8)
    best = np.zeros(out.size, np.int32)
    for value in np.unique(values):
        votes = np.bincount(coarse[values == value], minlength=out.size)
        wins = (votes >= best) & (votes > 0)
        out[wins], best[wins] = value, votes[wins]
    return out.reshape(shape)


def grid_positions(indices: Sequence[torch.Tensor], shape: tuple[int, int, int]) -> torch.Tensor:
    """`position_channels` of a box: indices are its voxels along k, j and i."""
    at = torch.stack(torch.meshgrid(*(x.float() for x in indices), indexing="ij"), dim=-1)
    return position_channels(at, shape)


def position_channels(coordinates: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Position of each voxel in its volume, from -1 to 1: float32 (3, k, j, i).

    Args:
        coordinates: Voxel coordinates (k, j, i, 3).
        shape: Of the grid that they are on.
    """
    size = torch.tensor(shape, dtype=torch.float32, device=coordinates.device)
    return ((2 * coordinates + 1) / size - 1).movedim(-1, 0)

"""From a volume's voxels to what the network sees: normalised intensities on a working grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..annotation.composition import UNLABELLED

# Intensities beyond these percentiles are clipped: a few hot pixels or a metal implant must not
# set the scale for everything else.
CLIP = (0.1, 99.9)
SAMPLE = 2_000_000


@dataclass(frozen=True)
class Normalisation:
    """Per channel: clip to [low, high], subtract mean, divide by sd."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def measure(cls, image: np.ndarray) -> Normalisation:
        """From an image (c, k, j, i); large ones are sampled at regular intervals."""
        columns = []
        for channel in image:
            step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
            values = np.asarray(channel[::step, ::step, ::step], dtype=np.float64)
            low, high = np.percentile(values, CLIP)
            if high <= low:  # nearly constant: the few other values are all there is to see
                low, high = float(values.min()), float(values.max())
            clipped = values.clip(low, high)
            columns.append((float(low), float(high), float(clipped.mean()),
                            float(clipped.std()) or 1.0))
        return cls(*map(tuple, zip(*columns, strict=True)))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """float32 (c, k, j, i), zero mean and unit variance."""
        out = np.empty(image.shape, np.float32)
        for n, channel in enumerate(image):
            np.clip(channel, self.low[n], self.high[n], out=out[n], casting="unsafe")
            out[n] -= self.mean[n]
            out[n] /= self.sd[n]
        return out


@dataclass
class WorkingVolume:
    """A volume as the network sees it, on the device.

    image: float32 (c, k, j, i), normalised, on the working grid.  labels: uint8 (k, j, i) on the
    same grid.  spacing: mm along k, j, i of the working grid.  full_shape: the shape of the
    original grid; equal to the working shape when nothing was reduced.
    """

    image: torch.Tensor
    labels: torch.Tensor
    spacing: torch.Tensor
    full_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.labels.shape)


def working_volume(image: np.ndarray, labels: np.ndarray, spacing: tuple[float, float, float],
                   shape: tuple[int, int, int], normalisation: Normalisation,
                   device: torch.device) -> WorkingVolume:
    """Normalise and, where `shape` is smaller than the image's, reduce.

    image: (c, k, j, i).  labels: uint8 (k, j, i).  spacing: mm along k, j, i of the original.
    shape: of the working grid (k, j, i).
    """
    pixels = torch.from_numpy(normalisation.apply(image))
    full = tuple(labels.shape)
    if shape != full:
        # Area averaging is the right low-pass filter for a reduction, whole-numbered or not.
        pixels = F.interpolate(pixels[None], size=shape, mode="area")[0]
    reduced = reduce_labels(labels, shape)
    mm = torch.tensor([s * n / m for s, n, m in zip(spacing, full, shape, strict=True)])
    return WorkingVolume(pixels.to(device), torch.from_numpy(reduced).to(device),
                         mm.float(), full)


def reduce_labels(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels on a coarser grid: in each coarse voxel the most frequent *labelled* class.

    A slice one voxel thick would be missed by nearest-neighbour sampling; here no labelled voxel
    is lost. Ties go to the higher label, so that thin structures survive against background.
    labels: uint8 (k, j, i), 255 = unlabelled.  Returns uint8 of `shape`.
    """
    if tuple(labels.shape) == tuple(shape):
        return labels
    known = np.nonzero(labels != UNLABELLED)
    values = labels[known]
    coarse = np.ravel_multi_index(
        tuple(at * m // n for at, n, m in zip(known, labels.shape, shape, strict=True)), shape)
    out = np.full(int(np.prod(shape)), UNLABELLED, np.uint8)
    best = np.zeros(out.size, np.int32)
    for value in np.unique(values):
        votes = np.bincount(coarse[values == value], minlength=out.size)
        wins = (votes >= best) & (votes > 0)
        out[wins], best[wins] = value, votes[wins]
    return out.reshape(shape)


def position_channels(coordinates: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Where each voxel lies in its volume, from -1 to 1: float32 (3, k, j, i).

    coordinates: voxel coordinates (k, j, i, 3) on a grid of `shape`.
    """
    size = torch.tensor(shape, dtype=torch.float32, device=coordinates.device)
    return ((2 * coordinates + 1) / size - 1).movedim(-1, 0)

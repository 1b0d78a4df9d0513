"""Which patches to train on: each holds labelled voxels, and classes come in turn."""

from __future__ import annotations

import torch

from ..annotation.composition import UNLABELLED
from . import augmentation as aug
from .preprocess import WorkingVolume, position_channels

# A drawn voxel lands at most this share of half a patch away from the patch's centre, so that it
# stays inside when the elastic deformation moves it a little.
JITTER = 0.75


class Sampler:
    """Draws augmented training patches from working volumes.

    volumes: at least one with labelled voxels.  patch: (k, j, i) voxels.  position: append three
    channels that say where a voxel lies in its volume.
    """

    def __init__(self, volumes: list[WorkingVolume], classes: int, patch: tuple[int, int, int],
                 strength: aug.Strength, position: bool, generator: torch.Generator):
        self.volumes, self.classes, self.patch = volumes, classes, patch
        self.strength, self.position, self.generator = strength, position, generator
        self._index: list[list[torch.Tensor]] = []
        self.set_labels([v.labels for v in volumes])

    def set_labels(self, labels: list[torch.Tensor]) -> None:
        """Train on these labels, uint8 (k, j, i) per volume, from the next patch on."""
        self.labels = labels
        self._index = []
        for array in labels:
            known = torch.nonzero(array.flatten() != UNLABELLED)[:, 0]
            value = array.flatten()[known]
            self._index.append([known[value == c].cpu() for c in range(self.classes)])
        self._present = [[c for c in range(self.classes) if len(index[c])]
                         for index in self._index]
        self._usable = [n for n, present in enumerate(self._present) if present]
        if not self._usable:
            raise ValueError("no labelled voxel to train on")

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One patch: float32 (c, *patch) and labels uint8 (*patch)."""
        n = self._usable[self._integer(len(self._usable))]
        volume, labels = self.volumes[n], self.labels[n]
        kind = self._present[n][self._integer(len(self._present[n]))]
        index = self._index[n][kind]
        voxel = torch.tensor(
            [float(x) for x in _unravel(int(index[self._integer(len(index))]), labels.shape)])
        affine = aug.random_affine(self.strength, volume.spacing, self.generator)
        offsets = aug.elastic_offsets(self.patch, self.strength, volume.spacing, self.generator)
        centre = self._centre(voxel, affine, volume.shape)
        at = aug.sample_coordinates(centre, affine, offsets, self.patch, volume.image.device)
        pixels = aug.vary_intensity(aug.resample_image(volume.image, at), self.strength,
                                    self.generator)
        if self.position:
            pixels = torch.cat((pixels, position_channels(at, volume.shape)))
        return pixels, aug.resample_labels(labels, at)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (n, c, *patch) and labels uint8 (n, *patch)."""
        drawn = [self.draw() for _ in range(size)]
        return torch.stack([d[0] for d in drawn]), torch.stack([d[1] for d in drawn])

    def _centre(self, voxel: torch.Tensor, affine: torch.Tensor,
                shape: tuple[int, int, int]) -> torch.Tensor:
        """Where in the volume to put the patch's centre so that `voxel` lies inside the patch."""
        half = torch.tensor([(n - 1) / 2 for n in self.patch])
        offset = (2 * torch.rand(3, generator=self.generator) - 1) * half * JITTER
        centre = voxel - affine @ offset
        # Prefer a patch that does not hang over the border, where there is nothing to learn from.
        size = torch.tensor([float(n) for n in shape])
        low = torch.minimum(half, (size - 1) / 2)
        inner = torch.maximum(torch.minimum(centre, size - 1 - low), low)
        offset = torch.linalg.solve(affine, voxel - inner)
        return inner if bool((offset.abs() <= half * JITTER + 0.5).all()) else centre


def _unravel(index: int, shape) -> tuple[int, int, int]:
    index, i = divmod(index, shape[2])
    k, j = divmod(index, shape[1])
    return k, j, i

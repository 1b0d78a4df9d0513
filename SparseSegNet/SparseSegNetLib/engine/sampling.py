"""Which patches to train on: each holds labelled voxels, and classes come in turn."""

from __future__ import annotations

import torch

from ..annotation.composition import UNLABELLED
from ..annotation.slices import array_axis
from . import augmentation as aug
from .plan import Plan
from .preprocess import WorkingVolume, position_channels

# A drawn voxel lands at most this share of half a patch away from the patch's centre, so that
# the network sees something of its surroundings.
JITTER = 0.75


class Sampler:
    """Draws augmented training patches from working volumes.

    volumes: at least one with labelled voxels.  classes: with background.  plan: says how large
    a patch is, how far it is varied and what else the network sees.
    """

    def __init__(self, volumes: list[WorkingVolume], classes: int, plan: Plan,
                 generator: torch.Generator):
        self.classes, self.plan, self.generator = classes, plan, generator
        self.set_volumes(volumes)

    def set_volumes(self, volumes: list[WorkingVolume]) -> None:
        """Train on these volumes from the next patch on."""
        self.volumes = volumes
        self._quantiles = [aug.quantiles(v.image) for v in volumes] \
            if self.plan.strength.histogram else []
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
        """One patch: float32 (c, *plan.patch) and labels uint8 (*plan.output)."""
        n = self._usable[self._integer(len(self._usable))]
        volume, labels, plan = self.volumes[n], self.labels[n], self.plan
        kind = self._present[n][self._integer(len(self._present[n]))]
        index = self._index[n][kind]
        voxel = _unravel(int(index[self._integer(len(index))]), labels.shape)
        axes = self._axes(volume, voxel)
        spacing = volume.spacing[list(axes)]
        affine = aug.random_affine(plan.strength, spacing, self.generator)
        offsets = aug.elastic_offsets(plan.patch, plan.strength, spacing, self.generator,
                                      volume.image.device)
        if axes != (0, 1, 2):
            # The patch's axes are the volume's in another order: its first lies across the slice.
            order = torch.eye(3)[:, list(axes)]
            affine = order @ affine
            offsets = None if offsets is None else offsets @ order.T.to(offsets)
        at_voxel = torch.tensor(voxel, dtype=torch.float32)
        centre = self._centre(at_voxel, affine, axes, volume.shape)
        if offsets is not None:
            # The drawn voxel stays where it was put, however strong the deformation.
            place = torch.linalg.solve(affine, at_voxel - centre)
            offsets = offsets - offsets[tuple(
                min(max(0, round(float(x) + (n - 1) / 2)), n - 1)
                for x, n in zip(place, plan.patch, strict=True))]
        at = aug.sample_coordinates(centre, affine, offsets, plan.patch, volume.image.device)
        pixels = aug.resample_image(volume.image, at, plan.mirror)
        if self._quantiles:
            other = self._quantiles[self._integer(len(self._quantiles))]
            pixels = aug.match_histogram(pixels, self._quantiles[n], other)
        pixels = aug.vary_intensity(pixels, plan.strength, self.generator)
        if plan.position:
            pixels = torch.cat((pixels, position_channels(at, volume.shape)))
        inner = tuple(slice(m, m + size) for m, size in zip(plan.margin, plan.output, strict=True))
        return pixels, aug.resample_labels(labels, at[inner])

    def _axes(self, volume: WorkingVolume, voxel: tuple) -> tuple[int, int, int]:
        """Which axis of the volume each axis of the patch follows.

        A flat patch lies in an annotated slice through the voxel, in any plane if none is known.
        """
        if not self.plan.planar:
            return 0, 1, 2
        through = [array_axis(s.axis) for s in volume.slices
                   if voxel[array_axis(s.axis)] == s.index]
        across = through[self._integer(len(through))] if through else self._integer(3)
        return across, *(a for a in range(3) if a != across)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (n, c, *patch) and labels uint8 (n, *patch)."""
        drawn = [self.draw() for _ in range(size)]
        return torch.stack([d[0] for d in drawn]), torch.stack([d[1] for d in drawn])

    def _centre(self, voxel: torch.Tensor, affine: torch.Tensor, axes: tuple[int, int, int],
                shape: tuple[int, int, int]) -> torch.Tensor:
        """Where in the volume to put the patch's centre so that `voxel` lies inside the patch."""
        half = torch.tensor([(n - 1) / 2 for n in self.plan.output])
        reach = half * JITTER
        if self.plan.strength.translation is not None:
            reach = reach.clamp_max(self.plan.strength.translation)
        offset = (2 * torch.rand(3, generator=self.generator) - 1) * reach
        centre = voxel - affine @ offset
        # Prefer a patch that does not hang over the border, where there is nothing to learn from.
        size = torch.tensor([float(n) for n in shape])
        low = torch.minimum(half[[axes.index(a) for a in range(3)]], (size - 1) / 2)
        inner = torch.maximum(torch.minimum(centre, size - 1 - low), low)
        offset = torch.linalg.solve(affine, voxel - inner)
        return inner if bool((offset.abs() <= half * JITTER + 0.5).all()) else centre


def _unravel(index: int, shape) -> tuple[int, int, int]:
    index, i = divmod(index, shape[2])
    k, j = divmod(index, shape[1])
    return k, j, i

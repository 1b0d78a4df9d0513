"""Sampling of training patches: each holds labelled voxels, and classes come in turn."""

from __future__ import annotations

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import array_axis
from ..plan import Plan
from . import augmentation as aug
from .preprocessing import WorkingVolume, position_channels

# A drawn voxel lands at most this share of half a patch away from the patch's centre, so that
# the network sees something of its surroundings.
JITTER = 0.75
FAVOURED = 0.5  # share of patches around favoured voxels
FAVOURED_PATCHES = 1000


class Sampler:
    """Draws augmented training patches from working volumes.

    Args:
        volumes: At least one with labelled voxels.
        classes: Labels with background.
        plan: Gives the patch, the augmentation and further channels.
        generator: Of random numbers.
    """

    def __init__(
        self, volumes: list[WorkingVolume], classes: int, plan: Plan, generator: torch.Generator
    ):
        self.classes, self.plan, self.generator = classes, plan, generator
        self._favoured: tuple[torch.Tensor, int | None] | None = None
        self._favoured_left = 0
        self.set_volumes(volumes)

    def set_volumes(self, volumes: list[WorkingVolume]) -> None:
        """Uses these volumes from the next patch on."""
        self.volumes = volumes
        self._quantiles = (
            [aug.quantiles(v.image) for v in volumes] if self.plan.strength.histogram else []
        )
        self.set_labels([v.labels for v in volumes])

    def move(self, volumes: list[WorkingVolume], device: torch.device) -> None:
        """Uses the same volumes, which are on another device now."""
        self.volumes, self.labels = volumes, [v.labels for v in volumes]
        self._quantiles = [q.to(device) for q in self._quantiles]
        if self._favoured is not None:
            self._favoured = self._favoured[0].to(device), self._favoured[1]

    def set_labels(self, labels: list[torch.Tensor]) -> None:
        """Uses these labels, uint8 (k, j, i) per volume, from the next patch on."""
        self.labels = labels
        self._index = [self._by_class(a, a.flatten() != UNLABELLED) for a in labels]
        if not any(self._index):
            raise ValueError("no labelled voxel to train on")
        self._find_favoured()

    def _by_class(self, labels: torch.Tensor, chosen: torch.Tensor) -> list[torch.Tensor]:
        """Flat indices, on the CPU, of the chosen voxels of each class that has any."""
        at = torch.nonzero(chosen)[:, 0]
        value = labels.flatten()[at]
        found = [at[value == c].cpu() for c in range(self.classes)]
        return [index for index in found if len(index)]

    def favour(self, voxels: torch.Tensor, number: int | None = None) -> None:
        """Draws the next patches around these voxels more often, where they are labelled.

        Args:
            voxels: Boolean (k, j, i).
            number: Of the volume that is meant; None for all, which are on one grid.
        """
        self.favoured = voxels.flatten(), number, FAVOURED_PATCHES

    @property
    def favoured(self) -> tuple[torch.Tensor, int | None, int] | None:
        """Favoured voxels, flat, their volume's number, and for how many patches; None if none."""
        return None if self._favoured is None else (*self._favoured, self._favoured_left)

    @favoured.setter
    def favoured(self, value: tuple[torch.Tensor, int | None, int] | None) -> None:
        self._favoured = None if value is None else value[:2]
        self._favoured_left = 0 if value is None else value[2]
        self._find_favoured()

    def _find_favoured(self) -> None:
        self._favourites: list[list[torch.Tensor]] = []
        if self._favoured is None or self._favoured_left <= 0:
            return
        voxels, number = self._favoured
        self._favourites = [
            self._by_class(a, voxels & (a.flatten() != UNLABELLED)) if number in (None, n) else []
            for n, a in enumerate(self.labels)
        ]

    def _index_to_draw_from(self) -> list[list[torch.Tensor]]:
        if self._favoured_left > 0:
            self._favoured_left -= 1
            if any(self._favourites) and float(torch.rand((), generator=self.generator)) < FAVOURED:
                return self._favourites
        return self._index

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
        """Draws a patch: float32 (c, *plan.patch), labels uint8 (*plan.output), unknown classes."""
        table = self._index_to_draw_from()
        usable = [n for n, classes in enumerate(table) if classes]
        n = usable[self._integer(len(usable))]
        index = table[n][self._integer(len(table[n]))]
        volume, plan = self.volumes[n], self.plan
        voxel = _unravel(int(index[self._integer(len(index))]), volume.shape)
        axes = self._axes(volume, voxel)
        spacing = volume.spacing[list(axes)]
        affine = aug.random_affine(plan.strength, spacing, self.generator)
        offsets = aug.elastic_offsets(
            plan.patch, plan.strength, spacing, self.generator, volume.device
        )
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
            offsets = (
                offsets
                - offsets[
                    tuple(
                        min(max(0, round(float(x) + (n - 1) / 2)), n - 1)
                        for x, n in zip(place, plan.patch, strict=True)
                    )
                ]
            )
        at = aug.sample_coordinates(centre, affine, offsets, plan.patch, volume.device)
        inner = tuple(slice(m, m + size) for m, size in zip(plan.margin, plan.output, strict=True))
        pixels, labels = self._resampled(n, at, inner)
        if self._quantiles:
            other = self._quantiles[self._integer(len(self._quantiles))]
            pixels = aug.match_histogram(pixels, self._quantiles[n], other)
        pixels = aug.vary_intensity(pixels, plan.strength, self.generator)
        if plan.position:
            pixels = torch.cat((pixels, position_channels(at, volume.shape)))
        return pixels, labels, volume.unknown

    def _resampled(
        self, number: int, at: torch.Tensor, inner: tuple[slice, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and labels of a volume at coordinates (k, j, i, 3); labels in `inner` alone."""
        volume, labels = self.volumes[number], self.labels[number]
        pixels = aug.resample_image(volume.image, at, self.plan.mirror)
        return pixels, aug.resample_labels(labels, at[inner])

    def _axes(self, volume: WorkingVolume, voxel: tuple) -> tuple[int, int, int]:
        """The axis of the volume that each axis of the patch follows.

        A flat patch lies in an annotated slice through the voxel, in any plane if none is known.
        """
        if not self.plan.planar:
            return 0, 1, 2
        through = [
            array_axis(s.axis) for s in volume.slices if voxel[array_axis(s.axis)] == s.index
        ]
        across = through[self._integer(len(through))] if through else self._integer(3)
        return across, *(a for a in range(3) if a != across)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Draws a batch.

        Args:
            size: Patches, n.

        Returns:
            float32 (n, c, *plan.patch), labels uint8 (n, *plan.output), and boolean (n, classes):
            the classes that the annotation of each patch does not tell from the background, None
            where all tell all.
        """
        pixels, labels, unknown = zip(*(self.draw() for _ in range(size)), strict=True)
        table = None
        if any(unknown):
            table = torch.zeros(size, self.classes, dtype=torch.bool)
            for row, classes in zip(table, unknown, strict=True):
                row[list(classes)] = True
            table = table.to(pixels[0].device)
        return torch.stack(pixels), torch.stack(labels), table

    def _centre(
        self,
        voxel: torch.Tensor,
        affine: torch.Tensor,
        axes: tuple[int, int, int],
        shape: tuple[int, int, int],
    ) -> torch.Tensor:
        """Centre of a patch, in voxels of the volume, so that `voxel` lies inside the patch."""
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

"""Sampling of training patches: each holds labelled voxels, and classes come in turn."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.slices import array_axis
from ..compute.sending import sent
from ..plan import Plan
from . import augmentation as aug
from .deformation import bspline_fields
from .draws import Draws, placed, varied
from .preprocessing import WorkingVolume

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
            torch.stack([aug.quantiles(v.image) for v in volumes])
            if self.plan.strength.histogram
            else None
        )
        self.set_labels([v.labels for v in volumes])

    def move(self, volumes: list[WorkingVolume], device: torch.device) -> None:
        """Uses the same volumes, which are on another device now."""
        self.volumes, self.labels = volumes, [v.labels for v in volumes]
        self._quantiles = None if self._quantiles is None else self._quantiles.to(device)
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

    def _draw(self, draws: Draws) -> None:
        """Draws the random numbers of one more patch."""
        table = self._index_to_draw_from()
        usable = [n for n, classes in enumerate(table) if classes]
        n = usable[self._integer(len(usable))]
        index = table[n][self._integer(len(table[n]))]
        volume = self.volumes[n]
        voxel = _unravel(int(index[self._integer(len(index))]), volume.shape)
        draws.geometry(n, voxel, self._axes(volume, voxel), self.plan, self.generator)
        if self._quantiles is not None:
            draws.targets.append(self._integer(len(self._quantiles)))
        draws.intensity(volume.channels, self.plan.strength, self.generator)

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
        draws = Draws()
        for _ in range(size):
            self._draw(draws)
        return self.cut(draws)

    def cut(self, draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Cuts patches out of the volumes and augments them, see `batch`.

        Args:
            draws: Their random numbers.
        """
        plan, device = self.plan, self.volumes[0].device
        here = placed(draws, self.volumes, plan) | varied(draws, plan.strength)
        here |= self._rows(draws) | self._unknown(draws)
        there = sent(here, device)
        fields = None
        if "controls" in there:
            fields = bspline_fields(there["controls"], plan.patch, plan.strength.elastic_grid)
            fixed = there["fixed"][:, None, None].expand(-1, 3, 1)
            fields = fields - fields.flatten(2).gather(2, fixed)[..., None, None]
        at = aug.sample_coordinates(there["centres"], there["affines"], fields, plan.patch)
        relative = aug.relative_coordinates(at, there["sizes"])
        inner = tuple(slice(m, m + size) for m, size in zip(plan.margin, plan.output, strict=True))
        pixels, labels = self._resampled(there, at, relative, inner)
        if self._quantiles is not None:
            source, target = self._quantiles[there["source"]], self._quantiles[there["target"]]
            pixels = aug.match_histogram(pixels, source, target)
        pixels = self._varied(pixels, there, [s for s in draws.seeds if s is not None])
        if plan.position:
            pixels = torch.cat((pixels, relative.movedim(-1, 1)), dim=1)
        return pixels, labels, there.get("unknown")

    def _resampled(
        self,
        there: dict[str, torch.Tensor],
        at: torch.Tensor,
        relative: torch.Tensor,
        inner: tuple[slice, ...],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of patches.

        Args:
            there: See `_rows` and `placed`.
            at: Coordinates (n, k, j, i, 3) in voxels of their volumes.
            relative: The same from -1 to 1.
            inner: The part of a patch whose labels are wanted.
        """
        places = aug.label_places(at[:, *inner], there["sizes"])
        pixels = self._from_each(
            there,
            relative,
            lambda n, at: aug.resample_image(self.volumes[n].image, at, self.plan.mirror),
        )
        labels = self._from_each(
            there, places, lambda n, at: aug.resample_labels(self.labels[n], at)
        )
        return pixels, labels

    def _rows(self, draws: Draws) -> dict[str, torch.Tensor]:
        """The patches that are cut from each volume, by its number; those of the histograms."""
        numbers = torch.tensor(draws.numbers)
        found = {f"from {n}": torch.nonzero(numbers == n)[:, 0] for n in sorted(set(draws.numbers))}
        if self._quantiles is not None:
            found |= {"source": numbers, "target": torch.tensor(draws.targets)}
        return found

    def _unknown(self, draws: Draws) -> dict[str, torch.Tensor]:
        unknown = [self.volumes[n].unknown for n in draws.numbers]
        if not any(unknown):
            return {}
        table = torch.zeros(len(unknown), self.classes, dtype=torch.bool)
        for row, classes in zip(table, unknown, strict=True):
            row[list(classes)] = True
        return {"unknown": table}

    def _from_each(
        self,
        there: dict[str, torch.Tensor],
        at: torch.Tensor,
        cut: Callable[[int, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Cuts patches (n, ...) volume by volume, in one operation each."""
        out = None
        for n in range(len(self.volumes)):
            rows = there.get(f"from {n}")
            if rows is None:
                continue
            if len(rows) == len(at):
                return cut(n, at)
            found = cut(n, at.index_select(0, rows))
            if out is None:
                out = found.new_empty((len(at), *found.shape[1:]))
            out.index_copy_(0, rows, found)
        assert out is not None
        return out

    def _varied(
        self, pixels: torch.Tensor, there: dict[str, torch.Tensor], seeds: list[int]
    ) -> torch.Tensor:
        noise = None
        if seeds:
            drawn = aug.normal_noise(seeds, self.plan.patch, pixels.device)
            noise = there["noisy"], drawn * there["noise"][:, None, None, None]
        return aug.vary_intensity(
            pixels, there["factors"], there["shifts"], (there["changed"], there["powers"]), noise
        )


def _unravel(index: int, shape) -> tuple[int, int, int]:
    index, i = divmod(index, shape[2])
    k, j = divmod(index, shape[1])
    return k, j, i

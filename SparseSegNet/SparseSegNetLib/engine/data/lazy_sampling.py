"""Sampling of training patches from volumes that are read box by box."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...annotation.geometry import Triple, triple
from ..plan import Plan
from . import augmentation as aug
from .lazy_volume import LazyVolume
from .sampling import Sampler

KEPT_BATCHES = 16  # for which the same blocks are drawn from; then some are exchanged


class LazySampler(Sampler):
    """Draws patches as `Sampler` does, around labelled voxels of some blocks at a time.

    Patches at random places of a large volume would read a new chunk each. Instead a few blocks per
    class are drawn from for a while; then one block of each class makes room for the next one, in a
    random order in which each comes once. Where there are no more blocks than that, the patches are
    those of `Sampler`.

    Args:
        volumes: The volumes, on one grid with the same blocks.
        classes: Labels with background.
        plan: Gives the patch, the augmentation and further channels; not of a planar network.
        generator: Of random numbers.
        most_blocks: Blocks that are drawn from at a time, about.
        seed: Of the order of the blocks.

    Attributes:
        batches: Batches that were drawn; a resumed training sets it to its number of steps.
    """

    def __init__(
        self,
        volumes: Sequence[LazyVolume],
        classes: int,
        plan: Plan,
        generator: torch.Generator,
        most_blocks: int,
        seed: int,
    ):
        self.most_blocks, self.seed, self.batches = most_blocks, seed, 0
        self.window: set[int] = set()
        super().__init__(list(volumes), classes, plan, generator)

    def set_volumes(self, volumes) -> None:
        """Uses these volumes from the next patch on."""
        self.volumes = volumes
        self._quantiles = None
        self._tables: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._orders = []
        for number in range(self.classes):
            every = sorted({b for volume in volumes for b in volume.blocks[number]})
            order = torch.randperm(
                len(every), generator=torch.Generator().manual_seed(self.seed + number)
            )
            self._orders.append([every[n] for n in order.tolist()])
        if not any(self._orders):
            raise ValueError("no labelled voxel to train on")
        self._move_to(self._wanted())

    def _wanted(self) -> set[int]:
        """The blocks that are drawn from now."""
        each = max(1, self.most_blocks // max(1, sum(map(bool, self._orders))))
        if len({b for order in self._orders for b in order}) <= self.most_blocks:
            return {b for order in self._orders for b in order}
        first = self.batches // KEPT_BATCHES
        return {
            order[(first + n) % len(order)]
            for order in self._orders
            for n in range(min(each, len(order)))
        }

    def _move_to(self, window: set[int]) -> None:
        """Draws from these blocks."""
        self.window = window
        self._tables = {
            block: self._tables.get(block) or [volume.labelled(block) for volume in self.volumes]
            for block in sorted(window)
        }
        self._index = []
        for number in range(len(self.volumes)):
            places = torch.cat([table[number][0] for table in self._tables.values()])
            labels = torch.cat([table[number][1] for table in self._tables.values()])
            places, order = places.sort()
            labels = labels[order]
            tables = [places[labels == c] for c in range(self.classes)]
            self._index.append([table for table in tables if len(table)])

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Draws a batch, see `Sampler.batch`."""
        if (wanted := self._wanted()) != self.window:
            self._move_to(wanted)
        self.batches += 1
        return super().batch(size)

    def _resampled(
        self,
        there: dict[str, torch.Tensor],
        at: torch.Tensor,
        relative: torch.Tensor,
        inner: tuple[slice, ...],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        number = {
            row: n
            for n in range(len(self.volumes))
            for row in there.get(f"from {n}", torch.zeros(0)).tolist()
        }
        boxes = [around(patch, self.volumes[number[row]].shape) for row, patch in enumerate(at)]
        found = {}
        # Those that lie beside each other are read one after the other.
        for row in sorted(number, key=lambda row: boxes[row]):
            low, high = boxes[row]
            part = self.volumes[number[row]].box(low, high)
            size = torch.tensor([part.labels.shape], device=at.device)
            local = at[row : row + 1] - torch.tensor(low, dtype=at.dtype, device=at.device)
            pixels = aug.resample_image(
                part.image, aug.relative_coordinates(local, size), self.plan.mirror
            )
            places = aug.label_places(local[:, *inner], size)
            found[row] = pixels, aug.resample_labels(part.labels, places)
        rows = [found[row] for row in sorted(found)]
        return torch.cat([image for image, _ in rows]), torch.cat([label for _, label in rows])


def around(at: torch.Tensor, shape: Triple) -> tuple[Triple, Triple]:
    """The box of a grid of that shape (k, j, i) that samples at coordinates (..., 3) look at.

    It begins at even voxels, so that halves are rounded as they are in the whole.
    """
    flat = at.reshape(-1, 3)
    least, most = flat.amin(dim=0).floor().tolist(), flat.amax(dim=0).ceil().tolist()
    low = [min(max(0, int(a) - 1), n - 1) // 2 * 2 for a, n in zip(least, shape, strict=True)]
    high = [max(a + 1, min(n, int(b) + 2)) for a, b, n in zip(low, most, shape, strict=True)]
    return triple(low), triple(high)

"""A working volume that is never in memory as a whole: boxes of it are made as they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice
from .preprocessing import Part, WorkingVolume


@dataclass(eq=False)
class LazyVolume(ABC):
    """The part of a `WorkingVolume` that a training needs; a subclass reads the boxes.

    Attributes:
        shape: The working grid (k, j, i).
        spacing: (3,) mm along k, j, i.
        channels: Channels of the image, with those of a prior.
        device: Of the boxes.
        slices: None are known here.
        unknown: Classes that the annotation does not tell from the background: none.
    """

    shape: Triple
    spacing: torch.Tensor
    channels: int
    device: torch.device
    slices: list[AnnotatedSlice] = field(default_factory=list)
    unknown: tuple[int, ...] = ()

    @abstractmethod
    def image_in(self, low: Triple, high: Triple) -> torch.Tensor:
        """The image float32 (c, k, j, i) of the box [low, high), normalised, on the device."""

    @abstractmethod
    def labels_in(self, low: Triple, high: Triple) -> torch.Tensor:
        """The labels uint8 (k, j, i) of the box [low, high), on the device."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[Sequence[int]]:
        """For each class the numbers of the blocks with labelled voxels of it, in rising order."""

    @abstractmethod
    def labelled(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Places, as flat indices (n,) in rising order, and classes (n,) in a block."""

    def box(self, low: Triple, high: Triple, labels: bool = True) -> WorkingVolume:
        """The box [low, high) as a part of a working volume.

        Args:
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i).
            labels: Whether labels are wanted; else all voxels are unlabelled.
        """
        image = self.image_in(low, high)
        return WorkingVolume(
            image,
            self.labels_in(low, high)
            if labels
            else torch.full(image.shape[1:], UNLABELLED, dtype=torch.uint8, device=self.device),
            self.spacing,
            self.shape,
            part=Part(low, self.shape),
        )

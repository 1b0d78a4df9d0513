"""The volumes of a run while it trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...annotation.composition import UNLABELLED, check_trainable
from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice
from ...errors import InputError
from ...runfolder.folder import RunFolder
from ..plan import Fingerprint, Plan
from .bias_field import correct_bias
from .preprocessing import Normalisation, WorkingVolume, labels_on, slices_on, working_volume

SAME_SPACING = 0.05  # spacings that differ by less count as the same


class Inputs:
    """The run's volumes and their labels. Numbers count from 0 here, from 1 in the folder.

    Args:
        folder: The run folder.

    Attributes:
        items: All volumes.
        trained: The numbers of the annotated ones, in the order in which a trainer has them.

    Raises:
        InputError: The volumes cannot be trained on.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.items = [folder.read_input(n + 1, mapped=True) for n in range(folder.count)]
        self.trained = [n for n, item in enumerate(self.items) if (item.labels != UNLABELLED).any()]
        self._check([item.labels for item in self.items])
        for number, item in enumerate(self.items, start=1):
            if item.image.dtype.kind == "f" and not np.isfinite(item.image).all():
                raise InputError(
                    f"input {number} has voxels that are not finite (NaN or "
                    "infinite): replace them first."
                )

    def _check(self, labels: list[np.ndarray]) -> None:
        check_trainable(np.concatenate([np.unique(array) for array in labels]), self.folder.names)

    def prepare(self, n4: bool, check: Callable[[], None]) -> None:
        """Corrects the bias field where wanted, and measures the intensities.

        Args:
            n4: Whether to correct the bias field.
            check: Called in between; it may raise to stop.
        """
        if n4:
            for item in self.items:
                item.image = correct_bias(item.image, item.geometry.spacing_kji, check)
        self.normalisations = [
            Normalisation.measure(item.image, item.labels) for item in self.items
        ]

    def fingerprint(self, classes: int) -> Fingerprint:
        """Fingerprint of the first annotated volume."""
        item = self.items[self.trained[0]]
        return Fingerprint.of(
            item.labels,
            item.geometry.spacing_kji,
            item.image.shape[0],
            classes,
            len(item.slices),
            len(self.items),
        )

    def volume(self, number: int, shape: Triple, device: torch.device) -> WorkingVolume:
        """A volume on a working grid of this shape (k, j, i)."""
        return working_volume(self.items[number], shape, self.normalisations[number], device)

    def volume_like(self, number: int, plan: Plan, device: torch.device) -> WorkingVolume:
        """Another volume on a working grid with the plan's spacing.

        Its own grid if that is nearly the same.
        """
        item = self.items[number]
        shape, spacing = item.labels.shape, item.geometry.spacing_kji
        wanted = tuple(
            max(1, round(n * s / mm)) for n, s, mm in zip(shape, spacing, plan.spacing, strict=True)
        )
        near = all(
            abs(s / mm - 1) < SAME_SPACING for s, mm in zip(spacing, plan.spacing, strict=True)
        )
        return self.volume(number, shape if near else wanted, device)

    def reread(self, number: int) -> None:
        """Reads labels that were changed in the folder.

        Raises:
            InputError: Nothing could be trained on any more; the labels stay as they were.
        """
        labels, slices = self.folder.read_labels(number + 1), self.folder.read_slices(number + 1)
        self._check([labels if n == number else item.labels for n, item in enumerate(self.items)])
        self.items[number].labels, self.items[number].slices = labels, slices

    def labels_for(
        self, number: int, volume: WorkingVolume
    ) -> tuple[torch.Tensor, list[AnnotatedSlice]]:
        """The labels as they are now, uint8 (k, j, i), and the slices, on a working grid."""
        item = self.items[number]
        labels = torch.from_numpy(labels_on(item.labels, volume.shape)).to(volume.labels.device)
        return labels, slices_on(item.slices, item.labels.shape, volume.shape)

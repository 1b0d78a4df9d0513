"""The volumes of a run while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ...annotation.composition import UNLABELLED, check_trainable
from ...annotation.geometry import Triple
from ...annotation.orientation import Turn, orientation_of
from ...annotation.slices import AnnotatedSlice
from ...errors import InputError
from ...runfolder.folder import RunFolder
from ...runfolder.run_input import RunInput
from ..plan import Fingerprint, Plan
from .bias_field import correct_bias
from .external_prior import ExternalPrior
from .intensity_standard import IntensityStandard
from .preprocessing import (
    Normalisation,
    WorkingVolume,
    labels_on,
    resampled,
    slices_on,
    working_volume,
)

HALF = 0.5  # of a voxel, of which an external prior says something
SAME_SPACING = 0.05  # spacings that differ by less count as the same


class Inputs:
    """The run's volumes and their labels. Numbers count from 0 here, from 1 in the folder.

    Args:
        folder: The run folder.
        orientation: Anatomical directions of i, j and k that all volumes are turned to; None
            leaves each as it is.

    Attributes:
        items: All volumes, turned.
        turns: How each was turned.
        standard: The normalisation that holds for all volumes; None where each has its own.
        trained: The numbers of the annotated ones, in the order in which a trainer has them.

    Raises:
        InputError: The volumes cannot be trained on.
    """

    def __init__(self, folder: RunFolder, orientation: str | None = None):
        self.folder = folder
        items = [folder.read_input(n + 1, mapped=True) for n in range(folder.count)]
        own = [orientation_of(item.geometry) for item in items]
        self.turns = [Turn.between(letters, orientation or letters) for letters in own]
        self.items = [turned(item, turn) for item, turn in zip(items, self.turns, strict=True)]
        self.standard: IntensityStandard | None = None
        self.trained = [n for n, item in enumerate(self.items) if (item.labels != UNLABELLED).any()]
        if folder.task != "segment":
            self._check([item.labels for item in self.items])
        for number, item in enumerate(self.items, start=1):
            if item.image.dtype.kind == "f" and not np.isfinite(item.image).all():
                raise InputError(
                    f"input {number} has voxels that are not finite (NaN or "
                    "infinite): replace them first."
                )

    def _check(self, labels: list[np.ndarray]) -> None:
        check_trainable(np.concatenate([np.unique(array) for array in labels]), self.folder.names)

    def prepare(
        self,
        n4: bool,
        check: Callable[[], None],
        standard: Callable[[list[np.ndarray]], IntensityStandard] | None = None,
    ) -> None:
        """Corrects the bias field where wanted, and measures the intensities.

        Args:
            n4: Whether to correct the bias field.
            check: Called in between; it may raise to stop.
            standard: Gives the normalisation that holds for all volumes from their images; None
                normalises each by itself.
        """
        if n4:
            for item in self.items:
                item.image = correct_bias(item.image, item.geometry.spacing_kji, check)
        if standard is not None:
            self.standard = standard([item.image for item in self.items])
        self.normalisations = [
            Normalisation.measure(item.image, item.labels)
            if self.standard is None
            else self.standard.normalisation_of(item.image)
            for item in self.items
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
        item = self.items[number]
        normalised = self.normalisations[number].apply(item.image)
        if self.standard is not None:
            normalised = self.standard.matched(normalised)
        volume = working_volume(item, shape, normalised, device)
        if item.classes is None:
            return volume
        unknown = set(range(1, len(self.folder.segments) + 1)) - set(item.classes)
        return replace(volume, unknown=tuple(sorted(unknown)))

    def external(self, number: int, shape: Triple, device: torch.device) -> ExternalPrior | None:
        """The external prior of a volume on a working grid of this shape, if it has one."""
        item = self.items[number]
        if item.prior is None:
            return None
        found = torch.zeros((len(self.folder.segments) + 1, *shape), device=device)
        part = item.prior_known is not None
        told = torch.zeros((len(found) - 1, *shape), dtype=torch.bool, device=device)
        for place, label in enumerate(item.prior_classes):
            pixels = torch.from_numpy(item.prior[place].astype(np.float32)) / 255
            if not part:
                found[label] = resampled(pixels[None], shape)[0].to(device)
                continue
            # The mean of what is known within a voxel.
            known = torch.from_numpy(item.prior_known[place] != 0).float()
            pixels, known = resampled(torch.stack((pixels * known, known)), shape).to(device)
            told[label - 1] = known > HALF
            found[label] = torch.where(told[label - 1], pixels / known.clamp_min(HALF), 0)
        found /= found.sum(dim=0).clamp_min(1.0)
        found[0] = 1 - found.sum(dim=0)
        if not part:
            return ExternalPrior.everywhere(found.half(), item.prior_classes)
        return ExternalPrior(found.half(), told)

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
        turn = self.turns[number]
        if not turn.identity:
            labels, slices = turn.array(labels), turn.slices(slices, labels.shape)
        self._check([labels if n == number else item.labels for n, item in enumerate(self.items)])
        self.items[number].labels, self.items[number].slices = labels, slices

    def labels_for(
        self, number: int, volume: WorkingVolume
    ) -> tuple[torch.Tensor, list[AnnotatedSlice]]:
        """The labels as they are now, uint8 (k, j, i), and the slices, on a working grid."""
        item = self.items[number]
        labels = torch.from_numpy(labels_on(item.labels, volume.shape)).to(volume.labels.device)
        return labels, slices_on(item.slices, item.labels.shape, volume.shape)

    def turned_back(self, number: int, array: np.ndarray) -> np.ndarray:
        """An array (k, j, i) of a volume as the run folder has it, a copy where it is turned."""
        turn = self.turns[number]
        return array if turn.identity else np.ascontiguousarray(turn.back(array))


def turned(item: RunInput, turn: Turn) -> RunInput:
    """The volume with its axes turned; arrays are views."""
    if turn.identity:
        return item
    shape = item.geometry.shape
    wanted = item.predict
    return replace(
        item,
        image=turn.array(item.image),
        labels=turn.array(item.labels),
        geometry=turn.geometry(item.geometry),
        slices=turn.slices(item.slices, shape),
        predict=None if wanted is None else turn.slices(wanted, shape),
        prior=None if item.prior is None else turn.array(item.prior),
        prior_known=None if item.prior_known is None else turn.array(item.prior_known),
    )

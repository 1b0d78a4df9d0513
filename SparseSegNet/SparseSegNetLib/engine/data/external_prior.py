"""Class probabilities of a volume that come from elsewhere, perhaps of a part of it alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ExternalPrior:
    """Class probabilities that come from elsewhere and had not seen the annotation.

    Attributes:
        probabilities: float16 (classes, k, j, i) on the working grid.
        known: Where they tell a foreground class from the background, boolean
            (classes - 1, k, j, i), or (classes - 1, 1, 1, 1) where that is the same everywhere.
    """

    probabilities: torch.Tensor
    known: torch.Tensor

    @classmethod
    def everywhere(cls, probabilities: torch.Tensor, classes: tuple[int, ...]) -> ExternalPrior:
        """One that tells the same classes from the background in the whole volume."""
        known = torch.zeros(len(probabilities) - 1, dtype=torch.bool, device=probabilities.device)
        known[[n - 1 for n in classes]] = True
        return cls(probabilities, known.view(-1, 1, 1, 1))

    @property
    def partial(self) -> bool:
        """True if there are voxels of which it says nothing at all."""
        return not bool(self.known.any(dim=0).all())

    def to(self, device: torch.device | str) -> ExternalPrior:
        """The same on another device."""
        return replace(
            self, probabilities=self.probabilities.to(device), known=self.known.to(device)
        )

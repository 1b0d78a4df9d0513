"""A prior as inputs of a network: the probabilities of the foreground classes, behind the image."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..data.preprocessing import WorkingVolume


def prior_channels(classes: int) -> int:
    """Number of channels that a stack adds: probabilities of the foreground classes."""
    return classes - 1


def prior_of(volume: WorkingVolume, classes: int, at: tuple = ()) -> torch.Tensor:
    """Class probabilities float32 (classes, k, j, i) that a stack gave a volume.

    Args:
        volume: With the channels of a prior.
        classes: Labels with background.
        at: An index expression for (k, j, i), such as a slice's selector; then (classes, ...).
    """
    found = volume.image[-prior_channels(classes) :][(slice(None), *at)]
    return with_background(found)


def with_background(found: torch.Tensor) -> torch.Tensor:
    """Class probabilities (classes, ...) of those of the foreground classes (classes - 1, ...)."""
    return torch.cat((1 - found.sum(dim=0, keepdim=True), found))


def with_empty_prior(volume: WorkingVolume, classes: int) -> WorkingVolume:
    """The volume with the channels of a prior that is background everywhere."""
    empty = volume.image.new_zeros((prior_channels(classes), *volume.shape))
    return replace(volume, image=torch.cat((volume.image, empty)))

"""Warm start: what a model of other volumes predicts is an external prior of the volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...annotation.geometry import Triple
from ...annotation.merging import matching
from ...annotation.orientation import Turn, orientation_of
from ...errors import InputError
from ..compute.boxes import working_shape
from ..data.bias_field import correct_bias
from ..data.external_prior import ExternalPrior
from ..data.inputs import Inputs, turned
from ..data.preprocessing import resampled, working_volume
from ..prediction.model import Model, grid_of


def predicted_by(
    path: Path,
    inputs: Inputs,
    number: int,
    shape: Triple,
    most_voxels: float,
    device: torch.device,
    step: Callable[[float], None],
) -> ExternalPrior:
    """Predicts an annotated volume by a model that has not seen it.

    Args:
        path: The model file.
        inputs: The run's volumes.
        number: Of the volume.
        shape: Of its working grid (k, j, i).
        most_voxels: Most voxels of the grid that the model works on.
        device: That it works on.
        step: Called with the share done; it may raise to stop.

    Returns:
        Its prediction on the working grid.

    Raises:
        InputError: It is no model, or one of other channels or segments.
    """
    model = Model.load(path, device)
    item, segments = inputs.items[number], inputs.folder.segments
    if len(item.image) != len(model.description.channels):
        raise InputError(
            f"the image has {len(item.image)} channels and the model {path.name} was trained on "
            f"{len(model.description.channels)}: start from a model of the same channels."
        )
    numbers = matching(segments, model.description.segments)
    if not any(numbers):
        raise InputError(
            f"the model {path.name} knows none of the segments "
            f"{', '.join(s.name for s in segments)}: it has "
            f"{', '.join(s.name for s in model.description.segments)}. Give them the same names."
        )
    turn = Turn.between(orientation_of(item.geometry), model.description.orientation)
    item = turned(item, turn)
    image = item.image
    if model.n4 and not inputs.folder.options.n4:
        image = correct_bias(image, item.geometry.spacing_kji, lambda: step(0.0))
    normalised = model.intensities.matched(model.intensities.normalisation_of(image).apply(image))
    grid = grid_of(item.labels.shape, item.geometry.spacing_kji, model.spacing)
    volume = working_volume(
        item, working_shape(grid, model.spacing, most_voxels), normalised, device
    )
    found = model.probabilities(volume, step)
    back = turn.inverse
    found = found.permute(0, *(1 + axis for axis in back.order))
    found = found.flip([1 + axis for axis, backwards in enumerate(back.reversed) if backwards])
    found = resampled(found, shape)
    own = torch.zeros((len(segments) + 1, *shape))
    for place, mine in enumerate(numbers, start=1):
        if mine:
            own[mine] += found[place]
    own[0] = 1 - own.sum(dim=0)
    known = tuple(sorted({n for n in numbers if n}))
    return ExternalPrior.everywhere(own.clamp_min(0).half().to(device), known)

"""Checks that a model fits an image: what would silently give a wrong result is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..annotation.channel_order import channel_order, missing_channel
from ..annotation.geometry import Geometry
from ..annotation.hounsfield import looks_like_ct
from ..annotation.merging import matching
from ..annotation.orientation import Turn, obliqueness, orientation_of
from ..annotation.segments import Segment
from ..errors import InputError
from ..units import counted
from .model_description import ModelDescription

ACCEPTABLE = ("spacing", "intensities", "orientation")
MOST_OFF = 1.5 + 1e-3  # times that the spacing may be off the training set's
STEEPEST = 35.0  # degrees between an axis and the nearest anatomical one; beyond 45 it is another


def check_compatible(
    model: ModelDescription,
    name: str,
    image: np.ndarray,
    geometry: Geometry,
    channels: Sequence[str],
    accept: Collection[str] = (),
) -> tuple[list[int], list[str]]:
    """Checks that a model can be applied to an image.

    An image with its axes in another order or direction passes: it is turned for the model.

    Args:
        model: The model.
        name: Name of the image, for messages.
        image: (c, k, j, i), any real dtype.
        geometry: The image's grid.
        channels: The name of each channel.
        accept: Names of ACCEPTABLE: differences that the user has accepted.

    Returns:
        For each channel of the model the place of the image's, and messages for the user.

    Raises:
        InputError: The image has another number of channels, or differs in what was not accepted.
    """
    if unknown := sorted(set(accept) - set(ACCEPTABLE)):
        raise InputError(f"'{unknown[0]}' cannot be accepted: choose {', '.join(ACCEPTABLE)}.")
    order, notes = _channels(model, name, len(image), channels, accept)
    notes += _orientation(model, name, geometry, accept)
    notes += _content(model, name, image[order[0]], geometry, accept)
    notes += _spacing(model, name, geometry, accept)
    notes += _intensities(model, name, image, accept)
    return order, notes


def check_start(
    path: Path,
    name: str,
    image: np.ndarray,
    geometry: Geometry,
    channels: Sequence[str],
    segments: Sequence[Segment],
) -> tuple[list[int], list[str]]:
    """Checks that a training on an image can start from a model.

    Args:
        path: The model file.
        name: Name of the image, for messages.
        image: (c, k, j, i), any real dtype.
        geometry: The image's grid.
        channels: The name of each channel.
        segments: The classes of the annotation.

    Returns:
        For each channel of the model the place of the image's, and messages for the user.

    Raises:
        InputError: It is no model, its channels are others, or no segment is among its own.
    """
    model = ModelDescription.read(path)
    # What differs otherwise is learnt from the annotation.
    order, notes = check_compatible(model, name, image, geometry, channels, ACCEPTABLE)
    known = matching(model.segments, segments)
    if not any(known):
        raise InputError(
            f"the model {path} knows {', '.join(s.name for s in model.segments)}, and {name} is "
            f"annotated with {', '.join(s.name for s in segments)}: give at least one segment the "
            "name that it has in the model, or do not start from it."
        )
    new = [s.name for s, number in zip(segments, known, strict=True) if not number]
    if new:
        notes.append(f"{', '.join(new)}: not in the model, learnt from the annotation alone.")
    return order, notes


def _refused(fault: str, what: str, accept: Collection[str]) -> str:
    """The fault as a note if it was accepted; raises InputError with the choice if not."""
    if what in accept:
        return f"{fault} (accepted)."
    raise InputError(
        f"{fault}. If that is meant, --accept {what} (in Python accept=['{what}']) applies the "
        "model all the same."
    )


def _channels(
    model: ModelDescription,
    name: str,
    count: int,
    channels: Sequence[str],
    accept: Collection[str],
) -> tuple[list[int], list[str]]:
    wanted = model.channels
    if count != len(wanted):
        raise InputError(
            f"{name} has {counted(count, 'channel')} and the model needs {len(wanted)} "
            f"({', '.join(wanted)}): give these, in this order."
        )
    in_order = list(range(count))
    if (missing := missing_channel(wanted, channels)) is not None:
        fault = (
            f"{name}: the model needs a channel like {missing}, and by their names the image's "
            f"are others ({', '.join(channels)})"
        )
        return in_order, [_refused(fault, "intensities", accept)]
    order = channel_order(wanted, channels)
    if count == 1 or order == in_order:
        return in_order, []
    pairs = ", ".join(
        f"{channels[place]} as {want}"
        for place, want in zip(order or in_order, wanted, strict=True)
    )
    if order is None:
        return in_order, [f"{name}: the channels are taken in their order: {pairs}."]
    return order, [f"{name}: the channels are taken by their names: {pairs}."]


def _orientation(
    model: ModelDescription, name: str, geometry: Geometry, accept: Collection[str]
) -> list[str]:
    own = orientation_of(geometry)
    notes = []
    if (angle := obliqueness(geometry)) > STEEPEST:
        fault = (
            f"{name}: an axis lies {angle:.0f} degrees off the nearest anatomical direction, so "
            "that it is not clear how the image is to be turned for the model"
        )
        notes.append(_refused(fault, "orientation", accept))
    if own != model.orientation:
        notes.append(
            f"{name} has the orientation {own} and is turned to the model's, {model.orientation}."
        )
    return notes


def _content(
    model: ModelDescription,
    name: str,
    image: np.ndarray,
    geometry: Geometry,
    accept: Collection[str],
) -> list[str]:
    """Refuses an image (k, j, i) that is turned though its header does not say so."""
    if model.content is None:
        return []
    straight = Turn.between(orientation_of(geometry), model.orientation).array(image)
    turn = model.content.turned(straight)
    if turn is None:
        return []
    fault = (
        f"{name} looks turned or mirrored: it is far more like the training set with its axes in "
        f"the order {', '.join(_axes(turn))}. Correct the directions in its header"
    )
    return [_refused(fault, "orientation", accept)]


def _axes(turn: Turn) -> list[str]:
    """Axes that i, j and k of a turned image follow, with '-' where they run backwards."""
    return [("-" if turn.reversed[a] else "") + "ijk"[2 - turn.order[a]] for a in (2, 1, 0)]


def _spacing(
    model: ModelDescription, name: str, geometry: Geometry, accept: Collection[str]
) -> list[str]:
    turned = Turn.between(orientation_of(geometry), model.orientation).geometry(geometry).spacing
    known = [case.spacing for case in model.cases] or [model.spacing]
    low, high = (tuple(map(which, *known, known[0])) for which in (min, max))
    off = max(max(least / mm, mm / most) for mm, least, most in zip(turned, low, high, strict=True))
    if off <= MOST_OFF:
        return []
    trained = _times(low) if low == high else f"{_times(low)} to {_times(high)}"
    fault = (
        f"{name} has a spacing of {_times(turned)} mm, {off:.3g} times off the training set's "
        f"({trained} mm)"
    )
    return [_refused(fault, "spacing", accept)]


def _times(values: Sequence[float]) -> str:
    return "x".join(f"{value:.3g}" for value in values)


def _intensities(
    model: ModelDescription, name: str, image: np.ndarray, accept: Collection[str]
) -> list[str]:
    units = looks_like_ct(image)
    if units == (model.modality == "ct"):
        return []
    fault = (
        f"{name} holds Hounsfield units, as CT does, and the model was trained on other images"
        if units
        else f"{name} does not hold Hounsfield units ({image.min():g} to {image.max():g}), and the "
        "model was trained on CT"
    )
    return [_refused(fault, "intensities", accept)]

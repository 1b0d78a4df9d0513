"""Segments of two segmentations: those that belong together, and their scores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..annotation.grid_map import affine
from ..annotation.label_boxes import Box, label_boxes
from ..annotation.merging import matching
from ..annotation.surface_metrics import surface_agreement
from ..engine.compute import metrics
from ..errors import InputError
from ..files.dense import Dense
from ..files.writing import output_values

SCORES = ("dice", "iou", "surface_dice", "hausdorff95_mm")


@dataclass(frozen=True)
class Pair:
    """A segment, in one of two segmentations or in both.

    Attributes:
        name: Its name, that of the truth if both have one.
        prediction: Its number, from 1, in the prediction; None if it has none.
        truth: The same in the truth.
        other_name: Its name in the prediction, if both have names of their own.
    """

    name: str
    prediction: int | None
    truth: int | None
    other_name: str | None = None


def pair_segments(prediction: Dense, truth: Dense) -> list[Pair]:
    """Pairs the segments of two segmentations; those that only one of them has are kept.

    They are the same if their names are, else if their terminology is. With a label image, which
    has no names, they are if their label values are; of a segmentation whose layers share values
    they are counted as label images of it are written.

    Returns:
        The segments of the truth in their order, then those of the prediction alone.

    Raises:
        InputError: They have no segment in common, or none at all. Label images without any label
            are no reason: their segments were not found.
    """
    sides = (prediction, truth)
    if prediction.named and truth.named:
        found = matching(prediction.segments, truth.segments)
    else:
        known, own = (output_values(one.segments) for one in sides)
        found = [known.index(value) + 1 if value in known else 0 for value in own]
    pairs = []
    for number, (segment, other) in enumerate(zip(truth.segments, found, strict=True), start=1):
        twin = prediction.segments[other - 1] if other else None
        name = twin.name if twin and not truth.named else segment.name
        both = twin is not None and prediction.named and truth.named
        same = both and _same(twin.name, name)
        pairs.append(Pair(name, other or None, number, None if same or not both else twin.name))
    pairs += [
        Pair(segment.name, number, None)
        for number, segment in enumerate(prediction.segments, start=1)
        if number not in found
    ]
    if not pairs:
        raise InputError(
            f"neither {prediction.path} nor {truth.path} has a label: there is nothing to compare."
        )
    if not any(found) and all(one.segments for one in sides):
        raise InputError(
            f"{prediction.path} and {truth.path} have no segment in common: the prediction has "
            f"{_listed(prediction)}, the truth {_listed(truth)}. Give the same structure the same "
            "name in both, or in label images the same value."
        )
    return pairs


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _listed(one: Dense) -> str:
    values = output_values(one.segments)
    return ", ".join(
        f"'{segment.name}' (value {value})" if one.named else f"the value {value}"
        for segment, value in zip(one.segments, values, strict=True)
    )


def score(
    pairs: Sequence[Pair],
    prediction: Dense,
    truth: Dense,
    counted: np.ndarray | None,
    tolerance: float,
    quiet: bool,
) -> list[dict]:
    """Scores pairs of segments.

    Args:
        pairs: The pairs.
        prediction: A segmentation.
        truth: Another one, on the same grid.
        counted: Boolean (k, j, i), the voxels that count; None for all.
        tolerance: Of surface Dice, mm.
        quiet: Show no progress bar.

    Returns:
        A dictionary per pair with name, only_in ('prediction', 'truth' or None), dice, iou,
        surface_dice, hausdorff95_mm (None where they are not defined), prediction_ml and truth_ml.
    """
    steps = affine(prediction.grid)[0]
    millilitres = abs(float(np.linalg.det(steps))) / 1000
    places = [_places(one) for one in (prediction, truth)]
    rows = []
    for pair in tqdm(
        pairs,
        desc="segments",
        disable=quiet or len(pairs) < 2,
        delay=1,  # seconds: what is quicker needs no bar
        leave=False,
        file=sys.stderr,
    ):
        parts = [
            place.get(number, [])
            for place, number in zip(places, (pair.prediction, pair.truth), strict=True)
        ]
        # What lies outside of both changes no figure.
        box = _around([where for part in parts for _, where in part])
        here, there = (
            _mask(part, number or 0, box)
            for part, number in zip(parts, (pair.prediction, pair.truth), strict=True)
        )
        chosen = None if counted is None else counted[box]
        (overlap,) = metrics.overlap(here, there, 1, chosen)
        surfaces = surface_agreement(here, there, steps, tolerance, chosen)
        only_in = {pair.prediction: "truth", pair.truth: "prediction"}.get(None)
        rows.append(
            {
                "name": pair.name,
                "only_in": only_in,
                "dice": overlap["dice"],
                "iou": overlap["iou"],
                "surface_dice": surfaces.surface_dice,
                "hausdorff95_mm": surfaces.hausdorff95,
                "prediction_ml": _count(here, chosen) * millilitres,
                "truth_ml": _count(there, chosen) * millilitres,
            }
        )
    return rows


def _places(one: Dense) -> dict[int | None, list[tuple[np.ndarray, Box]]]:
    """The layers of each segment's number with the box around its voxels there."""
    found: dict[int | None, list[tuple[np.ndarray, Box]]] = {}
    for layer in one.layers:
        for number, box in label_boxes(layer, len(one.segments)).items():
            found.setdefault(number, []).append((layer, box))
    return found


def _around(boxes: Sequence[Box]) -> Box:
    if not boxes:
        return (slice(0, 1),) * 3
    k, j, i = (
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(3)
    )
    return k, j, i


def _mask(parts: Sequence[tuple[np.ndarray, Box]], number: int, box: Box) -> np.ndarray:
    mask = np.zeros([side.stop - side.start for side in box], bool)
    for layer, _ in parts:
        mask |= layer[box] == number
    return mask


def _count(mask: np.ndarray, counted: np.ndarray | None) -> int:
    return int(np.count_nonzero(mask if counted is None else mask & counted))

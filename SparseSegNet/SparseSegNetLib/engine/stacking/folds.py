"""Folds: what is held out together when priors and models are made out of fold.

An annotated slice is held out as a whole, with all planes that it became where the working grid is
finer than the image. What is labelled outside of complete slices (slices annotated in part, boxes,
scribbles) is divided into parts: a slice's part, a stroke, or a block of a larger region, so that
near voxels are held out together (spatial blocks: Roberts et al. 2017, Ecography 40, 913).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from ...annotation.composition import UNLABELLED
from ...annotation.slices import AXES, AnnotatedSlice, array_axis
from ...annotation.strokes import box_of
from ..data.preprocessing import WorkingVolume
from .near_slices import group_near_slices

FOLDS = 4
LEAVE_ONE_OUT = 6  # slices and parts, or fewer: each is a fold of its own
COMPLETE = 0.9  # share of a slice's voxels that must be labelled for a prior to use it
MOST_PARTS = 64  # strokes; more are divided into blocks instead
LEAST_PARTS = 4  # where there are fewer than two complete slices
REGION = 0.5  # share of its box that a part fills at least if it is a region, not strokes
SMALLEST_PART = 4  # voxels of a class, below which they are not divided


@dataclass(eq=False)
class Fold:
    """Annotation that is held out together.

    Attributes:
        slices: Complete slices.
        parts: Flat indices into (k, j, i) of what is labelled elsewhere.
    """

    slices: list[AnnotatedSlice] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)


def planes_of(item: AnnotatedSlice, volume: WorkingVolume) -> tuple:
    """Index expression of all voxels (k, j, i) whose labels come from this slice's plane.

    These are several planes where the working grid is finer than the original one.
    """
    axis = array_axis(item.axis)
    size, full = volume.shape[axis], volume.full_shape[axis]
    if size <= full:
        return item.selector()
    source = item.index * full // size  # as `preprocess.labels_on` copies them
    first, end = -(-source * size // full), -(-(source + 1) * size // full)
    plane = list(item.selector())
    plane[axis] = slice(first, end)
    return tuple(plane)


def complete_slices(labels: torch.Tensor, slices: list[AnnotatedSlice]) -> list[AnnotatedSlice]:
    """Those of the slices that are labelled nearly everywhere."""

    def share(item: AnnotatedSlice) -> float:
        plane = labels.select(array_axis(item.axis), item.index)
        return float((plane != UNLABELLED).float().mean())

    return [item for item in slices if share(item) >= COMPLETE]


def labels_of(folds: Sequence[Fold], labels: torch.Tensor, volume: WorkingVolume) -> torch.Tensor:
    """Labels uint8 (k, j, i) of these folds alone, 255 elsewhere."""
    kept = torch.full_like(labels, UNLABELLED)
    for fold in folds:
        for item in fold.slices:
            where = planes_of(item, volume)
            kept[where] = labels[where]
        for part in fold.parts:
            at = torch.from_numpy(part).to(labels.device)
            kept.view(-1)[at] = labels.reshape(-1)[at]
    return kept


def make_folds(
    labels: torch.Tensor,
    volume: WorkingVolume,
    slices: list[AnnotatedSlice],
    most: int | None = None,
) -> list[Fold]:
    """Divides the annotation into folds of about equal size.

    Slices are dealt out in their order, so that neighbours are apart and each fold has slices of
    all axes; those that lie so near to each other that they are nearly one stay together, unless
    they alone show a class. Parts go where their rarest class is shown least.

    Args:
        labels: uint8 (k, j, i), 255 = unlabelled.
        volume: The working volume.
        slices: The complete ones.
        most: Number of folds, at most.

    Returns:
        Two folds or more; none where the annotation cannot be divided. One slice that is all there
        is becomes parts.
    """
    parts = parts_of(labels, volume, slices)
    if len(slices) == 1 and not parts:
        slices, parts = [], parts_of(labels, volume, [])
    groups = _groups(labels, volume, slices)
    if len(groups) + len(parts) < 2:
        groups = [[item] for item in sorted(slices)]
    units = len(groups) + len(parts)
    number = FOLDS if units > LEAVE_ONE_OUT else units
    if most is not None:
        number = min(number, most)
    if number < 2:
        return []
    folds = [Fold() for _ in range(number)]
    for n, group in enumerate(groups):
        folds[n % number].slices += group
    flat = labels.reshape(-1).cpu().numpy()
    counts = [np.bincount(flat[part], minlength=UNLABELLED + 1) for part in parts]
    every = np.sum(counts, axis=0) if parts else np.zeros(UNLABELLED + 1, int)
    held = np.zeros((number, UNLABELLED + 1), int)
    held[:, 0] += [len(fold.slices) for fold in folds]  # of two equal ones the emptier
    rarest = [min(np.flatnonzero(count), key=lambda c: every[c]) for count in counts]
    for n in sorted(range(len(parts)), key=lambda n: (every[rarest[n]], -len(parts[n]), n)):
        into = min(range(number), key=lambda f: (held[f, rarest[n]], held[f].sum(), f))
        folds[into].parts.append(parts[n])
        held[into] += counts[n]
    return [fold for fold in folds if fold.slices or fold.parts]


def _groups(
    labels: torch.Tensor, volume: WorkingVolume, slices: list[AnnotatedSlice]
) -> list[list[AnnotatedSlice]]:
    """Slices that are held out together, see `near_slices`."""
    shown = {s: set(torch.unique(labels[planes_of(s, volume)]).tolist()) for s in slices}
    groups = []
    for group in group_near_slices(slices, _extent(labels)):
        inside = set().union(*(shown[s] for s in group))
        outside = set().union(*(shown[s] for s in slices if s not in group))
        # Without the whole group nothing would teach its own classes.
        alone = inside - outside - {0, UNLABELLED}
        groups += [[item] for item in group] if alone else [group]
    return sorted(groups)


def _extent(labels: torch.Tensor) -> dict[str, int]:
    """Voxels along each axis of the working grid between which segments are annotated."""
    box = box_of(((labels > 0) & (labels != UNLABELLED)).cpu().numpy())
    if box is None:
        return dict.fromkeys(AXES, 0)
    return {AXES[2 - axis]: part.stop - part.start for axis, part in enumerate(box)}


def parts_of(
    labels: torch.Tensor, volume: WorkingVolume, slices: list[AnnotatedSlice]
) -> list[np.ndarray]:
    """Divides what is labelled outside of the complete slices into parts.

    Each class is in two parts at least (or in a part and a slice) where it has voxels enough.

    Returns:
        Flat indices into (k, j, i) of each part.
    """
    rest = labels.clone()
    for item in slices:
        rest[planes_of(item, volume)] = UNLABELLED
    left = rest.cpu().numpy()
    known = left != UNLABELLED
    if not known.any():
        return []
    parts = _slice_parts(known, volume, [s for s in volume.slices if s not in slices])
    strokes, count = ndimage.label(known, np.ones((3, 3, 3)))
    flat = strokes.ravel()
    rest_of = np.flatnonzero(flat)
    if count > MOST_PARTS:
        blocks = [rest_of] if rest_of.size else []
        while blocks and len(blocks) < MOST_PARTS // 4:
            largest = max(range(len(blocks)), key=lambda n: len(blocks[n]))
            halves = _halved(blocks.pop(largest), None, volume)
            blocks += halves
            if len(halves) < 2:
                break
        parts += blocks
    elif count:
        order = np.argsort(flat[rest_of], kind="stable")
        parts += np.split(rest_of[order], np.flatnonzero(np.diff(flat[rest_of][order])) + 1)
    shown = [set(torch.unique(labels[planes_of(s, volume)]).tolist()) for s in slices]
    return _divided(parts, left.ravel(), shown, volume)


def _slice_parts(
    known: np.ndarray, volume: WorkingVolume, slices: list[AnnotatedSlice]
) -> list[np.ndarray]:
    """The voxels of slices that are annotated in part, taken out of `known` (k, j, i), boolean.

    Slices that lie side by side cover a region that is thick in all directions; it is no slice.
    """

    def ranges(item: AnnotatedSlice) -> tuple[int, int]:
        place = planes_of(item, volume)[array_axis(item.axis)]
        return (place, place + 1) if isinstance(place, int) else (place.start, place.stop)

    found = []
    planes = {(s.axis, n) for s in slices for n in range(*ranges(s))}
    alone = [
        s
        for s in slices
        if (s.axis, ranges(s)[0] - 1) not in planes and (s.axis, ranges(s)[1]) not in planes
    ]
    size = {item: int(np.count_nonzero(known[planes_of(item, volume)])) for item in alone}
    places = np.arange(known.size).reshape(known.shape)
    for item in sorted(alone, key=lambda s: (-size[s], s)):
        where = planes_of(item, volume)
        inside = known[where]
        # A plane that merely cuts through what others hold is no slice of its own.
        if 2 * np.count_nonzero(inside) >= size[item] > 0:
            found.append(places[where][inside])
            known[where] = False
    return found


def _divided(
    parts: list[np.ndarray], flat: np.ndarray, shown: list[set[int]], volume: WorkingVolume
) -> list[np.ndarray]:
    """Parts so divided that each class is in two places, and that there are parts enough."""
    parts = list(parts)
    for value in np.unique(flat[np.concatenate(parts)]):
        holding = [n for n, part in enumerate(parts) if (flat[part] == value).any()]
        if len(holding) == 1 and not any(value in classes for classes in shown):
            part = parts.pop(holding[0])
            parts += _halved(part, part[flat[part] == value], volume)
    while len(shown) < 2 and len(parts) + len(shown) < LEAST_PARTS:
        largest = max(range(len(parts)), key=lambda n: len(parts[n]))
        halves = _halved(parts.pop(largest), None, volume)
        parts += halves
        if len(halves) < 2:
            break
    return parts


def _halved(part: np.ndarray, of: np.ndarray | None, volume: WorkingVolume) -> list[np.ndarray]:
    """A part cut in two across the longest extent of the voxels `of` it, at their middle one.

    of: None for all. Where these are too few the part stays as it is.
    """
    of = part if of is None else of
    if len(of) < 2 * SMALLEST_PART:
        return [part]
    spacing = volume.spacing.tolist()
    at = np.unravel_index(of, volume.shape)
    axis = max(range(3), key=lambda a: float(np.ptp(at[a])) * spacing[a])
    cut = math.ceil(float(np.median(at[axis])))
    low = np.unravel_index(part, volume.shape)[axis] < cut
    return [half for half in (part[low], part[~low]) if half.size]


def scorable_voxels(
    labels: torch.Tensor, volume: WorkingVolume, slices: list[AnnotatedSlice]
) -> torch.Tensor:
    """Boolean (k, j, i): the labelled voxels whose score is representative of the volume.

    Those of complete slices, and of parts in which a region is annotated with its borders. Strokes
    are drawn where the class is plain, and of each class about as much, so that nearly all of their
    voxels may be right in a result that is poor.
    """
    found = torch.zeros(labels.shape, dtype=torch.bool)
    for item in slices:
        found[planes_of(item, volume)] = True
    flat = labels.reshape(-1).cpu().numpy()
    for part in parts_of(labels, volume, slices):
        at = np.unravel_index(part, volume.shape)
        box = math.prod(int(np.ptp(axis)) + 1 for axis in at)
        if len(part) >= REGION * box and len(np.unique(flat[part])) > 1:
            found.view(-1)[torch.from_numpy(part)] = True
    return found.to(labels.device) & (labels != UNLABELLED)


def shown_in(
    labels: torch.Tensor, volume: WorkingVolume, slices: list[AnnotatedSlice], classes: int
) -> tuple[list[int], int]:
    """Counts slices, and parts outside of them: those that show each class, and all."""
    flat = labels.reshape(-1).cpu().numpy()
    places = [labels[planes_of(item, volume)].cpu().numpy().ravel() for item in slices]
    places += [flat[part] for part in parts_of(labels, volume, slices)]
    shown = [set(np.unique(values)) for values in places]
    return [sum(value in values for values in shown) for value in range(classes)], len(shown)


def left_out(folds: int, models: int) -> list[range]:
    """Numbers of the folds that each model is not trained on.

    Between them they are all folds; one model alone leaves every other fold out.
    """
    parts = max(2, models)
    return [range(part, folds, parts) for part in range(models)]

"""Label images with several components per voxel: one channel per class, or colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.cover import cover_slices
from ..errors import InputError
from .other_formats import without_geometry

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
SHOWN = 12  # colours in a message


def labels_of_channels(
    path: Path, values: np.ndarray, unlabelled: int, notes: list[str]
) -> np.ndarray:
    """Labels from the components of a label image.

    Args:
        path: The file, for messages.
        values: (k, j, i, components).
        unlabelled: The value of unlabelled voxels.
        notes: Messages for the user are added here.

    Returns:
        Integer (k, j, i).

    Raises:
        InputError: They are neither classes of 0 and 1 nor a few colours, or classes overlap.
    """
    count = values.shape[-1]
    high = values.max()
    two = high > 0 and bool(((values == 0) | (values == high)).all())
    if count in (3, 4) and values.dtype.kind == "u" and (without_geometry(path) or not two):
        return _of_colours(path, values, notes)
    if not two:
        raise InputError(
            f"the label image {path} has {count} components per voxel: one with a value for each "
            "structure is needed, or one component per structure with 0 and 1."
        )
    return _of_classes(path, values == high, unlabelled, notes)


def _of_classes(path: Path, masks: np.ndarray, unlabelled: int, notes: list[str]) -> np.ndarray:
    count = masks.shape[-1]
    per_voxel = np.count_nonzero(masks, axis=-1)
    if (several := int(np.count_nonzero(per_voxel > 1))) > 0:
        k, j, i = np.argwhere(per_voxel > 1)[0]
        raise InputError(
            f"the label image {path} has {count} channels, and {several} voxels belong to several "
            f"of them (first i={i}, j={j}, k={k}): each voxel needs one value. Where one structure "
            "lies inside another, draw them as segments of a .seg.nrrd."
        )
    labels = np.where(per_voxel > 0, masks.argmax(axis=-1) + 1, 0).astype(np.int64)
    if _fills_planes(per_voxel > 0):
        # Every voxel of the annotated planes has its class, so one of them is background.
        labels = np.where(labels > 0, labels - 1, unlabelled)
        notes.append(
            f"{path.name} holds {count} channels that fill the annotated slices: the first is "
            f"taken as background, the others as labels 1 to {count - 1}, voxels of none as "
            "unlabelled."
        )
    else:
        notes.append(
            f"{path.name} holds {count} channels: they are taken as labels 1 to {count}, "
            "voxels of none as 0."
        )
    return labels


def _fills_planes(drawn: np.ndarray) -> bool:
    """True if the voxels are whole planes and nothing else."""
    planes = np.zeros(drawn.shape, bool)
    for found in cover_slices(drawn):
        planes[found.selector()] = True
    return bool(drawn.any() and (planes == drawn).all())


def _of_colours(path: Path, values: np.ndarray, notes: list[str]) -> np.ndarray:
    colours = values[..., :3].astype(np.int64)
    if values.shape[-1] == 4:
        colours[values[..., 3] == 0] = 0  # nothing is drawn where all is transparent
    if not colours.any():
        raise InputError(
            f"the label image {path} has {values.shape[-1]} components per voxel, and all are 0: "
            "nothing is labelled."
        )
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    base = int(colours.max()) + 1
    codes = (colours[..., 0] * base + colours[..., 1]) * base + colours[..., 2]
    present = np.unique(codes)
    if np.count_nonzero(present) > MAX_SEGMENTS:
        raise InputError(
            f"the label image {path} has {len(present)} different colours, at most {MAX_SEGMENTS} "
            "can be told apart as labels: it may be a photograph, or saved with a format that "
            "changes colours, such as JPEG. Give a file with one whole number per voxel."
        )
    table = np.stack([present // base**2, present // base % base, present % base], axis=-1)
    order = np.argsort(table @ np.array(LUMINANCE), kind="stable")
    number = np.empty(len(present), np.int64)
    number[order] = np.arange(len(present)) + (present[order[0]] != 0)
    named = [f"{number[n]} = ({', '.join(map(str, table[n]))})" for n in order if number[n] > 0]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    notes.append(
        f"{path.name} holds colours: labels by brightness are {', '.join(named[:SHOWN])}{more} "
        "(red, green, blue), and black is 0."
    )
    return number[np.searchsorted(present, codes)]

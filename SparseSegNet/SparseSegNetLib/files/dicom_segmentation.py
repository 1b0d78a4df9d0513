"""Reads DICOM segmentations (SEG) as what `segmentation_file` knows: layers and Slicer's header.

A SEG has the frames that are not empty, each with its position and the number of its segment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..annotation.geometry import TOLERANCE_VOXELS
from ..errors import InputError
from .dicom_frames import element_of, frame_slice, open_dataset
from .dicom_grid import depths, normal, placed, sort_slices
from .dicom_headers import DicomSlice

MOST_PLANES = 10_000
WHITE = (95.047, 100.0, 108.883)  # D65, to which DICOM's colours refer


def read_dicom_segmentation(path: Path, what: str, notes: list[str]) -> sitk.Image:
    """Reads a binary SEG, or one of the label map kind.

    Args:
        path: The file.
        what: Its role, for messages.
        notes: Gets messages for the user.

    Returns:
        A label image of one or several layers (segments that overlap) with Slicer's header.

    Raises:
        InputError: There is no pydicom, or the file is damaged, fractional, without positions, or
            its frames lie on no grid.
    """
    data = open_dataset(path, what, "DICOM segmentation (SEG)", ".seg.nrrd", pixels=True)
    kind = str(data.get("SegmentationType", ""))
    if kind not in ("BINARY", "LABELMAP"):
        raise InputError(
            f"{what} {path} is a DICOM segmentation of the kind '{kind}', expected BINARY or "
            "LABELMAP: convert it to a binary one in Slicer's module Segmentations and save it as "
            ".seg.nrrd."
        )
    try:
        voxels = np.asarray(data.pixel_array)
    except Exception as error:  # pydicom raises many kinds
        raise InputError(f"{what} {path}: its frames cannot be read: {error}.") from error
    voxels = voxels[None] if voxels.ndim == 2 else voxels
    frames, numbers = _frames(data, path, what, len(voxels), kind)
    ordered = sort_slices(frames, path, what)
    planes = _planes(ordered, path, what)
    grid = placed(ordered, planes, path, what, notes)
    notes += _distance_note(data, path, grid.spacing[2])
    segments = {int(s.SegmentNumber): s for s in data.SegmentSequence if s.SegmentNumber != 0}
    masks = {n: np.zeros(grid.shape, bool) for n in segments}
    for one, plane in zip(ordered, planes, strict=True):
        frame = voxels[one.frame]
        if numbers is None:
            for n in np.unique(frame[frame != 0]).tolist():
                _mask(masks, n, path, what)[plane] |= frame == n
        else:
            _mask(masks, numbers[one.frame], path, what)[plane] |= frame != 0
    image = _layered(segments, masks)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.directions)
    return image


def _frames(
    data: Any, path: Path, what: str, count: int, kind: str
) -> tuple[list[DicomSlice], list[int] | None]:
    """The frames, and of a binary SEG the number of the segment of each."""
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) != count:
        raise InputError(
            f"{what} {path} has {count} frames and says where {len(own)} of them lie: open it in "
            "Slicer and save it as .seg.nrrd."
        )
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    like = DicomSlice(
        path, 0, (int(data.Columns), int(data.Rows)), (0.0, 0.0),
        None, None, None, 0.0, None, "", "", "", "SEG", "",
    )  # fmt: skip
    frames, numbers = [], []
    for n, groups in enumerate(own):
        one = frame_slice(like, n, lambda *names, g=groups: element_of((g, shared), *names))
        if min(one.spacing) <= 0:
            raise InputError(f"{what} {path}: its frame {n + 1} has no pixel spacing (0028,0030).")
        frames.append(one)
        segment = element_of(
            (groups, shared), "SegmentIdentificationSequence", "ReferencedSegmentNumber"
        )
        if kind == "BINARY" and segment is None:
            raise InputError(f"{what} {path}: its frame {n + 1} does not name its segment.")
        numbers.append(int(segment or 0))
    return frames, numbers if kind == "BINARY" else None


def _distance_note(data: Any, path: Path, gap: float) -> list[str]:
    """A message where the header has no distance of slices: frames would be too thick."""
    shared = data.get("SharedFunctionalGroupsSequence") or [{}]
    groups = (shared[0], data.PerFrameFunctionalGroupsSequence[0])
    if element_of(groups, "PixelMeasuresSequence", "SpacingBetweenSlices") is not None:
        return []
    return [
        f"{path}: the header gives no distance between slices, {gap:.4g} mm is taken: check that "
        "the annotated slices are those that you drew."
    ]


def _planes(frames: list[DicomSlice], path: Path, what: str) -> list[int]:
    """The plane of each frame, counted from the first in steps of the distance of slices.

    That distance is what the header says, or the least gap, whichever fits all frames.
    """
    along = depths(frames)
    along = along - along[0]
    gaps = np.diff(along)
    edge = min(frames[0].spacing)
    least = gaps[gaps > TOLERANCE_VOXELS * edge].min(initial=np.inf)
    if not np.isfinite(least):
        return [0] * len(frames)
    candidates = [float(least)]
    if (said := frames[0].thickness) is not None and said > 0:
        # With a tilted gantry the header may mean the way from slice to slice, which is longer.
        way = np.array(frames[-1].position) - np.array(frames[0].position)
        upright = float(way @ normal(frames[0])) / float(np.linalg.norm(way))
        candidates = [said, said * upright, least]
    for gap in candidates:
        steps = along / gap
        planes = np.round(steps)
        # A gap that is rounded in the header adds up: it need only tell the planes apart.
        if np.abs(steps - planes).max() < 0.1 and planes[-1] < MOST_PLANES and least > gap / 2:
            return planes.astype(int).tolist()
    raise InputError(
        f"{what} {path}: its frames are not evenly spaced (the least gap is {least:.4g} mm, the "
        f"header says {said} mm): open it in Slicer and save it as .seg.nrrd."
    )


def _mask(masks: dict[int, np.ndarray], number: int, path: Path, what: str) -> np.ndarray:
    if number not in masks:
        raise InputError(
            f"{what} {path} is damaged: a frame belongs to segment {number}, and its segments are "
            f"{', '.join(map(str, masks)) or 'none'}."
        )
    return masks[number]


def _layered(segments: dict[int, Any], masks: dict[int, np.ndarray]) -> sitk.Image:
    """Label image in as few layers as keep overlapping segments apart, with Slicer's header."""
    layers: list[np.ndarray] = []
    head = {"Segmentation_ContainedRepresentationNames": "Binary labelmap|"}
    kind = np.uint8 if len(segments) < 256 else np.uint16
    for n, (number, segment) in enumerate(segments.items()):
        mask = masks[number]
        free = (k for k, layer in enumerate(layers) if not (layer[mask] != 0).any())
        if (layer := next(free, None)) is None:
            layer = len(layers)
            layers.append(np.zeros(mask.shape, kind))
        layers[layer][mask] = n + 1
        name = str(segment.get("SegmentLabel") or f"Segment {number}")
        key = f"Segment{n}_"
        head |= {
            key + "ID": f"Segment_{number}",
            key + "Name": name,
            key + "LabelValue": str(n + 1),
            key + "Layer": str(layer),
            key + "Tags": _terminology(segment),
        }
        color = segment.get("RecommendedDisplayCIELabValue")
        if color is not None and len(color) == 3:
            head[key + "Color"] = " ".join(f"{c:.4f}" for c in lab_to_rgb(*map(int, color)))
    image = sitk.GetImageFromArray(np.stack(layers, axis=-1), isVector=True)
    if len(layers) == 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    for entry, text in head.items():
        image.SetMetaData(entry, text)
    return image


def _terminology(segment: Any) -> str:
    """Slicer's tag for category and type of a segment."""
    codes = []
    for name in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        if not (items := segment.get(name)):
            return "|"
        words = ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
        codes.append("^".join(str(items[0].get(word) or "") for word in words))
    listed = "Segmentation category and type - DICOM master list"
    text = f"TerminologyEntry:{listed}~{codes[0]}~{codes[1]}~^^~~^^~^^"
    return f"{text}|" if "|" not in text else "|"


def lab_to_rgb(*words: int) -> tuple[float, ...]:
    """A DICOM colour, CIELab as three 16-bit numbers, as sRGB from 0 to 1."""
    lightness, a, b = words[0] / 65535 * 100, words[1] / 257 - 128, words[2] / 257 - 128
    y = (lightness + 16) / 116
    roots = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    xyz = xyz * np.array(WHITE) / 100
    linear = (
        np.array(
            [
                [3.2404542, -1.5371385, -0.4985314],
                [-0.9692660, 1.8760108, 0.0415560],
                [0.0556434, -0.2040259, 1.0572252],
            ]
        )
        @ xyz
    )
    linear = np.clip(linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(float(v) for v in np.clip(rgb, 0, 1))

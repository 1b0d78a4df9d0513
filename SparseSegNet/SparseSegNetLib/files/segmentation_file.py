"""Slicer's .seg.nrrd: a label image whose header names the segments.

Keys as Slicer 5 writes them: Segment<n>_ID, _Name, _Color, _LabelValue, _Layer, _Tags, _Extent;
several layers (overlapping segments) are the components of a vector image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.carry import carry
from ..annotation.composition import MAX_SEGMENTS
from ..annotation.drawn import BACKGROUND_DRAWN, NO_SEGMENT, Drawing, is_background
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layers import Layer, merge_layers, overlaps_of
from ..annotation.overlap import overlap_note, painting_order
from ..annotation.reference_geometry import PARAMETER, reference_geometry
from ..annotation.segments import Segment, usable_color
from ..errors import InputError
from .images import geometry_of, segment_numbers


@dataclass
class Content:
    """Segments of a label file.

    Attributes:
        drawings: What is drawn, one item per grid; numbers count `segments` from 1.
        segments: The segments, without those called 'Background'.
        warnings: Messages for the user.
    """

    drawings: list[Drawing]
    segments: list[Segment]
    warnings: list[str] = field(default_factory=list)


def is_segmentation(image: sitk.Image) -> bool:
    """Tells whether an image has Slicer's segment names in its header."""
    return bool(segment_numbers(image))


def segmented_grid(image: sitk.Image) -> Geometry | None:
    """The grid that the segments of a file were looked for in.

    That of the volume which Slicer's header names, of which the file may hold no more than what is
    drawn; else the file's own grid. None where that tells nothing: a DICOM SEG lacks empty frames.
    """
    key = "Segmentation_ConversionParameters"
    stored = image.GetMetaData(key) if image.HasMetaDataKey(key) else ""
    for entry in stored.split("&"):
        name, _, value = entry.partition("|")
        grid = reference_geometry(value.split("|")[0]) if name.strip() == PARAMETER else None
        if grid is not None:
            return grid
    whole = image.HasMetaDataKey("Segmentation_ReferenceImageExtentOffset")
    return geometry_of(image) if whole else None


def read_segments(path: Path, image: sitk.Image) -> Content:
    """Reads the segments of a segmentation file, on its own grid, as annotation.

    Args:
        path: The segmentation file, for messages.
        image: Its content.

    Raises:
        InputError: As `read_stored`.
    """
    stored = read_stored(path, image)
    return read_layers(path, stored.layers, stored.names, stored.codes, stored.segments)


@dataclass
class Stored:
    """Segments of a segmentation file as they are stored, overlapping ones in several layers.

    Attributes:
        layers: The layers; their numbers count `names`.
        names: Name of each numbered segment, of those called 'Background' too.
        codes: For each number, from 0, what `Drawing.numbers` holds for it: the place in
            `segments`, from 1, or BACKGROUND_DRAWN.
        segments: The segments, without those called 'Background'.
    """

    layers: list[Layer]
    names: list[str]
    codes: np.ndarray
    segments: list[Segment]


def read_stored(path: Path, image: sitk.Image) -> Stored:
    """Reads the layers of a segmentation file.

    Args:
        path: The segmentation file, for messages.
        image: Its content.

    Raises:
        InputError: The file has no segments or too many, or is damaged.
    """
    heads = _headers(path, image)
    if not heads:
        raise InputError(f"the segmentation {path} has no segments: draw at least one.")
    parts = image.GetNumberOfComponentsPerPixel()
    grid = geometry_of(image)
    stack = sitk.GetArrayFromImage(image)
    layers = [
        Layer(stack if parts == 1 else stack[..., n], grid, _layer_numbers(path, heads, n))
        for n in range(parts)
    ]
    for head in heads:
        if head["layer"] >= parts:
            raise InputError(
                f"the segmentation {path} is damaged: segment '{head['name']}' is "
                f"in layer {head['layer']}, the file has {parts}."
            )
    named = [h for h in heads if not is_background(h["name"])]
    segments = [Segment(h["id"], h["name"], h["color"], h["value"], h["tags"]) for h in named]
    if not segments:
        raise InputError(f"the segmentation {path} has only a Background segment.")
    if len(segments) > MAX_SEGMENTS:
        raise InputError(f"the segmentation {path} has more than {MAX_SEGMENTS} segments.")
    codes = np.full(len(heads) + 1, BACKGROUND_DRAWN, np.uint16)
    codes[0] = 0
    for place, head in enumerate(named, start=1):
        codes[heads.index(head) + 1] = place
    return Stored(layers, [h["name"] for h in heads], codes, segments)


def read_layers(
    path: Path,
    layers: list[Layer],
    names: list[str],
    codes: np.ndarray,
    segments: list[Segment],
) -> Content:
    """The content of layers.

    Args:
        path: The file, for messages.
        layers: The layers.
        names: Name of each numbered segment.
        codes: For each number, from 0, what `Drawing.numbers` holds for it.
        segments: The segments.
    """
    overlaps = overlaps_of(layers, len(names))
    order = painting_order(names, overlaps.sizes, overlaps.shared)
    drawings = [Drawing(codes[part.numbers], part.geometry) for part in merge_layers(layers, order)]
    warnings = []
    for number, layer in enumerate(layers):
        unnamed = ~np.isin(layer.values, [0, *layer.numbers])
        if not unnamed.any():
            continue
        values, counts = np.unique(layer.values[unnamed], return_counts=True)
        which = ", ".join(f"{v} ({n} voxels)" for v, n in zip(values[:5], counts[:5], strict=True))
        warnings.append(
            f"{path.name}: no segment has the label value {which} of layer {number}: these voxels "
            "are taken as unlabelled. Save the segmentation again in Slicer to name them."
        )
        for drawing in drawings:
            inside = _placed(unnamed, layer.geometry, drawing.geometry)
            drawing.numbers[inside & (drawing.numbers == 0)] = NO_SEGMENT
    note = overlap_note(names, overlaps.sizes, overlaps.shared)
    return Content(drawings, segments, warnings if note is None else [*warnings, note])


def _placed(mask: np.ndarray, own: Geometry, grid: Geometry) -> np.ndarray:
    return carry(mask.astype(np.uint8), GridMap.between(own, grid), 0) > 0


def _layer_numbers(path: Path, heads: list[dict], layer: int) -> dict[int, int]:
    """The number, from 1, of the segment of each label value in a layer."""
    numbers: dict[int, int] = {}
    for number, head in enumerate(heads, start=1):
        if head["layer"] != layer:
            continue
        if head["value"] in numbers:
            other = heads[numbers[head["value"]] - 1]["name"]
            raise InputError(
                f"the segmentation {path} is damaged: the segments '{other}' and "
                f"'{head['name']}' share the label value {head['value']} in layer {layer}, so they "
                "cannot be told apart. Remove one of them in Slicer and save it again."
            )
        numbers[head["value"]] = number
    return numbers


def metadata(segments: list[Segment], shape: tuple[int, int, int]) -> dict[str, str]:
    """Header entries for a one-layer .seg.nrrd of shape (k, j, i) whose label n is segment n."""
    extent = " ".join(f"0 {n - 1}" for n in reversed(shape))
    out = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for n, segment in enumerate(segments):
        key = f"Segment{n}_"
        out |= {
            key + "ID": segment.id,
            key + "Name": segment.name,
            key + "NameAutoGenerated": "0",
            key + "Color": " ".join(f"{c:.6g}" for c in segment.color),
            key + "ColorAutoGenerated": "0",
            key + "LabelValue": str(n + 1),
            key + "Layer": "0",
            key + "Extent": extent,
            key + "Tags": "".join(f"{k}:{v}|" for k, v in segment.tags.items()) or "|",
        }
    return out


def _whole(path: Path, name: str, field: str, text: str, least: int) -> int:
    """Whole number in a segment's field; InputError names segment and field."""
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", text) or int(text) < least:
        raise InputError(
            f"the segmentation {path} is damaged: {field} of the segment '{name}' is "
            f"'{text[:40]}', expected a whole number of at least {least}. Save it "
            "again in Slicer."
        )
    return int(text)


def _headers(path: Path, image: sitk.Image) -> list[dict]:
    """The header entries of each segment: id, name, color, value, layer and tags."""
    heads: list[dict] = []
    for number in segment_numbers(image):
        key = f"Segment{number}_"

        def entry(name: str, default: str, key: str = key) -> str:
            return image.GetMetaData(key + name) if image.HasMetaDataKey(key + name) else default

        name = entry("Name", entry("ID", f"Segment {number + 1}"))
        try:
            color = tuple(float(c) for c in entry("Color", "").split())
        except ValueError:
            color = ()
        heads.append(
            {
                "id": entry("ID", f"Segment_{number + 1}"),
                "name": name,
                "color": usable_color(color, number),
                # Files older than Slicer 5.0 have one layer per segment and the value 1.
                "value": _whole(path, name, "LabelValue", entry("LabelValue", "1"), 1),
                "layer": _whole(path, name, "Layer", entry("Layer", str(number)), 0),
                "tags": dict(
                    pair.split(":", 1) for pair in entry("Tags", "").split("|") if ":" in pair
                ),
            }
        )
    return heads

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

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.drawn import is_background, painting_order
from ..annotation.geometry import Geometry
from ..annotation.segments import Segment, usable_color
from ..errors import InputError
from .images import geometry_of


@dataclass
class Content:
    """Segments of a segmentation file, on the grid of the image to segment.

    Attributes:
        drawn: uint8 (k, j, i), n = n-th segment; of overlapping ones the later wins.
        segments: The segments, without those called 'Background'.
        background: Boolean (k, j, i), where a segment called 'Background' covers and no other,
            or None.
        unnamed: Boolean (k, j, i), voxels whose label value belongs to no segment, or None.
        warnings: Messages for the user.
    """

    drawn: np.ndarray
    segments: list[Segment]
    background: np.ndarray | None = None
    unnamed: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)


def is_segmentation(image: sitk.Image) -> bool:
    """Tells whether an image has Slicer's segment names in its header."""
    return bool(_numbers(image))


def read_segments(path: Path, image: sitk.Image, geometry: Geometry) -> Content:
    """Reads the segments of a segmentation file.

    A segmentation file may be cropped to its content or lie on another grid; it is resampled to
    the image's grid (nearest neighbour).

    Args:
        path: The segmentation file, for messages.
        image: Its content.
        geometry: The grid of the image to segment.

    Raises:
        InputError: The file has no segments or too many, is damaged, or does not overlap the
            image.
    """
    heads = _headers(path, image)
    if not heads:
        raise InputError(f"the segmentation {path} has no segments: draw at least one.")
    drawn = np.zeros(geometry.shape, np.uint8)
    segments: list[Segment] = []
    background = None
    layers = _on_grid(path, image, geometry)
    for head in (heads[n] for n in painting_order([head["name"] for head in heads])):
        if head["layer"] >= len(layers):
            raise InputError(
                f"the segmentation {path} is damaged: segment '{head['name']}' is "
                f"in layer {head['layer']}, the file has {len(layers)}."
            )
        mask = layers[head["layer"]] == head["value"]
        if is_background(head["name"]):
            background = mask if background is None else background | mask
            continue
        segments.append(
            Segment(head["id"], head["name"], head["color"], head["value"], head["tags"])
        )
        if len(segments) > MAX_SEGMENTS:
            raise InputError(f"the segmentation {path} has more than {MAX_SEGMENTS} segments.")
        drawn[mask] = len(segments)
    if not segments:
        raise InputError(f"the segmentation {path} has only a Background segment.")
    if background is not None:
        background &= drawn == 0
    return _with_unnamed(Content(drawn, segments, background), path, layers, heads)


def _with_unnamed(
    content: Content, path: Path, layers: list[np.ndarray], heads: list[dict]
) -> Content:
    """The content with the voxels that have a label value of no segment, and a warning of them."""
    for number, layer in enumerate(layers):
        known = [0, *(h["value"] for h in heads if h["layer"] == number)]
        unnamed = ~np.isin(layer, known) & (content.drawn == 0)
        if content.background is not None:
            unnamed &= ~content.background
        if not unnamed.any():
            continue
        values, counts = np.unique(layer[unnamed], return_counts=True)
        which = ", ".join(f"{v} ({n} voxels)" for v, n in zip(values[:5], counts[:5], strict=True))
        content.warnings.append(
            f"{path.name}: no segment has the label value {which} of layer {number}: these voxels "
            "are taken as unlabelled. Save the segmentation again in Slicer to name them."
        )
        content.unnamed = unnamed if content.unnamed is None else content.unnamed | unnamed
    return content


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
    for number in _numbers(image):
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


def _numbers(image: sitk.Image) -> list[int]:
    """The numbers of the segments in the header; other programs leave gaps between them."""
    found = (re.fullmatch(r"Segment([0-9]{1,6})_(ID|Name)", k) for k in image.GetMetaDataKeys())
    return sorted({int(match[1]) for match in found if match})


def _on_grid(path: Path, image: sitk.Image, geometry: Geometry) -> list[np.ndarray]:
    """The layers (k, j, i) resampled to `geometry`; unchanged if the grids agree already."""
    own = geometry_of(image)
    parts = image.GetNumberOfComponentsPerPixel()
    layers = (
        [image] if parts == 1 else [sitk.VectorIndexSelectionCast(image, n) for n in range(parts)]
    )
    if own.difference(geometry) is None:
        return [sitk.GetArrayFromImage(layer) for layer in layers]
    grid = sitk.ResampleImageFilter()
    grid.SetSize(geometry.size)
    grid.SetOutputSpacing(geometry.spacing)
    grid.SetOutputOrigin(geometry.origin)
    grid.SetOutputDirection(geometry.directions)
    grid.SetInterpolator(sitk.sitkNearestNeighbor)
    found = [sitk.GetArrayFromImage(grid.Execute(layer)) for layer in layers]
    had = any(sitk.GetArrayViewFromImage(layer).any() for layer in layers)
    if had and not any(layer.any() for layer in found):
        raise InputError(
            f"the segmentation {path} and the image do not overlap: "
            f"{geometry.difference(own)} (image against segmentation)."
        )
    return found

"""Reads annotation: a label image, a .seg.nrrd, or one file per structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.carry import carry
from ..annotation.composition import UNLABELLED, restrict_to_slices
from ..annotation.cover import cover_slices
from ..annotation.drawn import BACKGROUND_DRAWN, Drawing, is_background, label_array
from ..annotation.drawn_messages import Source
from ..annotation.geometry import Geometry
from ..annotation.grid_map import GridMap
from ..annotation.layers import Layer
from ..annotation.segments import PALETTE, Segment
from ..annotation.slices import AnnotatedSlice, check_slices
from ..errors import InputError
from ..units import percent
from .images import geometry_of
from .label_image import read_label_file
from .label_values import label_values, renumber
from .segmentation_file import Content, is_segmentation, read_layers, read_segments

NAME_SLICES = "name the slices that are completely annotated with --slices"
FILL = "Fill the structures, or draw strokes of a segment called Background too"
ONLY_DRAWN = "--slices none if only what is drawn is to be labelled"


@dataclass(frozen=True)
class Reading:
    """Settings for reading label files.

    Attributes:
        unlabelled: The value of unlabelled voxels in a label image (255, or that of other
            programs: 0, -1, -100, 65535); None for 255 where it cannot be a class.
        slices: The annotated slices, outside of which a label image does not count; None to
            detect them; empty if no slice is complete.
        background: The value that marks background in a label image; None for 0.
        resample: Carry label images from another grid to the image's instead of refusing them.
        by_index: The image's format holds no position: labels of its size belong to it voxel by
            voxel.
    """

    unlabelled: int | None = None
    slices: Sequence[AnnotatedSlice] | None = None
    background: int | None = None
    resample: bool = False
    by_index: bool = False


@dataclass
class Annotation:
    """The annotation of one volume.

    Attributes:
        labels: uint8 (k, j, i), 0 background, 1..K segments, 255 unlabelled.
        segments: The classes 1..K.
        slices: The annotated slices, given or detected.
        warnings: Messages for the user.
    """

    labels: np.ndarray
    segments: list[Segment]
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)


def read_annotation(
    path: Path | str, geometry: Geometry, reading: Reading | None = None
) -> Annotation:
    """Reads annotation on the grid of the image.

    A `.seg.nrrd` has segments and nothing else: its annotated slices are those that are given, or
    the smallest set of planes that covers the drawn voxels. In a label image 0 is background,
    unless it means unlabelled: then nothing was drawn there and the image is read like a
    segmentation.

    Args:
        path: The file.
        geometry: The image's grid.
        reading: How to read it.

    Raises:
        InputError: The file is unreadable or on another grid, slices or label values are bad, or
            it is not clear what the values mean.
    """
    path, reading = Path(path), reading or Reading()
    notes: list[str] = []
    image = read_label_file(path, geometry, notes, reading.by_index)
    return annotation_of(path, image, geometry, reading, notes)


def annotation_of(
    path: Path, image: sitk.Image, geometry: Geometry, reading: Reading, notes: list[str]
) -> Annotation:
    """The annotation in the content of a label file, see `read_annotation`.

    Args:
        path: The file, for messages.
        image: Its content.
        geometry: The image's grid.
        reading: How to read it.
        notes: Messages about the file so far.

    Raises:
        InputError: As `read_annotation`.
    """
    check_slices(reading.slices or (), geometry.shape)
    if is_segmentation(image):
        content = read_segments(path, image)
        content.warnings[:0] = notes
        return _drawn(path.name, content, geometry, reading, f"{FILL}, or give")
    grid = _label_grid(path, image, geometry, reading, notes)
    values = label_values(
        path, image, UNLABELLED if reading.unlabelled is None else reading.unlabelled, notes
    )
    unlabelled = _unlabelled(path, values, reading)
    _check_background(path, values, unlabelled, reading)
    numbers, segments = renumber(path, values, unlabelled, reading.background)
    if unlabelled == 0:
        codes = numbers.astype(np.uint16)
        if reading.background is not None:
            codes[values == reading.background] = BACKGROUND_DRAWN
        first = segments[0].value if segments else 1
        return _drawn(
            path.name,
            Content([Drawing(codes, grid)], segments, notes),
            geometry,
            reading,
            f"Give the value that marks background (--background-label {first}, if that is the "
            f"one) or",
        )
    labels = carry(numbers, GridMap.between(grid, geometry), UNLABELLED)
    if (labels == UNLABELLED).all() and (numbers != UNLABELLED).any():
        raise InputError(f"the labels {path} and the image do not overlap.")
    slices = reading.slices
    if slices is None and not (labels == UNLABELLED).any():
        raise InputError(
            f"every voxel of {path} is labelled, so there is nothing to densify: say which "
            "value means unlabelled (--unlabelled V; 0 where nothing was drawn), or which "
            "slices are annotated (--slices k:10,20)."
        )
    if slices:
        labels = restrict_to_slices(labels, slices)
    listed = list(slices or ()) or cover_slices(labels != UNLABELLED)
    return Annotation(labels, segments, listed, notes)


def read_structures(
    files: Sequence[tuple[str, Path]], geometry: Geometry, reading: Reading
) -> Annotation:
    """Reads annotation with one label file per structure, 0 where it was not drawn.

    Args:
        files: Name and file of each structure; one called Background marks background.
        geometry: The image's grid.
        reading: How to read them.

    Raises:
        InputError: A file is unreadable, on another grid, or holds more than one structure.
    """
    check_slices(reading.slices or (), geometry.shape)
    layers: list[Layer] = []
    notes: list[str] = []
    for number, (name, path) in enumerate(files, start=1):
        image = read_label_file(path, geometry, notes, reading.by_index)
        if is_segmentation(image):
            raise InputError(
                f"{path} is a segmentation with segments of its own, but '{name}' is to be one "
                "structure: give the .seg.nrrd alone as the labels."
            )
        grid = _label_grid(path, image, geometry, reading, notes)
        values = label_values(path, image, reading.unlabelled or 0, notes)
        kinds = [int(v) for v in np.unique(values) if v not in (0, reading.unlabelled)]
        if len(kinds) != 1:
            what = "nothing is drawn" if not kinds else f"it holds the values {kinds[:5]}"
            raise InputError(
                f"{path} is given as the structure '{name}', but {what}: one value besides 0 is "
                "expected. A file with several structures is given alone, as the labels."
            )
        layers.append(Layer(values == kinds[0], grid, {1: number}))
    names = [name for name, _ in files]
    segments = [
        Segment(f"Segment_{n + 1}", name, PALETTE[n % len(PALETTE)], n + 1)
        for n, name in enumerate(name for name in names if not is_background(name))
    ]
    if not segments:
        raise InputError("only Background is given among the label files: add a structure.")
    codes = np.full(len(names) + 1, BACKGROUND_DRAWN, np.uint16)
    codes[0] = 0
    real = [n for n, name in enumerate(names, start=1) if not is_background(name)]
    codes[real] = np.arange(1, len(real) + 1)
    content = read_layers(files[0][1], layers, names, codes, segments)
    content.warnings[:0] = notes
    title = ", ".join(path.name for _, path in files)
    return _drawn(
        title, content, geometry, reading, "Fill the structures, or add Background=FILE, or give"
    )


def _drawn(
    name: str, content: Content, geometry: Geometry, reading: Reading, background: str
) -> Annotation:
    """Annotation of what was drawn; `background` says how to mark background, up to ONLY_DRAWN."""
    source = Source(
        name, [s.name for s in content.segments], NAME_SLICES, f"{background} {ONLY_DRAWN}"
    )
    found = label_array(content.drawings, geometry, reading.slices, source)
    warnings = [*content.warnings, *found.warnings]
    return Annotation(found.labels, content.segments, found.slices, warnings)


def _label_grid(
    path: Path, image: sitk.Image, geometry: Geometry, reading: Reading, notes: list[str]
) -> Geometry:
    """The grid of a label image; InputError unless its voxels are voxels of the image."""
    own = geometry_of(image)
    if own.difference(geometry) is None:
        return geometry
    place = GridMap.between(own, geometry).whole()
    inside = place is not None and place.lies_within(own.shape, geometry.shape)
    if inside and own.size != geometry.size and sorted(own.size) != sorted(geometry.size):
        # At the corner it may as well be an image of another size whose position was dropped.
        inside = place is not None and place.start != (0, 0, 0)
        if inside:
            notes.append(
                f"{path.name} covers only a part of the image "
                f"({'x'.join(map(str, own.size))} of {'x'.join(map(str, geometry.size))} voxels): "
                "the rest is taken as unlabelled."
            )
    if inside or reading.resample:
        return own
    raise InputError(
        f"the labels {path} do not lie on the image's grid: {geometry.difference(own)} (image "
        "against labels). If they lie where they belong in space, --resample-labels carries them "
        "to the image's grid; else correct their header."
    )


def _unlabelled(path: Path, values: np.ndarray, reading: Reading) -> int:
    """The value of unlabelled voxels; InputError where 255 may as well be a structure."""
    if reading.unlabelled is not None:
        return reading.unlabelled
    marked = int(np.count_nonzero(values == UNLABELLED))
    zero = int(np.count_nonzero(values == 0))
    others = values.size - marked - zero
    if marked == 0 or zero == 0 or (others and reading.slices is not None):
        return UNLABELLED
    if others == 0:
        raise InputError(
            f"only one class is labelled in {path}, background (0), if 255 marks unlabelled "
            "voxels: annotate a slice that shows the structure. If 255 is the structure, give "
            "--unlabelled 0 (nothing was drawn where 0 is)."
        )
    if zero > values.size / 2:
        raise InputError(
            f"the label image {path} holds 255 in {percent(marked / values.size)} of the voxels "
            "and 0 in most of them: does 255 mark unlabelled voxels, or is it a structure? Give "
            "--unlabelled 255, or --unlabelled 0 (nothing was drawn where 0 is)."
        )
    return UNLABELLED


def _check_background(path: Path, values: np.ndarray, unlabelled: int, reading: Reading) -> None:
    if reading.background is None:
        return
    if reading.background == unlabelled:
        raise InputError(
            f"{unlabelled} cannot mark both background (--background-label) and unlabelled voxels "
            "(--unlabelled) of a label image."
        )
    if not (values == reading.background).any():
        raise InputError(
            f"no voxel of {path} has the value {reading.background} (--background-label)."
        )
    if reading.background != 0 and unlabelled != 0 and (values == 0).any():
        raise InputError(
            f"{path} holds the value 0 besides background {reading.background}: give "
            "--unlabelled 0 if nothing was drawn there."
        )

"""The rule that turns drawn segments into a label array, for files, scene and panel alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .carry import carry, carry_slices, count_outside
from .composition import UNLABELLED, compose_labels
from .cover import cover_slices, looks_solid
from .drawn_messages import Source, outline_warning, solid_warning, strokes_message
from .geometry import Geometry
from .grid_map import GridMap
from .label_counts import label_counts
from .line_drawing import (
    count_lines,
    drawn_as_outlines,
    drawn_as_strokes,
    with_background_strokes,
)
from .slices import AnnotatedSlice, check_slices, format_slices

BACKGROUND = "background"
# What `Drawing.numbers` holds beside the numbers of segments.
BACKGROUND_DRAWN, NO_SEGMENT = 256, 257


@dataclass
class Drawing:
    """Segments on the grid that they were drawn on.

    Attributes:
        numbers: uint16 (k, j, i): 0 where nothing is drawn, n for the n-th segment,
            BACKGROUND_DRAWN for a segment called Background, NO_SEGMENT for label values that
            belong to no segment (such voxels are unlabelled).
        geometry: The grid.
    """

    numbers: np.ndarray
    geometry: Geometry

    def segments(self) -> np.ndarray:
        """uint8 (k, j, i), n for the n-th segment, 0 for everything else."""
        return _segments_alone(self.numbers)


@dataclass
class LabelArray:
    """A label array and the slices behind it.

    Attributes:
        labels: uint8 (k, j, i), 0 background, 1..K segments, 255 unlabelled.
        slices: The annotated slices, given or detected.
        warnings: Messages for the user.
        complete: Those of the slices in which every voxel that no segment covers is background.
    """

    labels: np.ndarray
    slices: list[AnnotatedSlice]
    warnings: list[str] = field(default_factory=list)
    complete: list[AnnotatedSlice] = field(default_factory=list)


def is_background(name: str) -> bool:
    """Tells whether a segment of this name marks background."""
    return name.strip().lower() == BACKGROUND


def found_slices(
    drawn: np.ndarray, corrected: np.ndarray | None = None
) -> tuple[list[AnnotatedSlice], bool]:
    """Detects the annotated slices from the drawn voxels.

    Args:
        drawn: (k, j, i), not zero where a segment (other than Background) covers.
        corrected: Flat indices, or a boolean (k, j, i), of voxels that come from a corrected
            result: single voxels, which do not make the slice that they lie in a complete one.

    Returns:
        The slices, and True if they look solid (see `looks_solid`).
    """
    covered = drawn > 0
    if corrected is not None:
        covered.ravel()[corrected if corrected.dtype != bool else corrected.ravel()] = False
    slices = cover_slices(covered)
    return slices, looks_solid(slices)


def label_array(
    drawings: Sequence[Drawing],
    geometry: Geometry,
    slices: Mapping[AnnotatedSlice, bool] | Sequence[AnnotatedSlice] | None,
    source: Source,
    corrected: np.ndarray | None = None,
) -> LabelArray:
    """Label array of drawn segments on the grid of the image.

    Slices are detected on the grid that was drawn on, then carried to the image's. In a slice in
    which Background was drawn too, only what is drawn is labelled, unless the slice was named or
    marked as complete; in all others every voxel that no segment covers is background.

    Args:
        drawings: The segments, one item per grid.
        geometry: The image's grid.
        slices: The annotated slices on the image's grid, as a mapping with True for those that
            the user marked as complete; None to detect them; empty if no slice is complete.
        source: Names and instructions for messages.
        corrected: Boolean (k, j, i) on the image's grid, see `found_slices`.

    Raises:
        InputError: A slice or everything that was drawn lies outside the volume, or strokes
            are drawn and nothing says what is background.
    """
    stated: Mapping[AnnotatedSlice, bool] | None
    if slices is None or isinstance(slices, Mapping):
        stated = slices
    else:
        stated = dict.fromkeys(slices, True)
    check_slices(stated or (), geometry.shape)
    codes: np.ndarray | None = None
    found: dict[AnnotatedSlice, bool] = {}
    warnings: list[str] = []
    oblique = False
    strokes: list[bool] = []
    for drawing in drawings:
        grid = GridMap.between(drawing.geometry, geometry)
        own = _Own.of(drawing, grid, source, corrected, detect=stated is None)
        warnings += own.warnings
        strokes += own.strokes
        oblique |= grid.order() is None
        carried = carry(own.codes, grid, UNLABELLED)
        if codes is None:
            codes = carried
        else:
            kept = (codes == UNLABELLED) | ((carried != UNLABELLED) & (carried > 0))
            np.copyto(codes, carried, where=kept)
        for complete in (False, True):
            these = [s for s, c in own.slices.items() if c == complete]
            found.update(dict.fromkeys(carry_slices(these, grid), complete))
        del own, carried  # of a large volume each is gigabytes
    if codes is None:
        codes = np.full(geometry.shape, UNLABELLED, np.uint16)
    drawn = _segments_alone(codes)
    background, unknown = codes == BACKGROUND_DRAWN, codes == NO_SEGMENT
    beside = codes == 0  # background of complete slices
    del codes
    if stated is None:
        finished = sorted(s for s, c in found.items() if c)
        labels = compose_labels(drawn, finished, background)
        labels[beside] = 0
        listed = sorted(found) if found or not oblique else cover_slices(labels != UNLABELLED)
        incomplete = sorted(set(listed) - set(finished))
    else:
        own_background = background if corrected is None else background & ~corrected
        open_ = [s for s, marked in stated.items() if not marked]
        incomplete = slices_with_strokes(open_, drawn, own_background)
        looked_at = [s for s in open_ if s not in incomplete]
        lines = _Lines.of(drawn, looked_at, bool(own_background.any()), source)
        warnings += lines.warnings
        strokes = [lines.strokes]
        if lines.incomplete:
            incomplete = open_
        finished = [s for s in stated if s not in incomplete]
        labels = compose_labels(drawn, finished, background)
        listed = list(stated)
        if not isinstance(slices, Mapping) and not listed:
            listed = cover_slices(labels != UNLABELLED)
    if strokes and all(strokes):
        if len(source.segments) > 1:
            raise InputError(strokes_message(source))
        # One long structure of even width, such as the spinal cord, looks the same.
        warnings.append(strokes_message(source))
    if incomplete:
        warnings.append(
            f"Background is drawn in {len(incomplete)} of {len(listed)} slices of "
            f"'{source.name}' ({format_slices(incomplete)}): there only what is drawn is "
            f"labelled. If they are complete, {source.name_slices}."
        )
    labels[unknown] = UNLABELLED
    del background, beside, unknown
    counts = label_counts(drawn[drawn > 0])
    empty = [n for place, n in enumerate(source.segments, start=1) if not counts[place]]
    if empty and len(empty) < len(source.segments):
        warnings.append(
            f"nothing is drawn of {', '.join(repr(n) for n in empty)} within the volume: "
            f"{'it stays' if len(empty) == 1 else 'they stay'} empty in the result."
        )
    return LabelArray(labels, listed, warnings, finished)


def _segments_alone(numbers: np.ndarray) -> np.ndarray:
    """uint8 (k, j, i), n for the n-th segment, 0 for everything else in `Drawing.numbers`."""
    found = np.zeros(numbers.shape, np.uint8)
    np.copyto(found, numbers, casting="unsafe", where=numbers < UNLABELLED)
    return found


@dataclass
class _Lines:
    """Lines among what is drawn in slices.

    Attributes:
        strokes: True if all of it are strokes, and no background is drawn.
        incomplete: True if all of it are strokes, and background is drawn as well.
        warnings: Messages for the user, about outlines.
    """

    strokes: bool
    incomplete: bool
    warnings: list[str]

    @classmethod
    def of(
        cls, drawn: np.ndarray, slices: Sequence[AnnotatedSlice], background: bool, source: Source
    ) -> _Lines:
        lines = count_lines(drawn, slices)
        strokes = drawn_as_strokes(lines)
        outlines = [outline_warning(source, n) for n in drawn_as_outlines(lines)]
        return cls(strokes and not background, strokes and background, outlines)


@dataclass
class _Own:
    """Labels and slices on the grid that was drawn on.

    Attributes:
        codes: uint16 (k, j, i), as in `Drawing.numbers`, but 0 for background of complete slices
            and 255 where nothing is known.
        slices: The detected slices, with True for complete ones.
        strokes: Whether strokes are drawn and no background; empty if that was not looked at.
        warnings: Messages for the user.
    """

    codes: np.ndarray
    slices: dict[AnnotatedSlice, bool]
    strokes: list[bool]
    warnings: list[str]

    @classmethod
    def of(
        cls,
        drawing: Drawing,
        grid: GridMap,
        source: Source,
        corrected: np.ndarray | None,
        detect: bool,
    ) -> _Own:
        drawn = drawing.segments()
        background = drawing.numbers == BACKGROUND_DRAWN
        found: list[AnnotatedSlice] = []
        solid = False
        # Where slices are listed and voxels are copied, no vote needs the background of slices:
        # then each stroke in the panel is spared the search.
        if detect or grid.whole() is None:
            excluded = None
            if corrected is not None and corrected.any():
                excluded = carry(corrected.astype(np.uint8), grid.inverse(), 0) > 0
                background &= ~excluded
            found, solid = found_slices(drawn, excluded)
        incomplete = set(slices_with_strokes(found, drawn, background))
        complete = [s for s in found if s not in incomplete]
        warnings = []
        strokes = []
        if detect:
            lines = _Lines.of(drawn, complete, bool(background.any()), source)
            strokes = [lines.strokes]
            if lines.incomplete:
                incomplete, complete = set(found), []
            if solid and complete:
                warnings.append(solid_warning(source.name, len(found), source.name_slices))
            warnings += lines.warnings
        outside = _outside_warnings(drawing, drawn, found, grid, source)
        if detect:
            warnings += outside
        codes = drawing.numbers.astype(np.uint16)
        codes[codes == 0] = UNLABELLED
        for item in complete:
            plane = codes[item.selector()]
            plane[plane == UNLABELLED] = 0
        return cls(codes, {s: s not in incomplete for s in found}, strokes, warnings)


# Share of a slice's drawn voxels: less Background than this (a few voxels of a correction) does
# not show that the slice was left incomplete.
SOME = 0.2


def slices_with_strokes(
    slices: Sequence[AnnotatedSlice], drawn: np.ndarray, background: np.ndarray
) -> list[AnnotatedSlice]:
    """The slices in which a fair share of what was drawn is Background.

    Args:
        slices: The annotated slices.
        drawn: uint8 (k, j, i), not zero where a segment other than Background covers.
        background: Boolean (k, j, i), voxels drawn as background, without corrected ones.
    """
    return [
        item
        for item in with_background_strokes(slices, background)
        if np.count_nonzero(background[item.selector()])
        >= SOME * np.count_nonzero(drawn[item.selector()])
    ]


def _outside_warnings(
    drawing: Drawing,
    drawn: np.ndarray,
    slices: Sequence[AnnotatedSlice],
    grid: GridMap,
    source: Source,
) -> list[str]:
    """Messages about drawn voxels and slices that do not reach the other grid."""
    place = grid.whole()
    if place is not None and place.lies_within(grid.own, grid.other):
        return []
    total = int(np.count_nonzero(drawn))
    outside = count_outside(drawn > 0, grid)
    if total and outside == total:
        raise InputError(
            f"the segmentation {source.name} and the image do not overlap: all {total} drawn "
            "voxels lie outside the volume. Check that they belong together."
        )
    warnings = []
    if outside:
        warnings.append(
            f"{outside} of {total} drawn voxels of '{source.name}' lie outside the volume."
        )
    if grid.order() is None:
        warnings.append(
            f"'{source.name}' was drawn on a grid that is oblique to the volume: its "
            f"{len(slices)} drawn slices are no slices of the volume and are taken voxel by voxel."
        )
        return warnings
    lost = sum(1 for item in slices if not carry_slices([item], grid))
    if lost:
        warnings.append(
            f"{lost} of {len(slices)} drawn slices of '{source.name}' lie outside the volume."
        )
    return warnings

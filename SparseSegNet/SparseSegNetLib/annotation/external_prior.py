"""Another tool's result as a prior: its classes matched with the segments, on the volume's grid.

It may be a segmentation, a label image or a probability per class, from files or from the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .carry_probability import carry_probability, covered_by
from .drawn import Drawing
from .geometry import Geometry
from .grid_map import GridMap
from .merging import matching
from .segments import Segment

FEW = 32  # values of an image of whole numbers below which it is rather a label image
SHOWN = 8  # names in a message


@dataclass
class Prior:
    """Probabilities of some of the segments.

    Attributes:
        probabilities: uint8 (classes, k, j, i) on the volume's grid, 0 to 255.
        classes: The segments, numbered from 1, that they belong to.
        notes: Messages for the user.
        known: bool (classes, k, j, i), where something is said of each segment; None for
            everywhere.
    """

    probabilities: np.ndarray
    classes: tuple[int, ...]
    notes: list[str]
    known: np.ndarray | None = None


@dataclass
class PriorBuilder:
    """Collects a prior from one or several sources.

    Attributes:
        geometry: The volume's grid.
        segments: The classes of the annotation.
        remedy: What else the user can do where no class is among the segments, for the message.
        notes: Messages for the user.
    """

    geometry: Geometry
    segments: Sequence[Segment]
    remedy: str
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._found: dict[int, np.ndarray] = {}
        self._known: dict[int, np.ndarray] = {}
        self._covered: dict[Geometry, np.ndarray] = {}
        self._title: dict[int, str] = {}
        self._offered: list[str] = []

    def add_segments(
        self,
        title: str,
        drawings: Sequence[Drawing],
        own: Sequence[Segment],
        looked_at: Geometry | None,
    ) -> None:
        """Adds a segmentation, whose segments are matched by name, else by terminology.

        A segment that is empty is left out: nobody knows whether it was looked for.

        Args:
            title: The file or node, for messages.
            drawings: The segmentation; numbers count `own` from 1.
            own: Its segments.
            looked_at: The grid of what was segmented: what nobody drew in there is background.
                None for everything.

        Raises:
            InputError: It does not overlap the volume, or has a class that another source has.
        """
        known = None if looked_at is None else self._inside(looked_at)
        self._offered += [segment.name for segment in own]
        parts = [(drawing.segments(), drawing.geometry) for drawing in drawings]
        for place, number in enumerate(matching(self.segments, own), start=1):
            masks = [(numbers == place, grid) for numbers, grid in parts if number]
            masks = [(mask, grid) for mask, grid in masks if mask.any()]
            if number and not masks:
                self.notes.append(
                    f"the prior {title} has nothing in '{own[place - 1].name}': it is not used "
                    "for that segment."
                )
            elif number:
                drawn = self._carried(title, masks)
                self._add(title, number, drawn, None if known is None else known | (drawn > 0))

    def add_values(self, title: str, values: np.ndarray, geometry: Geometry) -> None:
        """Adds a label image without names, whose labels are those of the annotation's file.

        Outside of its grid it says nothing.

        Args:
            title: The file or node, for messages.
            values: Integer (k, j, i), 0 for background.
            geometry: Its grid.

        Raises:
            InputError: As `add_segments`.
        """
        present = [int(v) for v in np.unique(values) if v != 0]
        self._offered += [f"label {v}" for v in present]
        for number, segment in enumerate(self.segments, start=1):
            if segment.value in present:
                name = f"{title} (label {segment.value})"
                share = self._carried(name, [(values == segment.value, geometry)])
                self._add(name, number, share, self._inside(geometry))

    def add_probability(
        self, title: str, name: str, values: np.ndarray, geometry: Geometry
    ) -> None:
        """Adds the probability of one class; outside of its grid it says nothing.

        Args:
            title: The file or node, for messages.
            name: Name of the class.
            values: float 0 to 1, uint8 0 to 255, or a mask of 0 and 1, (k, j, i).
            geometry: Its grid.

        Raises:
            InputError: As `add_segments`, or the values are no probabilities.
        """
        self._offered.append(name)
        wanted = name.strip().casefold()
        names = [segment.name.strip().casefold() for segment in self.segments]
        share = _as_share(title, values)
        if wanted in names:
            carried = self._carried(title, [(share, geometry)])
            self._add(title, names.index(wanted) + 1, carried, self._inside(geometry))

    def finish(self) -> Prior:
        """The prior of all sources.

        Raises:
            InputError: None of them knows any of the segments.
        """
        names = [segment.name for segment in self.segments]
        if not self._found:
            raise InputError(
                f"the prior knows {_listed(self._offered)}, and annotated are {_listed(names)}: "
                "give a segment the same name on both sides (in label images without names: the "
                f"same label value), {self.remedy}."
            )
        classes = tuple(sorted(self._found))
        used = [f"'{names[number - 1]}' of {self._title[number]}" for number in classes]
        note = f"prior: {', '.join(used)}"
        lacking = [name for number, name in enumerate(names, start=1) if number not in classes]
        if lacking:
            note += f"; it does not know {_listed(lacking)}"
        known = None
        if self._known:
            everywhere = np.ones(self.geometry.shape, bool)
            known = np.stack([self._known.get(number, everywhere) for number in classes])
            share = known.any(axis=0).mean()
            note += f"; it covers {100 * share:.3g} % of the image and counts for nothing elsewhere"
        return Prior(
            np.stack([self._found[number] for number in classes]),
            classes,
            [*self.notes, note + "."],
            known,
        )

    def _add(self, title: str, number: int, share: np.ndarray, known: np.ndarray | None) -> None:
        name = self.segments[number - 1].name
        if number in self._found:
            raise InputError(
                f"two priors are given for '{name}', {self._title[number]} and {title}: give one."
            )
        self._found[number] = np.rint(255 * share).astype(np.uint8)
        self._title[number] = title
        if known is not None and not known.all():
            self._known[number] = known

    def _inside(self, grid: Geometry) -> np.ndarray:
        """The voxels of the volume that a grid covers, bool (k, j, i)."""
        if grid not in self._covered:
            self._covered[grid] = covered_by(GridMap.between(grid, self.geometry))
        return self._covered[grid]

    def _carried(self, title: str, parts: Sequence[tuple[np.ndarray, Geometry]]) -> np.ndarray:
        """Probabilities on the volume's grid, float32 (k, j, i); of several parts the largest."""
        found = []
        for values, grid in parts:
            inside = self._inside(grid)
            if not inside.any():
                raise InputError(
                    f"the prior {title} and the image do not overlap in space: correct its "
                    "position, or leave it out."
                )
            between = GridMap.between(grid, self.geometry)
            found.append(carry_probability(values.astype(np.float32), between, inside))
            if grid.difference(self.geometry) is not None:
                note = f"the prior {title} lies on another grid: it is resampled to the image's."
                if note not in self.notes:
                    self.notes.append(note)
        return found[0] if len(found) == 1 else np.maximum.reduce(found)


def _as_share(title: str, values: np.ndarray) -> np.ndarray:
    """Probabilities float32 from 0 to 1."""
    expected = "expected are probabilities from 0 to 1, or whole numbers from 0 to 255"
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        raise InputError(f"the prior {title} has several or complex values per voxel: {expected}.")
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind != "f"
    if not (low >= 0 and high <= (255 if whole else 1)):  # NaN is neither
        raise InputError(f"the prior {title} holds values from {low:g} to {high:g}: {expected}.")
    if whole and 1 < high < FEW:
        raise InputError(
            f"the prior {title} holds whole numbers up to {high:g}, like a label image with "
            f"several classes; of a single class {expected}. Give a label image without a name."
        )
    return values.astype(np.float32) / (255 if whole and high > 1 else 1)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN]) or "nothing"
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"

"""TIFF stacks: which page is which channel and slice, voxel size, and colour tables.

TIFF itself knows pages alone, and ITK reads them as slices. Programs write into the first page's
description what they mean: ImageJ lines of `name=value`, OME an XML element, tifffile a JSON
object with a shape.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from .tiff import (
    COLOURS,
    DESCRIPTION,
    PALETTE,
    SUFFIXES,
    X_RESOLUTION,
    Y_RESOLUTION,
    Page,
    read_pages,
)

MILLIMETRES = {
    "nm": 1e-6,
    "µm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "inch": 25.4,
}
MOST_CHANNELS = 16  # where a description has a shape but no names of the axes


@dataclass(frozen=True)
class Stack:
    """Order and voxel size of the pages, from a description.

    Attributes:
        program: The one that wrote it.
        axes: Letters T, C, Z with the number of each, the one that changes slowest first.
        spacing: Voxel size in mm along x, y and z, or None.
    """

    program: str
    axes: tuple[tuple[str, int], ...]
    spacing: tuple[float, float, float] | None = None

    def number(self, axis: str) -> int:
        """Entries along an axis."""
        return dict(self.axes).get(axis, 1)

    def pages(self) -> int:
        """Pages that there must be."""
        return self.number("T") * self.number("C") * self.number("Z")


def is_tiff(path: Path) -> bool:
    """Tells by its name whether a file is a TIFF file."""
    return path.name.lower().endswith(SUFFIXES)


def read_stack(
    path: Path, what: str, read: Callable[[Path], sitk.Image], notes: list[str]
) -> sitk.Image:
    """Reads a TIFF file with its channels as components.

    Args:
        path: The file.
        what: Its role, for messages.
        read: Reads its pages as slices.
        notes: Messages for the user are added here.

    Raises:
        InputError: It is a series in time, or holds other pages than its description says.
    """
    try:
        pages = read_pages(path)
    except (ValueError, KeyError, struct.error, OSError):
        pages = []  # damaged: the reader will say so
    stack = described(pages[0]) if pages else None
    if stack is not None:
        _check(path, what, stack, len(pages))
    if any(page.number(COLOURS, 0) == PALETTE for page in pages):
        with _without_colour_table(path, pages) as copy:
            image = read(copy)
        notes.append(
            f"{path.name} has a colour table: the values that it colours are used, not the colours."
        )
    else:
        image = read(path)
    if stack is None:
        return image
    return _arranged(path, what, image, stack, notes)


def described(page: Page) -> Stack | None:
    """Order and voxel size that a page's description names; None where it names nothing."""
    data = page.tags.get(DESCRIPTION)
    if not data:
        return None
    text = data[0].rstrip(b"\0").decode("utf-8", "replace")
    try:
        if text.startswith("ImageJ="):
            return _image_j(text, page)
        if "<OME" in text[:1000]:
            return _ome(text)
        if text.startswith('{"shape"'):
            return _tifffile(text)
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return None


def _image_j(text: str, page: Page) -> Stack:
    fields = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    counts = {
        axis: int(fields.get(name, 1))
        for axis, name in (("T", "frames"), ("Z", "slices"), ("C", "channels"))
    }
    if set(counts.values()) == {1}:
        counts["Z"] = int(fields.get("images", 1))
    spacing = None
    if "unit" in fields or "spacing" in fields:
        unit = fields.get("unit", "").replace("\\u00B5", "µ").strip()
        x, y = (
            1 / page.tags[tag][0] if page.tags.get(tag, (0,))[0] else 1.0
            for tag in (X_RESOLUTION, Y_RESOLUTION)
        )
        spacing = _in_mm((x, y, abs(float(fields.get("spacing", 1)))), (unit,) * 3)
    return Stack("ImageJ", tuple(counts.items()), spacing)


def _ome(text: str) -> Stack | None:
    found = re.search(r"<Pixels\b([^>]*)>", text)
    if found is None or len(re.findall(r"<Pixels\b", text)) > 1:
        return None
    fields = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
    order = fields["DimensionOrder"]  # XYCZT and so on, the fastest first
    axes = tuple((axis, int(fields[f"Size{axis}"])) for axis in reversed(order[2:]))
    # Samples of colour images lie in one page.
    samples = sum(int(n) for n in re.findall(r'SamplesPerPixel="(\d+)"', text)) or 1
    if samples > 1 and samples == dict(axes)["C"] and 'SamplesPerPixel="1"' not in text:
        axes = tuple((axis, 1 if axis == "C" else n) for axis, n in axes)
    spacing = None
    if "PhysicalSizeX" in fields:
        default = fields["PhysicalSizeX"]
        sizes = [float(fields.get(f"PhysicalSize{a}") or default) for a in "XYZ"]
        units = [fields.get(f"PhysicalSize{a}Unit", "µm").replace("&#181;", "µ") for a in "XYZ"]
        spacing = _in_mm((sizes[0], sizes[1], sizes[2]), (units[0], units[1], units[2]))
    return Stack("OME", axes, spacing)


def _tifffile(text: str) -> Stack | None:
    fields = json.loads(text)
    shape, axes = [int(n) for n in fields["shape"]], str(fields.get("axes", ""))
    if len(axes) == len(shape) and axes.endswith("YX") and set(axes) <= set("TZCYX"):
        return Stack("tifffile", tuple(zip(axes[:-2], shape[:-2], strict=True)))
    if len(shape) != 4 or shape[-1] in (3, 4):
        return None
    channels = shape.index(min(shape[:2]))
    if shape[channels] > MOST_CHANNELS:
        channels = 2  # none
    names = ["C" if n == channels else "Z" if n == 1 - channels else "T" for n in (0, 1)]
    return Stack("tifffile", tuple(zip(names, shape[:2], strict=True)))


def _in_mm(
    sizes: tuple[float, float, float], units: tuple[str, str, str]
) -> tuple[float, float, float] | None:
    x, y, z = (
        size * MILLIMETRES.get(unit.replace("μ", "µ").lower(), 1.0)
        for size, unit in zip(sizes, units, strict=True)
    )
    return (x, y, z) if all(1e-12 < mm < 1e12 for mm in (x, y, z)) else None


def _check(path: Path, what: str, stack: Stack, pages: int) -> None:
    if stack.pages() > pages and pages == 1 and stack.program == "ImageJ":
        raise InputError(
            f"{what} {path} cannot be read: ImageJ wrote {stack.pages()} slices behind one page, "
            "as it does for more than 4 GB, and TIFF readers find the first alone. Save it in Fiji "
            "as .nrrd (File, Save As, Nrrd)."
        )
    if stack.number("T") > 1 and stack.number("Z") > 1:
        raise InputError(
            f"{what} {path} holds {stack.number('T')} points in time ({stack.program}): give one. "
            "In Fiji: Image, Duplicate, with one frame, then File, Save As, Tiff."
        )
    if stack.number("C") > 1 and stack.pages() != pages:
        raise InputError(
            f"{what} {path} has {pages} pages, but {stack.program} wrote into it that there are "
            f"{stack.pages()} ({stack.number('C')} channels): save it again, for example in Fiji."
        )


def _arranged(
    path: Path, what: str, image: sitk.Image, stack: Stack, notes: list[str]
) -> sitk.Image:
    """The image with the description's channels and voxel size."""
    channels, pages = stack.number("C"), stack.pages()
    said = []
    if image.GetDimension() == 3 and pages == image.GetSize()[2] and channels > 1:
        if image.GetNumberOfComponentsPerPixel() > 1:
            raise InputError(
                f"{what} {path} has {channels} channels in colour: save them as grey values."
            )
        order = [axis for axis, n in stack.axes if n > 1]
        slices = pages // channels
        if order.index("C") == len(order) - 1:  # the pages of a slice stand together
            parts = [image[:, :, n::channels] for n in range(channels)]
        else:
            parts = [image[:, :, n * slices : (n + 1) * slices] for n in range(channels)]
        origin, direction, spacing = image.GetOrigin(), image.GetDirection(), image.GetSpacing()
        for part in parts:
            part.SetOrigin(origin)
            part.SetDirection(direction)
            part.SetSpacing(spacing)
        image = sitk.Compose(parts)
        said.append(f"{channels} channels of {slices} slices")
    if stack.number("T") > 1:
        said.append(f"its {stack.number('T')} points in time are taken as slices")
    if stack.spacing is not None:
        image.SetSpacing(stack.spacing[: image.GetDimension()])
        said.append("voxels of " + "x".join(f"{mm:.6g}" for mm in stack.spacing) + " mm")
    if said:
        notes.append(f"{path.name}, as {stack.program} describes it: {', '.join(said)}.")
    return image


@contextmanager
def _without_colour_table(path: Path, pages: list[Page]) -> Iterator[Path]:
    """A copy in which the voxels are grey values: ITK reads the colours of the table otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"values{path.suffix}"
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            for page in pages:
                if page.number(COLOURS, 0) == PALETTE:
                    file.seek(page.places[COLOURS])
                    file.write(struct.pack(page.order + "H", 1))  # black is 0
        yield copy

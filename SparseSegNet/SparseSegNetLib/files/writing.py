"""Writes label images and segmentations with the image's geometry, to the last bit."""

from __future__ import annotations

import errno
import itertools
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..annotation.geometry import Geometry
from ..annotation.segments import Segment
from ..errors import InputError
from ..runfolder.atomic import atomic_path
from ..runfolder.path_length import BESIDE, check_path
from . import nifti
from .completeness import check_complete
from .images import cause_of, geometry_of, read_file
from .nifti_grid import shear
from .quiet import quiet_libraries
from .segmentation_file import metadata

SEGMENTATION = ".seg.nrrd"
NRRD = (SEGMENTATION, ".nrrd", ".nhdr")


# Share of a voxel by which a format may round the geometry of what it stores.
KEPT = 1e-3


def suffix_of(path: Path | str) -> str:
    """Ending of the file name that decides the format: .seg.nrrd, .nii.gz, .nrrd and so on."""
    name = Path(path).name.lower()
    for ending in (SEGMENTATION, ".nii.gz"):
        if name.endswith(ending):
            return ending
    return Path(name).suffix


def stem_of(path: Path | str) -> str:
    """Name of a file without the ending that decides its format; of a folder its whole name."""
    name = Path(path).absolute().name
    return name if os.path.isdir(path) else name[: len(name) - len(suffix_of(name))] or name


def check_output(
    path: Path | str, geometry: Geometry, inputs: Sequence[Path | str] = ()
) -> str | None:
    """Checks, before any work is done, that a result can be written to `path`.

    Args:
        path: The output file.
        geometry: The image's grid.
        inputs: The files that must not be overwritten, the image first.

    Returns:
        A note for the user if the format rounds the geometry, else None.

    Raises:
        InputError: The folder is missing or cannot be written, the file would overwrite an
            input, or the format cannot be written or cannot hold the image's geometry.
    """
    path = Path(path)
    check_writable(path, inputs)
    suffix = suffix_of(path)
    if suffix in (".nhdr", ".mhd", ".hdr"):
        raise InputError(
            f"the output {path} would be two files (header and data): name a "
            "format with one, such as .nrrd, .mha or .nii.gz."
        )
    small = Geometry((2, 2, 2), geometry.spacing, geometry.origin, geometry.directions)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / f"trial{suffix}"
        try:
            _write(trial, np.zeros(small.shape, np.uint8), small, {})
        except RuntimeError as error:
            raise InputError(
                f"the output {path}: label images cannot be written as "
                f"'{suffix}'. Use .seg.nrrd, .nrrd, .nii.gz or .mha."
            ) from error
        if inputs:
            _copy_nifti_geometry(Path(inputs[0]), trial)
        try:
            kept = geometry_of(read_file(trial, "the trial output"))
            lost = small.difference(kept, KEPT)
        except InputError as error:
            lost = str(error).partition("cannot be used: ")[2] or "it cannot be read again"
    if lost is not None:
        tilted = suffix in nifti.SUFFIXES and shear(geometry) > 0
        raise InputError(
            f"the output {path}: a {suffix} file cannot hold the image's geometry "
            + ("(its axes are not at right angles)" if tilted else f"({lost})")
            + f". Use .seg.nrrd, .nrrd{'' if tilted else ', .nii.gz'} or .mha."
        )
    if suffix in nifti.SUFFIXES and shear(geometry) > 0:
        return (
            f"{path}: its axes will not be at right angles, as those of the image: programs that "
            "refuse such a NIfTI file (Slicer, SimpleITK) read a .nrrd."
        )
    if (
        suffix in nifti.SUFFIXES
        and kept != small
        and not (inputs and suffix_of(inputs[0]) in nifti.SUFFIXES)
    ):
        return (
            f"{path}: NIfTI holds the geometry in single precision; "
            "a .nrrd or .mha keeps it to the last bit."
        )
    return None


def check_writable(path: Path | str, inputs: Sequence[Path | str] = ()) -> None:
    """Raises InputError unless a file can be written at `path` without overwriting an input."""
    path = Path(path)
    check_path(path)
    for other in map(Path, inputs):
        if os.path.exists(path) and os.path.exists(other) and path.samefile(other):
            raise InputError(
                f"the output {path} would overwrite the input {other}: choose another name."
            )
    if os.path.isdir(path):
        raise InputError(f"the output {path} is a folder: name a file.")
    target = link_target(path)
    if os.path.islink(target):
        raise InputError(f"the output {path} is a link that leads back to itself: name a file.")
    if os.path.exists(target) and not os.path.isfile(target):  # it would be replaced by a file
        raise InputError(f"the output {path} is a device or a pipe: name a file.")
    parent, link = target.parent, f", to which {path} is a link," if target != path else ""
    check_path(parent, BESIDE)
    if not os.path.isdir(parent):
        raise InputError(f"the output folder {parent}{link} does not exist: create it first.")
    try:
        with tempfile.NamedTemporaryFile(prefix=".writing-", dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"the output folder {parent}{link} cannot be written ({error.strerror}): choose "
            "another."
        ) from error


def output_values(segments: Sequence[Segment]) -> list[int]:
    """Label values of a label image: the segments' own where these tell them apart, else 1..K.

    Slicer gives the segments of every layer values from 1 on.
    """
    own = [s.value for s in segments]
    apart = len(set(own)) == len(own) and min(own, default=1) > 0
    return own if apart else list(range(1, len(own) + 1))


def values_note(path: Path | str, segments: Sequence[Segment]) -> str | None:
    """A message about label values of an output that are not the segments' own, or None."""
    values = output_values(segments)
    if suffix_of(path) == SEGMENTATION or values == [s.value for s in segments]:
        return None
    which = ", ".join(f"{v} = {s.name}" for v, s in zip(values, segments, strict=True))
    return f"{path}: the segments share label values, so they are numbered: {which}."


def write_labels(
    path: Path | str,
    labels: np.ndarray,
    geometry: Geometry,
    segments: Sequence[Segment],
    like: Path | str | None = None,
) -> None:
    """Writes dense labels, atomically.

    A .seg.nrrd gets names, colours and terminology; any other format gets `output_values`.

    Args:
        path: The output file.
        labels: uint8 (k, j, i), 0 background, 1..K.
        geometry: The voxel grid.
        segments: The classes 1..K.
        like: The image's file, whose geometry fields are copied if both are NIfTI.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix == SEGMENTATION:
        head, values = metadata(list(segments), labels.shape), labels
    else:
        table = np.array([0, *output_values(segments)])
        # The smallest type that holds the values; uint8 is what most programs expect.
        head, values = {}, table.astype(np.min_scalar_type(int(table.max())))[labels]
    _write_whole(path, values, geometry, head, like)


def write_image(
    path: Path | str, values: np.ndarray, geometry: Geometry, like: Path | str | None = None
) -> None:
    """Writes an image of one channel, atomically.

    Args:
        path: The output file.
        values: (k, j, i), of a type that the format holds.
        geometry: The voxel grid.
        like: The image's file, whose geometry fields are copied if both are NIfTI.

    Raises:
        OSError: It cannot be written.
    """
    _write_whole(Path(path), values, geometry, {}, like)


def _write_whole(
    path: Path,
    values: np.ndarray,
    geometry: Geometry,
    head: dict[str, str],
    like: Path | str | None,
) -> None:
    with atomic_path(link_target(path), suffix_of(path)) as temporary:
        try:
            _write(temporary, values, geometry, head)
        except RuntimeError as error:  # what SimpleITK raises for a full disk, among others
            raise OSError(errno.EIO, cause_of(error), str(path)) from error
        if like is not None:
            _copy_nifti_geometry(Path(like), temporary)
        try:
            check_complete(temporary, "the file")
        except InputError as error:  # ITK's writers say nothing of what a full disk refuses
            raise OSError(errno.ENOSPC, "it was cut off (is the disk full?)", str(path)) from error


def _copy_nifti_geometry(source: Path, target: Path) -> None:
    """Copy the geometry fields where both files are NIfTI."""
    both = {suffix_of(source), suffix_of(target)} <= {*nifti.SUFFIXES, *nifti.PAIR}
    if both and source.is_file():
        nifti.copy_geometry(source, target)


def link_target(path: Path | str) -> Path:
    """The file to write for a name: of a symbolic link its target, so that the link stays."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _write(path: Path, values: np.ndarray, geometry: Geometry, head: dict[str, str]) -> None:
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(geometry.origin)
    spacing: tuple[float, ...] = geometry.spacing
    directions = geometry.directions
    if suffix_of(path) in NRRD:
        spacing, directions = nrrd_grid(spacing, directions)
    image.SetSpacing(spacing)
    image.SetDirection(directions)
    for key, value in head.items():
        image.SetMetaData(key, value)
    with quiet_libraries():  # of axes at other angles, which are copied afterwards
        sitk.WriteImage(image, str(path), True)


def nrrd_grid(
    spacing: Sequence[float], directions: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Spacing and directions to give to ITK so that reading the NRRD restores the wanted ones.

    NRRD stores one vector per axis, spacing times direction; the reader takes its length and
    multiplies by the reciprocal (teem's nrrdSpacingCalculate), which changes last bits. Near the
    product there is (for grids that came from a NRRD) a vector from which the reader recovers
    both exactly: it is searched here and returned as directions with spacing 1. Where there
    is none (oblique grids from other formats) the spacing is kept and the directions come within
    a unit in their last place.

    Args:
        spacing: mm along i, j, k.
        directions: 3x3 matrix, row by row.

    Returns:
        Spacing and directions, in the same order.
    """
    columns = []
    for axis in range(3):
        wanted = [directions[3 * row + axis] for row in range(3)]
        columns.append(_nrrd_vector(spacing[axis], wanted))
    return (1.0, 1.0, 1.0), tuple(columns[axis][row] for row in range(3) for axis in range(3))


def _nrrd_vector(length: float, direction: Sequence[float]) -> list[float]:
    product = [length * d for d in direction]
    best, best_error = product, (True, math.inf)
    # Steps of one unit in the last place, nearest first; zero components stay zero.
    reach = [(0, 1, -1, 2, -2) if p else (0,) for p in product]
    for steps in sorted(itertools.product(*reach), key=lambda s: sum(map(abs, s))):
        vector = [_stepped(p, n) for p, n in zip(product, steps, strict=True)]
        norm = math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
        error = (
            norm != length,
            abs(norm - length) / length
            + sum(abs(v * (1.0 / norm) - d) for v, d in zip(vector, direction, strict=True)),
        )
        if error < best_error:
            best, best_error = vector, error
        if error == (False, 0.0):
            break
    return best


def _stepped(value: float, steps: int) -> float:
    for _ in range(abs(steps)):
        value = math.nextafter(value, math.copysign(math.inf, steps))
    return value

"""Reads a DICOM series: slices placed by their own positions, checked that they make a volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .dicom_frames import frames_of
from .dicom_grid import IN_SLICER, image_grid, sort_slices
from .dicom_headers import DicomFile, DicomSlice, files_in, read_header
from .dicom_segmentation import read_dicom_segmentation
from .dicom_volumes import choose, volumes_of

MOST_FOLDERS = 200  # looked into for the message that names them


def read_dicom_folder(
    folder: Path, what: str, series: str | None, notes: list[str], labels: bool = False
) -> sitk.Image:
    """Reads the DICOM series in a folder; other files in it do not matter.

    Args:
        folder: The folder.
        what: Its role, for messages.
        series: Names one of several series; see `choose`.
        notes: Gets messages for the user.
        labels: Whether labels are read, for which there is no option --series.

    Raises:
        InputError: There is no series or several, a file is damaged, or the slices are no
            regular volume.
    """
    files = [read_header(path, what) for path in files_in(folder)]
    images = [file for file in files if file.slice is not None]
    if not images:
        raise InputError(
            f"{what} {folder} is a folder with 0 DICOM series{_instead(folder, files)}"
        )
    slices = [one for file in images for one in _slices(file, what)]
    volume = choose(volumes_of(slices), series, folder, what, not labels)
    return _image(volume.slices, folder, what, notes)


def read_dicom_file(
    path: Path, what: str, series: str | None, notes: list[str], labels: bool = False
) -> sitk.Image:
    """Reads a DICOM file that is an image of its own: several frames, or the only slice.

    Args:
        path: The file.
        what: Its role, for messages.
        series: Names one of several volumes in it; see `choose`.
        notes: Gets messages for the user.
        labels: Whether labels are read, also from a DICOM segmentation (SEG).

    Raises:
        InputError: The file is damaged, no image, one slice of many, or no regular volume.
    """
    file = read_header(path, what)
    if file.kind == "SEG":
        if not labels:
            raise InputError(
                f"{what} {path} is a DICOM segmentation (SEG): the labels come last, behind the "
                "image."
            )
        return read_dicom_segmentation(path, what, notes)
    if file.slice is None:
        raise InputError(
            f"{what} {path} is a DICOM object of the kind {file.kind}, no image: open it in "
            f"Slicer and save it as {'.seg.nrrd' if file.kind == 'RTSTRUCT' else '.nrrd'}."
        )
    if file.frames == 1:
        others = [p for p in files_in(path.parent) if _is_beside(p, file.slice)]
        if others:
            raise InputError(
                f"{what} {path} is one slice of a DICOM series of {len(others) + 1}: give the "
                f"folder {path.parent}."
            )
        notes.append(f"{path}: a single DICOM slice.")
    volume = choose(volumes_of(_slices(file, what)), series, path, what, not labels)
    return _image(volume.slices, path, what, notes)


def _slices(file: DicomFile, what: str) -> list[DicomSlice]:
    assert file.slice is not None
    return frames_of(file, what) if file.frames > 1 else [file.slice]


def _is_beside(path: Path, one: DicomSlice) -> bool:
    """Tells whether a file is another slice of the same series."""
    if path == one.path:
        return False
    try:
        other = read_header(path, "").slice
    except InputError:
        return False
    return other is not None and other.uid == one.uid


def _image(slices: Sequence[DicomSlice], source: Path, what: str, notes: list[str]) -> sitk.Image:
    _refuse_tiles(slices, source, what)
    ordered = sort_slices(slices, source, what)
    grid = image_grid(ordered, source, what, notes)
    voxels = _voxels(ordered, source, what)
    image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.directions)
    return image


def _voxels(slices: Sequence[DicomSlice], source: Path, what: str) -> np.ndarray:
    """The voxels (k, j, i) or (k, j, i, component), in a type that holds those of all slices."""
    out: np.ndarray | None = None
    path, frames = None, np.empty(0)
    for n, one in enumerate(slices):
        if one.path != path:
            path, frames = one.path, _pixels(one.path, what)
        plane = frames[one.frame]
        if out is None:
            out = np.empty((len(slices), *plane.shape), plane.dtype)
        if plane.shape != out.shape[1:]:
            raise InputError(
                f"{what} {source}: {slices[0].name} and {one.name} differ in the number of "
                f"components of a voxel. They are no volume together: {IN_SLICER}."
            )
        # Each slice of a PET has a factor of its own, and so perhaps a type of its own.
        if (kind := np.result_type(out, plane)) != out.dtype:
            out = out.astype(kind)
        out[n] = plane
    assert out is not None
    return out


def _pixels(path: Path, what: str) -> np.ndarray:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        return sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(
            f"{what}: the voxels of {path} cannot be read: the file is damaged or cut off, or "
            "packed in a way that ITK cannot read. Copy or download it again, or "
            f"{IN_SLICER}."
        ) from error


def _refuse_tiles(slices: Sequence[DicomSlice], source: Path, what: str) -> None:
    """Refuse files in which the slices of a volume lie side by side in one picture."""
    if any("MOSAIC" in one.telling.get("image type", "").upper() for one in slices):
        raise InputError(
            f"{what} {source}: {slices[0].name} is a mosaic, a picture of many slices side by "
            "side: load it in Slicer and save the volume as .nrrd."
        )


def _instead(folder: Path, files: Sequence[DicomFile]) -> str:
    """The end of a message: what is there instead of a series, and what to give."""
    segmentations = [file.path.name for file in files if file.kind == "SEG"]
    if segmentations:
        return f", but with the DICOM segmentation {segmentations[0]}: give this file."
    below = (Path(root) for root, _, _ in islice(os.walk(folder), 1, MOST_FOLDERS))
    deeper = sorted(str(p) for p in below if next(files_in(p), None) is not None)
    if deeper:
        more = f" (and {len(deeper) - 1} more)" if len(deeper) > 1 else ""
        return f" in itself; its subfolder {deeper[0]}{more} has DICOM files: give that one."
    kinds = sorted({file.kind for file in files})
    return (
        f" (only {', '.join(kinds)})" if kinds else ""
    ) + ": give a file, or a folder with the slices of one series."

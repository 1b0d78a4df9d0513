"""Reads images: anything that SimpleITK reads, several files as several channels."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import SimpleITK as sitk

from ..annotation.geometry import Geometry, triple
from ..errors import InputError
from .completeness import check_complete
from .dicom import read_dicom_file, read_dicom_folder
from .dicom_headers import is_dicom
from .headers import check_header
from .nifti import is_newer
from .nifti_grid import any_angles, is_nifti, shear, true_grid
from .other_formats import folder_fault, remedy, without_geometry
from .quiet import quiet_libraries
from .tiff_stacks import is_tiff, read_stack

MODALITY = "0008|0060"  # DICOM's tag
MOST_CHANNELS = 16  # along a fourth axis; more are rather points in time


@dataclass
class Volume:
    """An image of one or several channels.

    Attributes:
        image: (c, k, j, i) in the files' own type.
        geometry: The voxel grid.
        channels: The name of each channel.
        paths: The files.
        notes: Messages for the user.
    """

    image: np.ndarray
    geometry: Geometry
    channels: list[str]
    paths: list[Path]
    notes: list[str] = field(default_factory=list)


def read_file(
    path: Path | str,
    what: str,
    most_channels: int = 1,
    notes: list[str] | None = None,
    series: str | None = None,
    labels: bool = False,
) -> sitk.Image:
    """Reads a 3D (or one-frame 4D) image file; a 2D image becomes one slice.

    Args:
        path: The file, or a folder with a DICOM series.
        what: Its role, for the message.
        most_channels: Up to so many entries of a fourth axis are read as channels.
        notes: Messages for the user are added here.
        series: Names one of several DICOM series in the folder.
        labels: Read a DICOM segmentation, which is no image.

    Raises:
        InputError: It is missing, unreadable or not 3D, or its geometry cannot be used.
    """
    path, notes = Path(path), [] if notes is None else notes
    if not os.path.exists(path):  # unlike Path.exists, it accepts impossible names
        raise InputError(f"{what} {path} does not exist.")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{what} {path} is neither a file nor a folder.")
    if path.is_dir() and (fault := folder_fault(path)) is not None:
        raise InputError(f"{what} {path} {fault}.")
    check_header(path, what)
    check_complete(path, what)
    try:
        with quiet_libraries():
            image = _read(path, what, notes, series, labels)
    except RuntimeError as error:
        raise InputError(
            f"{what} {path} cannot be read: {cause_of(error)}. {remedy(path)}"
        ) from error
    _refuse_other_objects(image, path, what)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() == 4 and 1 < image.GetSize()[3] <= most_channels:
        image = sitk.Compose([image[..., n] for n in range(image.GetSize()[3])])
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3:
        raise InputError(
            f"{what} {path} has {image.GetDimension()} dimensions "
            f"({'x'.join(map(str, image.GetSize()))}): a 3D image is needed, or up to "
            f"{MOST_CHANNELS} channels along the fourth axis of the image."
        )
    if is_nifti(path):
        grid, said = true_grid(path, geometry_of(image))
        notes.extend(said)
        put_on(image, grid)
    if (fault := geometry_of(image).fault()) is not None:
        raise InputError(
            f"{what} {path} cannot be used: {fault}. Correct the geometry, for "
            "example in Slicer's module Volumes, and save it again."
        )
    return image


def _read(path: Path, what: str, notes: list[str], series: str | None, labels: bool) -> sitk.Image:
    if path.is_dir():
        return read_dicom_folder(path, what, series, notes, labels)
    if is_dicom(path):
        return read_dicom_file(path, what, series, notes, labels)
    if is_tiff(path):
        return read_stack(path, what, lambda file: sitk.ReadImage(str(file)), notes)
    if not is_nifti(path):
        return sitk.ReadImage(str(path))
    if is_newer(path):
        raise InputError(
            f"{what} {path} is a NIfTI-2 file, which SimpleITK does not read: write it as NIfTI-1, "
            "for example in Python: import nibabel; "
            f"nibabel.save(nibabel.Nifti1Image.from_image(nibabel.load('{path}')), 'image.nii.gz')"
        )
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise
    with any_angles():
        return sitk.ReadImage(str(path))


def _refuse_other_objects(image: sitk.Image, path: Path, what: str) -> None:
    """Refuse files of which ITK reads voxels without what they mean."""
    kind = image.GetMetaData(MODALITY).strip() if image.HasMetaDataKey(MODALITY) else ""
    if kind in ("SEG", "RTSTRUCT", "RTDOSE", "SR"):
        raise InputError(
            f"{what} {path} is a DICOM object of the kind {kind}, which ITK reads without its "
            "segments and its position: open it in Slicer and save it as .seg.nrrd."
        )
    held = "Segmentation_ContainedRepresentationNames"
    if image.HasMetaDataKey(held) and "Fractional labelmap" in image.GetMetaData(held):
        raise InputError(
            f"{what} {path} is a fractional labelmap: convert it to a binary one in Slicer's "
            "module Segmentations (Representations, Binary labelmap, Create) and save it again."
        )


def by_index_note(path: Path | str, difference: str) -> str:
    """A message about a file that is taken on another grid, voxel by voxel."""
    return (
        f"{Path(path).name} differs in {difference} (image against this file), but its format or "
        "the image's holds no position: its voxels are taken in their order, and the image's "
        "grid counts."
    )


def segment_numbers(image: sitk.Image) -> list[int]:
    """The numbers of the segments in Slicer's header; other programs leave gaps between them."""
    found = (re.fullmatch(r"Segment([0-9]{1,6})_(ID|Name)", k) for k in image.GetMetaDataKeys())
    return sorted({int(match[1]) for match in found if match})


def _refuse_segmentation(image: sitk.Image, path: Path) -> None:
    if segment_numbers(image):
        raise InputError(
            f"{path} is a segmentation, but stands among the images: the images come first, the "
            "one label file or segmentation comes last."
        )


def _refuse_mask(channel: np.ndarray, name: str) -> None:
    """Refuse a segmentation that stands among the images."""
    if channel.dtype.kind not in "iub":
        return
    low, high = channel.min(), channel.max()
    # Counted, not sorted: a scan has hundreds of millions of voxels.
    if low < high and high > 0 and ((channel == low) | (channel == high)).all():
        raise InputError(
            f"{name} is given as an image, but holds only {low} and {high}: is "
            "it a label file? One label file comes last, after the images; several, one for each "
            f"structure, are given as --labels {Path(name).name.split('.')[0]}={name} NAME=FILE."
        )


def geometry_of(image: sitk.Image) -> Geometry:
    """Voxel grid of a 3D SimpleITK image."""
    return Geometry(
        triple(map(int, image.GetSize())),
        image.GetSpacing(),
        image.GetOrigin(),
        image.GetDirection(),
    )


def put_on(image: sitk.Image, geometry: Geometry) -> None:
    """Gives an image another spacing, origin and directions."""
    if geometry_of(image) != geometry:
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.directions)


def read_volume(
    paths: Sequence[Path | str], replace_nonfinite: bool = False, series: str | None = None
) -> Volume:
    """Reads one volume from one or several files; several (or vector pixels) give channels.

    Args:
        paths: The files, at least one.
        replace_nonfinite: Replace NaN and infinite values by the lowest finite value of the
            channel instead of refusing them.
        series: Names one of several DICOM series in a folder.

    Raises:
        InputError: A file is unreadable, the grids differ, or there are complex pixels or
            non-finite values.
    """
    if series is not None and not any(Path(p).is_dir() or is_dicom(Path(p)) for p in paths):
        raise InputError(f"--series {series} is given, but no image is a folder with DICOM files.")
    channels: list[np.ndarray] = []
    names: list[str] = []
    notes: list[str] = []
    first: Geometry | None = None
    for path in map(Path, paths):
        image = read_file(path, "the image", MOST_CHANNELS, notes, series)
        _refuse_segmentation(image, path)
        grid = geometry_of(image)
        if first is None:
            first = grid
        elif (difference := first.difference(grid)) is not None:
            if first.size != grid.size or not without_geometry(path):
                raise InputError(
                    f"the channels lie on different grids: {paths[0]} and {path} differ "
                    f"in {difference}. Resample one to the other."
                )
            notes.append(by_index_note(path, difference))
        pixels = sitk.GetArrayFromImage(image)
        if np.iscomplexobj(pixels):
            raise InputError(f"the image {path} has complex voxels: real ones are needed.")
        parts = [pixels] if pixels.ndim == 3 else list(np.moveaxis(pixels, -1, 0))
        if channels and len(parts) == 1:
            _refuse_mask(pixels, path.name)
        for n, part in enumerate(parts):
            channels.append(_finite(part, path, replace_nonfinite))
            names.append(path.name if len(parts) == 1 else f"{path.name}[{n}]")
    first = cast(Geometry, first)
    folder = Path(paths[0]).is_dir() or is_dicom(Path(paths[0]))  # says it by itself
    if not folder and (angle := shear(first)) > 0:
        notes.append(
            f"{Path(paths[0]).name} has axes that are not at right angles (by {angle:.2g} degrees, "
            "as of a scan with a tilted gantry): they are kept."
        )
    kind = np.result_type(*channels)
    stacked = np.stack([np.ascontiguousarray(c, dtype=kind) for c in channels])
    return Volume(stacked, first, names, [Path(p) for p in paths], notes)


def _finite(pixels: np.ndarray, path: Path, replace: bool) -> np.ndarray:
    if not np.issubdtype(pixels.dtype, np.floating):
        return pixels
    good = np.isfinite(pixels)
    bad = pixels.size - int(np.count_nonzero(good))
    if bad == 0:
        return pixels
    if bad == pixels.size:
        raise InputError(f"the image {path} has no finite voxel at all.")
    if not replace:
        raise InputError(
            f"the image {path} has {bad} voxels that are not finite (NaN or "
            "infinite): repair them, or give --replace-nonfinite to set them to the "
            "lowest finite value."
        )
    return np.where(good, pixels, pixels[good].min())


def cause_of(error: RuntimeError) -> str:
    """The line of SimpleITK's long error message that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if "sitk::ERROR" in line or "ITK ERROR" in line]
    return (marked or lines or ["unknown cause"])[-1].split("ERROR:")[-1].strip(" .")

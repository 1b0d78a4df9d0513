"""Files and folders that are no images to ITK: the way from each to one that is."""

from __future__ import annotations

from pathlib import Path

USUAL = (
    "Give an image in a format that SimpleITK reads, such as .nrrd, .nii.gz, .mha or a folder "
    "with one DICOM series."
)
_SLICER = "open it in Slicer and save it as {0}"
_PYTHON = (
    "write it as an image in Python: import SimpleITK as sitk; "
    "sitk.WriteImage(sitk.GetImageFromArray({}), 'image.nrrd') with an array of the axes "
    "(slices, rows, columns), and set the voxel size with SetSpacing"
)
_CONTOURS = (
    "in Slicer load it with its DICOM series (module DICOM, extension SlicerRT), and save the "
    "segmentation as .seg.nrrd"
)
_MESH = (
    "a surface has no voxels: open it in Slicer as a segmentation, create its binary labelmap "
    "(module Segmentations, Representations), and save it as .seg.nrrd"
)
_STACK = "open it in Fiji (File, Import, Image Sequence) and save it as one .nrrd or .tif"
_ZARR = (
    "'segment' and 'densify' read OME-Zarr; elsewhere write one of its arrays as an image in "
    "Python: " + _PYTHON.partition(": ")[2].format("zarr.open('{path}')['0'][...]")
)
WAYS = {
    ".npy": _PYTHON.format("numpy.load('{path}')"),
    ".npz": _PYTHON.format("numpy.load('{path}')[NAME]"),
    ".h5": _PYTHON.format("h5py.File('{path}')[NAME][...]"),
    ".hdf5": _PYTHON.format("h5py.File('{path}')[NAME][...]"),
    ".mat": _PYTHON.format("scipy.io.loadmat('{path}')[NAME].transpose(2, 0, 1)"),
    ".zarr": _ZARR,
    ".n5": _ZARR,
    ".csv": "a table has no voxels: give an image",
    ".stl": _MESH,
    ".obj": _MESH,
    ".ply": _MESH,
    ".vtp": _MESH,
    ".vtk": "of these files images alone can be read; " + _MESH,
    ".raw": "raw voxels need a header beside them: write a .mhd or .nhdr file that names their "
    "size, type and spacing, and give that",
    ".dcm": "give the folder of the series; of a DICOM SEG or RTSTRUCT, " + _CONTOURS,
    ".czi": "open it in Fiji (Bio-Formats) and save it as .nrrd or .tif",
    ".lif": "open it in Fiji (Bio-Formats) and save it as .nrrd or .tif",
    ".nd2": "open it in Fiji (Bio-Formats) and save it as .nrrd or .tif",
    ".mgz": _SLICER.format(".nrrd") + " (extension SlicerFreeSurfer), or use mri_convert",
    ".mgh": _SLICER.format(".nrrd") + " (extension SlicerFreeSurfer), or use mri_convert",
    ".mrb": _SLICER.format(".nrrd and .seg.nrrd"),
    ".zip": "unpack it",
    ".7z": "unpack it",
    ".rar": "unpack it",
    ".tar": "unpack it",
}
SLICES = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")
POSITIONLESS = SLICES
IMAGES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")


def without_geometry(path: Path | str) -> bool:
    """Tells by its name whether a file's format carries no position and directions.

    Such a file has at most a resolution, which programs write, change and drop as they please.
    """
    return Path(path).name.lower().endswith(POSITIONLESS)


def remedy(path: Path) -> str:
    """A sentence on what to do with a file that cannot be read."""
    suffix = path.suffix.lower()
    pair = {".hdr": ".img", ".img": ".hdr"}.get(suffix)
    if pair is not None and not path.with_suffix(pair).exists():
        return f"Header and voxels are two files: put {path.with_suffix(pair).name} beside it."
    if suffix in WAYS:
        way = WAYS[suffix].replace("{path}", str(path))
        return f"It is no image that SimpleITK reads: {way}."
    return USUAL


def _may_be_dicom(path: Path) -> bool:
    """True for names that DICOM files have: an ending of their own, none, or a number's."""
    suffix = path.suffix.lower()
    return suffix in (".dcm", ".ima", "") or suffix[1:].isdecimal()


def images_in(folder: Path) -> list[Path]:
    """The images of a folder by their names, in order; none if it may hold a DICOM series.

    Segmentations (``.seg.nrrd``) are no images.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if any(map(_may_be_dicom, files)):
        return []
    names = ((p, p.name.lower()) for p in files)
    return [p for p, name in names if name.endswith(IMAGES) and not name.endswith(".seg.nrrd")]


def folder_fault(folder: Path) -> str | None:
    """Reason why a folder holds no DICOM series, with the way out; None if it may hold one."""
    if folder.suffix.lower() in (".zarr", ".n5"):
        return f"is a store of arrays: {WAYS[folder.suffix.lower()]}".replace("{path}", str(folder))
    if not any(p.is_file() for p in folder.rglob("*")):
        return (
            "is a folder with 0 DICOM series, for it is empty: give a file, or the folder of a "
            "series"
        )
    files = [p for p in folder.iterdir() if p.is_file()]
    slices = [p for p in files if p.suffix.lower() in SLICES]
    if slices and not any(map(_may_be_dicom, files)):
        kind = slices[0].suffix
        return (
            f"is a folder of {len(slices)} {kind} files, which do not say in which order they "
            f"stand and how far apart: {_STACK}"
        )
    if images := images_in(folder):
        return f"is a folder of images ({images[0].name} and so on): name the files"
    return None

"""Opens a volume of which boxes are to be read, whatever its format."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .mapped_volume import ENDINGS, MappedVolume
from .ngff_volume import NgffVolume
from .stored_volume import StoredVolume
from .zarr_library import is_zarr


def open_stored(path: Path | str) -> StoredVolume:
    """Opens a volume; no voxel is read.

    Args:
        path: An OME-Zarr store or a group in one, or an uncompressed .nrrd, .nhdr, .mha, .mhd or
            .npy file.

    Raises:
        InputError: It cannot be read in boxes.
    """
    path = Path(path)
    if path.is_dir() or is_zarr(path):
        return NgffVolume.open(path)
    if path.suffix.lower() in ENDINGS:
        return MappedVolume.open(path)
    raise InputError(
        f"the image {path} cannot be read in parts: an OME-Zarr store, or an uncompressed "
        f"{', '.join(ENDINGS)} file is needed."
    )

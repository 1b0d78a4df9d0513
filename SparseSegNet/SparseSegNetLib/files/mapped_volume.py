"""Volumes in uncompressed NRRD, MetaImage and .npy files, mapped into memory as they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk

from ..annotation.geometry import Geometry, Triple, triple
from ..errors import InputError
from .headers import check_header
from .images import MOST_CHANNELS, cause_of
from .ngff_volume import DIRECTIONS
from .quiet import quiet_libraries
from .stored_volume import Level, StoredVolume, check_type

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd", ".npy")
PIECE = 128  # voxels along each side of the boxes that a file is read in
# numpy's types by the names that ITK gives those of voxels.
TYPES = {
    sitk.sitkInt8: "i1",
    sitk.sitkUInt8: "u1",
    sitk.sitkInt16: "i2",
    sitk.sitkUInt16: "u2",
    sitk.sitkInt32: "i4",
    sitk.sitkUInt32: "u4",
    sitk.sitkInt64: "i8",
    sitk.sitkUInt64: "u8",
    sitk.sitkFloat32: "f4",
    sitk.sitkFloat64: "f8",
}
PLACE = sitk.sitkVectorUInt8 - sitk.sitkUInt8  # from a scalar type's number to the vector type's


@dataclass(frozen=True)
class _Voxels:
    """The place of the voxels: a file, the first byte in it, and whether the last byte is low."""

    file: Path
    offset: int
    big_endian: bool


@dataclass
class MappedVolume(StoredVolume):
    """A volume in a file that is mapped into memory.

    Attributes:
        file: The file that holds the voxels.
        offset: First byte of them.
        stored: Their type with its byte order.
        layout: Shape of the array in the file.
        order: The axes c, k, j and i of the file's array; c is None if there is none.
    """

    file: Path = Path()
    offset: int = 0
    stored: str = ""
    layout: tuple[int, ...] = ()
    order: tuple[int | None, int, int, int] = (None, 0, 1, 2)

    @classmethod
    def open(cls, path: Path | str) -> MappedVolume:
        """Opens a file; no voxel is read.

        Raises:
            InputError: It is compressed, cut off, or of a form that cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"the image {path} does not exist.")
        volume = _open_npy(path) if path.suffix.lower() == ".npy" else _open_image(path)
        check_type(volume.dtype, path)
        needed = volume.offset + int(np.prod(volume.layout, dtype=np.int64)) * volume.dtype.itemsize
        if (there := os.path.getsize(volume.file)) < needed:
            raise InputError(
                f"the image {path} is cut off: {volume.file.name} has {there} of the {needed} "
                "bytes that its header announces. Copy or download it again."
            )
        return volume

    def _read(self, low: Triple, high: Triple, level: int) -> np.ndarray:
        values = np.memmap(self.file, self.stored, "r", self.offset, self.layout)
        box: list[slice] = [slice(None)] * len(self.layout)
        for axis, a, b in zip(self.order[1:], low, high, strict=True):
            box[axis] = slice(a, b)
        part = values[tuple(box)]
        channel, *space = self.order
        part = part[None] if channel is None else part.transpose(channel, *space)
        return np.array(part, dtype=self.dtype, order="C")


def _grid(size: Triple) -> Geometry:
    return Geometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), DIRECTIONS)


def _made(
    path: Path, geometry: Geometry, voxels: _Voxels, kind: str, components: int, first: bool
) -> MappedVolume:
    """A volume of a grid; `components` channels, along the array's first or its last axis."""
    shape = geometry.shape
    layout = shape if components == 1 else (components, *shape) if first else (*shape, components)
    order: tuple[int | None, int, int, int] = (None, 0, 1, 2)
    if components > 1:
        order = (0, 1, 2, 3) if first else (3, 0, 1, 2)
    names = [path.name] if components == 1 else [f"{path.name}[{n}]" for n in range(components)]
    return MappedVolume(
        path,
        np.dtype(kind),
        [Level(geometry, triple(min(n, PIECE) for n in shape))],
        names,
        [],
        voxels.file,
        voxels.offset,
        np.dtype(kind).newbyteorder(">" if voxels.big_endian else "<").str,
        layout,
        order,
    )


def _open_npy(path: Path) -> MappedVolume:
    try:
        found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy evaluates the header: whatever it holds
        raise InputError(f"the image {path} cannot be read: {error}.") from error
    if not isinstance(found, np.memmap) or not found.flags.c_contiguous:
        raise InputError(
            f"the image {path} is no array in C order (k, j, i): save it again with "
            "numpy.save(path, numpy.ascontiguousarray(array))."
        )
    if found.ndim not in (3, 4) or (found.ndim == 4 and found.shape[0] > MOST_CHANNELS):
        raise InputError(
            f"the image {path} has the shape {found.shape}: (k, j, i) is needed, or (c, k, j, i) "
            f"with up to {MOST_CHANNELS} channels."
        )
    check_type(found.dtype, path)
    size = cast(Triple, tuple(reversed(found.shape[-3:])))
    if (fault := _grid(size).fault()) is not None:
        raise InputError(f"the image {path} cannot be used: {fault}.")
    channels = 1 if found.ndim == 3 else found.shape[0]
    voxels = _Voxels(path, found.offset, found.dtype.newbyteorder("<") != found.dtype)
    kind = found.dtype.newbyteorder("=").str
    volume = _made(path, _grid(size), voxels, kind, channels, True)
    volume.notes.append(f"{path.name} holds no voxel size: 1 mm along each axis is taken.")
    return volume


def _open_image(path: Path) -> MappedVolume:
    """A NRRD or MetaImage file; ITK reads the header, apart from where the voxels are."""
    check_header(path, "the image")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet_libraries():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"the image {path} cannot be read: {cause_of(error)}.") from error
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    pixel = reader.GetPixelID()
    kind = TYPES.get(pixel - PLACE if components > 1 else pixel)
    if kind is None:
        name = sitk.GetPixelIDValueAsString(pixel)
        raise InputError(
            f"the image {path} has voxels of the type '{name}': whole or real numbers are needed."
        )
    fourth = len(size) == 4 and 1 < size[3] <= MOST_CHANNELS and components == 1
    if len(size) != 3 and not fourth and not (len(size) == 4 and size[3] == 1):
        raise InputError(
            f"the image {path} has {len(size)} dimensions ({'x'.join(map(str, size))}): a volume "
            f"is needed, or up to {MOST_CHANNELS} channels along the fourth axis."
        )
    n = len(size)
    directions = reader.GetDirection()
    geometry = Geometry(
        triple(size[:3]),
        cast(tuple[float, float, float], tuple(reader.GetSpacing()[:3])),
        cast(tuple[float, float, float], tuple(reader.GetOrigin()[:3])),
        tuple(directions[n * row + column] for row in range(3) for column in range(3)),
    )
    if (fault := geometry.fault()) is not None:
        raise InputError(f"the image {path} cannot be used: {fault}.")
    head = _nrrd if path.suffix.lower() in (".nrrd", ".nhdr") else _meta
    voxels = head(path, components)
    return _made(path, geometry, voxels, kind, size[3] if fourth else components, fourth)


def _compressed(path: Path, how: str) -> InputError:
    return InputError(
        f"the image {path} is compressed ({how}), so that boxes of it cannot be read alone: write "
        "it uncompressed, for example in Python: import SimpleITK as sitk; "
        f"sitk.WriteImage(sitk.ReadImage('{path}'), 'image.nrrd', False); or as OME-Zarr."
    )


def _nrrd(path: Path, components: int) -> _Voxels:
    with path.open("rb") as file:
        fields: dict[str, str] = {}
        for line in iter(file.readline, b""):
            if not line.strip():
                break
            key, colon, value = line.decode("utf-8", "replace").partition(":")
            if colon and not value.startswith("=") and not line.startswith(b"#"):
                fields[key.strip().lower()] = value.strip()
        place = file.tell()
    if (encoding := fields.get("encoding", "").lower()) != "raw":
        raise _compressed(path, encoding)
    if components > 1 and fields.get("sizes", "").split()[0] != str(components):
        raise InputError(
            f"the image {path} does not store the components of a voxel together: write it again, "
            "for example with SimpleITK."
        )
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (name.startswith("LIST") or "%" in name):
        raise InputError(f"the image {path} lies in several files: write it as one.")
    if int(fields.get("line skip", fields.get("lineskip", "0"))):
        raise InputError(f"the image {path} has a 'line skip': write it again without.")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    file_path = path if name is None else path.parent / name
    if skip == -1:  # the voxels end with the file
        raise InputError(f"the image {path} has 'byte skip: -1': write it again without.")
    offset = (place if name is None else 0) + skip
    return _Voxels(file_path, offset, fields.get("endian", "little").lower() == "big")


def _meta(path: Path, components: int) -> _Voxels:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(file.readline, b""):
            key, _, value = line.decode("utf-8", "replace").partition("=")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        place = file.tell()
    if fields.get("CompressedData", "False").lower() == "true":
        raise _compressed(path, "zlib")
    if fields.get("BinaryData", "True").lower() == "false":
        raise InputError(f"the image {path} holds its voxels as text: write it again as binary.")
    name = fields.get("ElementDataFile", "")
    if "%" in name or name.upper().startswith("LIST"):
        raise InputError(f"the image {path} lies in several files: write it as one.")
    local = name.upper() == "LOCAL"
    skip = int(fields.get("HeaderSize", "0"))
    if skip == -1:
        raise InputError(f"the image {path} has 'HeaderSize = -1': write it again without.")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    where = path if local else path.parent / name
    return _Voxels(where, (place if local else 0) + skip, big.lower() == "true")

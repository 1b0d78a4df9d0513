"""Checks that a file holds all the voxels that its header announces.

ITK reads the missing end of a file that was cut off (a broken download, a full disk) as zero, with
at most a warning. Raw data are counted; packed data are unpacked to their end, which also checks
their sums.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from .nifti import open_unpacked
from .tiff import Beyond, read_pages

CHUNK = 1 << 20  # bytes
NRRD_BYTES = {
    b"char": 1,
    b"short": 2,
    b"int": 4,
    b"longlong": 8,
    b"float": 4,
    b"double": 8,
}  # of a voxel, by the type's name without signs and blanks
META_BYTES = {b"CHAR": 1, b"SHORT": 2, b"INT": 4, b"LONG_LONG": 8, b"FLOAT": 4, b"DOUBLE": 8}


class _CutOff(ValueError):
    pass


def check_complete(path: Path, what: str) -> None:
    """Checks a NIfTI, NRRD, MetaImage or TIFF file; other formats pass.

    Args:
        path: The file.
        what: Its role, for the message.

    Raises:
        InputError: The file ends before its last voxel, or what is packed in it is damaged.
    """
    name = path.name.lower()
    look = next((f for endings, f in FORMATS if name.endswith(endings)), None)
    if look is None or not path.is_file():
        return
    try:
        if path.stat().st_size == 0:
            raise _CutOff("it is empty")
        look(path)
    except (_CutOff, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{what} {path} is cut off or damaged ({error}). Copy or download it again."
        ) from error
    except (OSError, ValueError, KeyError, OverflowError, MemoryError, struct.error):
        return  # what is unusual here ITK may read all the same


def _nifti(path: Path) -> None:
    with open_unpacked(path) as stream:
        head = stream.read(540)
        if len(head) < 348:
            raise _CutOff("it ends within its header")
        order = next((o for o in "<>" if struct.unpack_from(o + "i", head)[0] in (348, 540)), "")
        if not order:
            return
        if struct.unpack_from(order + "i", head)[0] == 348:
            dims, bits = struct.unpack_from(order + "8h", head, 40), 72
            offset = int(struct.unpack_from(order + "f", head, 108)[0])
        else:
            dims, bits = struct.unpack_from(order + "8q", head, 16), 14
            offset = struct.unpack_from(order + "q", head, 168)[0]
        if path.suffix == ".hdr" or head[344:348] == b"ni1\0":
            return  # the voxels are in another file
        voxels = math.prod(max(1, n) for n in dims[1 : dims[0] + 1])
        needed = offset + voxels * struct.unpack_from(order + "h", head, bits)[0] // 8
        _count(len(head) + sum(map(len, _rest(stream))), needed)


def _nrrd(path: Path) -> None:
    with path.open("rb") as file:
        fields: dict[bytes, bytes] = {}
        for line in iter(file.readline, b""):
            if not line.strip():
                break
            key, colon, value = line.partition(b":")
            if colon and not value.startswith(b"=") and not line.startswith(b"#"):
                fields[key.strip().lower()] = value.strip()
        if b"line skip" in fields or b"byte skip" in fields:
            return
        kind = re.sub(rb"(un)?signed|^u(?=int|short|char|longlong)|_t$|\s", b"", fields[b"type"])
        sized = re.fullmatch(rb"u?int(8|16|32|64)", kind)
        voxel = int(sized[1]) // 8 if sized else NRRD_BYTES[kind]
        needed = voxel * math.prod(map(int, fields[b"sizes"].split()))
        elsewhere = fields.get(b"data file", fields.get(b"datafile"))
        if elsewhere is None:
            _unpacked(file, fields[b"encoding"].lower(), needed)
        elif b"%" not in elsewhere and not elsewhere.startswith(b"LIST"):
            with (path.parent / elsewhere.decode()).open("rb") as data:
                _unpacked(data, fields[b"encoding"].lower(), needed)


def _meta(path: Path) -> None:
    with path.open("rb") as file:
        fields: dict[bytes, bytes] = {}
        for line in iter(file.readline, b""):
            key, _, value = line.partition(b"=")
            fields[key.strip()] = value.strip()
            if key.strip() == b"ElementDataFile":
                break
        voxel = META_BYTES[fields[b"ElementType"].removeprefix(b"MET_").lstrip(b"U")]
        needed = voxel * math.prod(map(int, fields[b"DimSize"].split()))
        needed *= int(fields.get(b"ElementNumberOfChannels", b"1"))
        packed = fields.get(b"CompressedData", b"False").lower() == b"true"
        if int(fields.get(b"HeaderSize", b"0")):
            return
        where = fields[b"ElementDataFile"]
        if where.upper() == b"LOCAL":
            _unpacked(file, b"zlib" if packed else b"raw", needed)
        elif b"%" not in where and not where.upper().startswith(b"LIST"):
            with (path.parent / where.decode()).open("rb") as data:
                _unpacked(data, b"zlib" if packed else b"raw", needed)


def _tiff(path: Path) -> None:
    """ITK takes the pages that it finds: of a file that was cut off, the first ones."""
    size = path.stat().st_size
    try:
        ends = [end for page in read_pages(path) for end in page.ends()]
    except Beyond as error:
        raise _CutOff(str(error)) from error
    if max(ends, default=0) > size:
        raise _CutOff(f"its voxels end at byte {max(ends)}, the file at {size}")


FORMATS = (
    ((".nii", ".nii.gz"), _nifti),
    ((".nrrd", ".nhdr"), _nrrd),
    ((".mha", ".mhd"), _meta),
    ((".tif", ".tiff"), _tiff),
)


def _unpacked(file: BinaryIO, encoding: bytes, needed: int) -> None:
    if encoding == b"raw":
        _count(sum(map(len, _rest(file))), needed)
    elif encoding in (b"gzip", b"gz"):
        with gzip.open(file, "rb") as stream:
            _count(sum(map(len, _rest(stream))), needed)
    elif encoding in (b"bzip2", b"bz2"):
        with bz2.open(file, "rb") as stream:
            _count(sum(map(len, _rest(stream))), needed)
    elif encoding == b"zlib":
        packer, count = zlib.decompressobj(), 0
        for part in _rest(file):
            count += len(packer.decompress(part))
        if not packer.eof:
            raise _CutOff("its packed voxels have no end")
        _count(count + len(packer.flush()), needed)


def _rest(stream: Any) -> Iterator[bytes]:
    """The rest of a stream, in pieces that are small beside a volume."""
    return iter(lambda: stream.read(CHUNK), b"")


def _count(there: int, needed: int) -> None:
    if there < needed:
        raise _CutOff(f"it holds {there} of the {needed} bytes that its header announces")

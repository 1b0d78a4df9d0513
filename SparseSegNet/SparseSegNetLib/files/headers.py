"""Checks an image's header before ITK reads it.

ITK's MetaImage reader keeps dimensions in arrays of ten and writes beyond them, divides by the
step of a list of files, and never ends inverting an infinite matrix; its NRRD reader copies
words of any length into fields of fixed length; all allocate the memory that a header announces.
Headers with impossible values are refused here, with the reason.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from pathlib import Path

from ..errors import InputError
from .nifti import open_unpacked

LOOKED_AT = 1 << 20  # bytes, of text headers
MOST_DIMENSIONS = 4
# Deflate packs 1032 bytes into one at most; nothing that ITK unpacks does better.
BEST_PACKING = 1100
LONGEST_WORD, LONGEST_LINE = 64, 1000  # of an NRRD field's words, and of a field
LARGEST = 1e12  # of the numbers of a grid
PATTERN = re.compile(r"[^%\s]*%[0-9]*d\S* +[0-9]+ +[0-9]+( +[1-9][0-9]*)?")
# MetaIO's names for the numbers of a grid.
GRID = re.compile(
    rb"(?<![A-Za-z])(TransformMatrix|Rotation|Orientation|Offset|Position|Origin"
    rb"|CenterOfRotation|ElementSpacing|ElementSize)\s*[=:]\s*([^\r\n=]*)"
)
SLACK = 1 << 20  # bytes that even the smallest file may announce
META_BYTES = {
    b"CHAR": 1,
    b"UCHAR": 1,
    b"SHORT": 2,
    b"USHORT": 2,
    b"INT": 4,
    b"UINT": 4,
    b"FLOAT": 4,
}  # of a voxel; other types count as 8


class _Refused(ValueError):
    pass


def check_header(path: Path, what: str) -> None:
    """Checks the header of a MetaImage, NRRD or NIfTI file; files of other formats pass.

    Args:
        path: The file.
        what: Its role, for the message.

    Raises:
        InputError: It announces impossible dimensions or sizes, or a data file that does not
            exist; or it cannot be read.
    """
    look = next(
        (function for endings, function in READERS if path.name.lower().endswith(endings)), None
    )
    if look is None or not path.is_file():
        return
    try:
        look(path)
    except _Refused as error:
        raise InputError(
            f"{what} {path} cannot be read: {error}. Write it again with the program "
            "that made it, or give another file."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error


def _meta(path: Path) -> None:
    head = _beginning(path)
    announced = re.findall(rb"NDims\s*[=:]\s*([^\s]*)", head)
    if not announced:
        raise _Refused("its header names no number of dimensions (NDims)")
    for word in announced:
        _dimensions(_whole(word, "NDims"), "NDims")
    count = _whole(announced[0], "NDims")
    # MetaIO reads values across line ends, and the last of several of one name counts.
    voxel = [
        META_BYTES.get(kind, 8) for kind in re.findall(rb"ElementType\s*[=:]\s*MET_(\w*)", head)
    ]
    parts = [
        _whole(n, "ElementNumberOfChannels")
        for n in re.findall(rb"ElementNumberOfChannels\s*[=:]\s*([^\s]*)", head)
    ]
    files = [
        match.decode("utf-8", "replace").strip()
        for match in re.findall(rb"(?m)^\s*ElementDataFile\s*[=:]([^\r\n]*)", head)
    ]
    if not files:
        raise _Refused("its header does not say where its voxels are (ElementDataFile)")
    for name, values in GRID.findall(head):
        for word in values.split():
            _number(word, name.decode())
    there = sum(_data(path, name) for name in files if name.upper() not in ("LOCAL", "LIST", ""))
    for sizes in re.findall(rb"DimSize\s*[=:]\s*((?:[^\s]+\s+){%d})" % count, head):
        _fits(
            [_whole(n, "DimSize") for n in sizes.split()],
            max(voxel, default=8) * max(parts, default=1),
            path.stat().st_size + there,
            any("%" in name or name.upper().startswith("LIST") for name in files),
        )


def _nrrd(path: Path) -> None:
    head = re.split(rb"\r?\n\r?\n", _beginning(path), maxsplit=1)[0]
    if b"\0" in head:
        raise _Refused("its header holds bytes that are no text")
    fields = {}
    for line in head.splitlines():
        name, colon, value = line.partition(b":")
        if line.startswith(b"#") or value.startswith(b"="):
            continue  # a comment, or a key with a text of any length
        free = name.strip().lower() in (b"content", b"data file", b"datafile")
        if len(line) > LONGEST_LINE or (
            not free and any(len(word) > LONGEST_WORD for word in re.split(rb"[\s(),]+", line))
        ):
            raise _Refused(
                f"its header's field '{line[:20].decode('ascii', 'replace')}…' is too long"
            )
        if colon:
            fields[name.strip().lower()] = value.strip()
    for name in (b"spacings", b"space directions", b"space origin"):
        for word in re.split(rb"[\s(),]+", fields.get(name, b"")):
            if word and word.lower() not in (b"none", b"nan"):  # of the components' axis
                _number(word, name.decode())
    if b"dimension" in fields:
        # The components of a vector image are a dimension of their own.
        _dimensions(_whole(fields[b"dimension"], "dimension"), "dimension", MOST_DIMENSIONS + 1)
    there, elsewhere = 0, fields.get(b"data file", fields.get(b"datafile"))
    if elsewhere:
        there = _data(path, elsewhere.decode("utf-8", "replace"))
    if b"sizes" in fields:
        _fits(
            [_whole(n, "sizes") for n in fields[b"sizes"].split()],
            1,
            path.stat().st_size + there,
            elsewhere is not None and (b"%" in elsewhere or elsewhere.startswith(b"LIST")),
        )


def _nifti(path: Path) -> None:
    with open_unpacked(path) as file:
        head = file.read(540)
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            dims, place = struct.unpack_from(order + "8h", head, 40), 72
        elif len(head) >= 540 and struct.unpack_from(order + "i", head)[0] == 540:
            dims, place = struct.unpack_from(order + "8q", head, 16), 14
        else:
            continue
        count, bits = dims[0], struct.unpack_from(order + "h", head, place)[0]
        _dimensions(count, "dim[0]", 7)
        # The reader takes 1 for what is missing behind the first.
        _fits(
            [dims[1], *(max(1, n) for n in dims[2 : count + 1])],
            max(1, bits // 8),
            path.stat().st_size,
            False,
        )
        return


READERS = (((".mha", ".mhd"), _meta), ((".nrrd", ".nhdr"), _nrrd), ((".nii", ".nii.gz"), _nifti))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LOOKED_AT)


def _whole(word: bytes, name: str) -> int:
    if not re.fullmatch(rb"[+-]?[0-9]{1,18}", word):
        raise _Refused(
            f"{name} is '{word[:40].decode('ascii', 'replace')}', expected a whole number"
        )
    return int(word)


def _number(word: bytes, name: str) -> None:
    try:
        good = abs(float(word)) <= LARGEST
    except ValueError:
        good = False
    if not good:
        raise _Refused(
            f"{name} holds '{word[:40].decode('ascii', 'replace')}', expected finite numbers"
        )


def _dimensions(count: int, name: str, most: int = MOST_DIMENSIONS) -> None:
    if not 1 <= count <= most:
        raise _Refused(f"its header announces {count} dimensions ({name}), expected 1 to {most}")


def _data(path: Path, name: str) -> int:
    """Bytes of the file that a header names for its voxels; 0 for a pattern or a list."""
    if name.upper().startswith("LIST"):
        return 0
    if "%" in name:
        if PATTERN.fullmatch(name) is None:
            raise _Refused(
                f"its header says that the voxels are in '{name[:80]}', expected a "
                "file, or a pattern with first and last number and step"
            )
        return 0
    other = path.parent / name
    if not os.path.isfile(other):
        raise _Refused(
            f"its header says that the voxels are in '{name[:80]}', which is no file there"
        )
    return other.stat().st_size


def _fits(sizes: list[int], voxel: int, there: int, many: bool) -> None:
    """Refuse sizes that cannot be: the voxels must fit into the file.

    there: bytes of the file; many: the voxels are in several files, whose sizes are not known.
    """
    if any(n < 1 for n in sizes):
        raise _Refused(
            f"its size is {'x'.join(map(str, sizes))} voxels, expected at least 1 along each axis"
        )
    announced = math.prod(sizes) * voxel
    if not many and announced > BEST_PACKING * there + SLACK:
        raise _Refused(
            f"its header announces {announced} bytes ({'x'.join(map(str, sizes))} "
            f"voxels), which its {there} bytes cannot hold"
        )

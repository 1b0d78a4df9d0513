"""The header of a NIfTI file: its grids, read and copied as they are stored.

NIfTI stores its grid in single precision, as a matrix (sform) and as a quaternion (qform), so a
grid that was read and is written again differs in the last digits. Where image and result are
both NIfTI the fields are copied unchanged.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..annotation.geometry import Geometry

SUFFIXES = (".nii", ".nii.gz")
PAIR = (".hdr", ".img")  # header and voxels in two files


HEADER, NEWER = 348, 540  # bytes of a NIfTI-1 and a NIfTI-2 header, their first number
# Fields of nifti1.h: form of `struct`, and offset.
PIXDIM = ("4f", 76)  # the handedness before the voxel size
UNITS = ("B", 123)
CODES = ("2h", 252)  # of qform and sform: 0 if there is none
GRIDS = ("18f", 256)  # quaternion, offset and the matrix' three rows
MAGIC = slice(344, 347)
MILLIMETRES = {1: 1e3, 2: 1.0, 3: 1e-3}  # of the codes for metre, millimetre and micrometre


@dataclass(frozen=True)
class Header:
    """The fields of a header that say where the voxels are.

    Attributes:
        voxel: Voxel size in mm.
        sform: LPS matrix (3, 4) from voxel index to position, or None.
        qform: The same of the quaternion, or None.
        older: It is an Analyze file, which holds no position.
    """

    voxel: tuple[float, float, float]
    sform: np.ndarray | None
    qform: np.ndarray | None
    older: bool = False


def read_header(path: Path) -> Header | None:
    """Reads the grids of a NIfTI-1 file; None if it is damaged or something else."""
    head = _beginning(path)
    order = _byte_order(head, HEADER)
    if order is None:
        return None
    pixdim = _read(head, order, PIXDIM)
    # Where the reader finds 0 it takes 1.
    unit = MILLIMETRES.get(_read(head, order, UNITS)[0] & 7, 1.0)
    voxel = cast(tuple[float, float, float], tuple(unit * (abs(v) or 1.0) for v in pixdim[1:]))
    if head[MAGIC] not in (b"n+1", b"ni1"):
        return Header(voxel, None, None, older=True)
    codes, grids = _read(head, order, CODES), _read(head, order, GRIDS)
    grids = tuple(unit * v if n >= 3 else v for n, v in enumerate(grids))
    sform = np.array(grids[6:]).reshape(3, 4) if codes[1] > 0 else None
    qform = _from_quaternion(grids, pixdim[0], voxel) if codes[0] > 0 else None
    for matrix in (sform, qform):
        if matrix is not None:
            matrix[:2] *= -1  # from RAS
    return Header(voxel, sform, qform)


def grid_of(matrix: np.ndarray, size: tuple[int, int, int]) -> Geometry | None:
    """The grid that a matrix (3, 4) from index to position describes; None if it is none."""
    lengths = np.sqrt((matrix[:, :3] ** 2).sum(axis=0))
    if not np.isfinite(matrix).all() or not lengths.all():
        return None
    x, y, z = map(float, lengths)
    a, b, c = map(float, matrix[:, 3])
    directions = tuple(map(float, (matrix[:, :3] / lengths).ravel()))
    grid = Geometry(size, (x, y, z), (a, b, c), directions)
    return grid if grid.fault() is None else None


def is_newer(path: Path) -> bool:
    """Tells whether a file is NIfTI-2, which ITK does not read."""
    return _byte_order(_beginning(path), NEWER) is not None


def copy_geometry(source: Path, target: Path) -> bool:
    """Copies the grid of `source` to `target`, both NIfTI-1 with 3D images of one grid.

    Returns:
        True if it was copied (damaged headers are left alone).
    """
    head = _beginning(source)
    with open_unpacked(target) as file:
        body = bytearray(file.read())
    order_in, order_out = _byte_order(head, HEADER), _byte_order(body, HEADER)
    if order_in is None or order_out is None:
        return False
    for kind, offset in (PIXDIM, UNITS, CODES, GRIDS):
        values = struct.unpack_from(order_in + kind, head, offset)
        struct.pack_into(order_out + kind, body, offset, *values)
    if target.name.endswith(".gz"):
        target.write_bytes(gzip.compress(bytes(body), 6))
    else:
        target.write_bytes(bytes(body))
    return True


def open_unpacked(path: Path) -> IO[bytes]:
    """Opens a file for reading, unpacked if it is packed by gzip, whatever its name says."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _beginning(path: Path) -> bytes:
    """The first bytes of a file, or of the header beside it."""
    if path.name.lower().endswith(".img"):
        path = path.with_suffix(".hdr")
    try:
        with open_unpacked(path) as file:
            return file.read(NEWER)
    except (OSError, EOFError, zlib.error):
        return b""


def _byte_order(head: bytes | bytearray, length: int) -> str | None:
    if len(head) < length:
        return None
    return next((o for o in "<>" if struct.unpack_from(o + "i", head)[0] == length), None)


def _read(head: bytes | bytearray, order: str, field: tuple[str, int]) -> tuple:
    return struct.unpack_from(order + field[0], head, field[1])


def _from_quaternion(
    grids: Sequence[float], handedness: float, voxel: Sequence[float]
) -> np.ndarray:
    b, c, d = np.array(grids[:3]) / max(1.0, math.hypot(*grids[:3]))
    a = math.sqrt(max(0.0, 1 - (b * b + c * c + d * d)))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    turn = turn * np.array(voxel)
    if handedness < 0:
        turn[:, 2] *= -1
    return np.column_stack([turn, grids[3:6]])

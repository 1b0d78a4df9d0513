"""Copies the geometry from one NIfTI-1 file to another, byte by byte.

NIfTI stores its grid in single precision and as a quaternion, so a grid that was read and is
written again differs in the last digits. Where image and result are both NIfTI the fields are
copied unchanged.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import IO, cast

SUFFIXES = (".nii", ".nii.gz")
HEADER = 348
# Offsets from the NIfTI-1 header definition (nifti1.h): pixdim[0..3] with the handedness, the
# units, both form codes, and quaternion, offsets and affine rows.
FIELDS = (("4f", 76), ("B", 123), ("2h", 252), ("18f", 256))


def copy_geometry(source: Path, target: Path) -> bool:
    """Copies the grid of `source` to `target`, both NIfTI-1 with 3D images of one grid.

    Returns:
        True if it was copied (NIfTI-2 and damaged headers are left alone).
    """
    try:
        with open_unpacked(source) as file:
            head = file.read(HEADER)
    except (OSError, EOFError, zlib.error):
        return False
    with open_unpacked(target) as file:
        body = bytearray(file.read())
    order_in, order_out = _byte_order(head), _byte_order(body)
    if order_in is None or order_out is None:
        return False
    for kind, offset in FIELDS:
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


def _byte_order(header: bytes | bytearray) -> str | None:
    if len(header) < HEADER:
        return None
    for order in "<>":
        if struct.unpack_from(order + "i", header, 0)[0] == HEADER:
            return order
    return None

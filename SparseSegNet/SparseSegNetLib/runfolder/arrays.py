"""Arrays from untrusted .npy files: the header is checked before the content is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from .file_retries import opened

REAL = "biuf"  # kinds of dtype


def read_array(
    path: Path, shape: Sequence[int | None], remedy: str, kinds: str = "", mapped: bool = False
) -> np.ndarray:
    """Reads one array in C order.

    Args:
        path: The .npy file.
        shape: The expected shape; None along an axis where any length will do.
        remedy: What the user can do about a bad file, for the message.
        kinds: Accepted kinds of the dtype (`numpy.dtype.kind`); if empty, it must be uint8.
        mapped: Leave the array on disk, memory-mapped.

    Raises:
        InputError: The file is missing, cut short, of another shape or type, or no array at
            all; the message names the file.
    """
    try:
        with opened(path, "rb") as file:
            found, dtype = _header(file)
            _check(found, dtype, shape, kinds)
            count, begin = math.prod(found), file.tell()
            size = file.seek(0, 2) - begin
            if size != count * dtype.itemsize:
                raise ValueError(f"{size} bytes of data, expected {count * dtype.itemsize}")
            if mapped:
                return np.memmap(file, dtype, "r", begin, tuple(found))
            file.seek(begin)
            array = np.fromfile(file, dtype, count)
            if array.size != count:
                raise ValueError(f"{array.size} values, expected {count}")
            return array.reshape(found)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. {remedy}") from error


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy file announces; leaves the file position after the header."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
    except OSError:
        raise
    # The header is a Python literal: numpy's parser answers a damaged one with errors of a dozen
    # kinds, which differ between its versions.
    except Exception as error:
        raise ValueError("it is no .npy array") from error
    if fortran and len(shape) > 1:
        raise ValueError("its axes are in Fortran order")
    return shape, dtype


def _check(
    found: tuple[int, ...], dtype: np.dtype, shape: Sequence[int | None], kinds: str
) -> None:
    if dtype.hasobject or not (
        dtype.kind in kinds and dtype.isnative if kinds else dtype == np.uint8
    ):
        raise ValueError(f"it holds {dtype}, expected {'real numbers' if kinds else 'uint8'}")
    if len(found) != len(shape) or any(
        n < 1 or (wanted is not None and n != wanted)
        for n, wanted in zip(found, shape, strict=True)
    ):
        expected = "x".join("n" if n is None else str(n) for n in shape)
        raise ValueError(
            f"it is of {'x'.join(map(str, found)) or 'no'} values, expected {expected}"
        )

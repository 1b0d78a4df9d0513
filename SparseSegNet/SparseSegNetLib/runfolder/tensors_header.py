"""Headers of .safetensors files, read and checked without torch and without reading the tensors.

A file may be damaged, or come from a stranger: sizes that it announces are compared with its length
before anything is allocated.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .file_retries import opened
from .forms import parse_json

LONGEST_HEADER = 16 << 20  # bytes
MOST_TENSORS = 10_000
BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_metadata(path: Path, key: str) -> Any:
    """Reads one JSON entry of the metadata in a file's header.

    Args:
        path: The .safetensors file.
        key: The entry of the metadata.

    Returns:
        What JSON the entry holds.

    Raises:
        ValueError: The file is missing, no .safetensors file, cut short, longer or larger than its
            header says, or has no such entry; the message says which.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        size = path.stat().st_size
        with opened(path, "rb") as file:
            begin = file.read(8)
            if begin.startswith(PICKLES):
                raise ValueError(
                    "it is a pickle of Python objects, as torch.save writes it, which may run code "
                    "when it is opened and is never read"
                )
            length = int.from_bytes(begin, "little")
            if len(begin) < 8 or length > min(size, LONGEST_HEADER):
                raise ValueError("it is no .safetensors file, or its beginning is damaged")
            text = file.read(length)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    try:
        header = parse_json(text)
    except ValueError as error:
        raise ValueError("its header is no JSON") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no object with named fields")
    metadata = header.pop("__metadata__", None)
    end = _end_of_tensors(header)
    if size != 8 + length + end:
        missing = 8 + length + end - size
        raise ValueError(
            f"{missing} bytes are missing at its end"
            if missing > 0
            else f"it has {-missing} bytes too many"
        )
    if not isinstance(metadata, dict) or not isinstance(metadata.get(key), str):
        raise ValueError(f"its header has no entry '{key}'")
    try:
        return parse_json(metadata[key])
    except ValueError as error:
        raise ValueError(f"the entry '{key}' of its header is no JSON") from error


def _end_of_tensors(header: dict) -> int:
    """Bytes that all tensors take; raises ValueError where type, shape and place disagree."""
    if len(header) > MOST_TENSORS:
        raise ValueError(f"its header names {len(header)} tensors: at most {MOST_TENSORS} are read")
    places = []
    for name, entry in header.items():
        try:
            shape, (first, end) = entry["shape"], entry["data_offsets"]
            wrong = any(type(n) is not int or n < 0 for n in (*shape, first, end))
            wrong = wrong or math.prod(shape) * BYTES[entry["dtype"]] != end - first
        except (KeyError, TypeError, ValueError):
            wrong = True
        if wrong:
            raise ValueError(f"the type, shape and place of the tensor '{name[:60]}' do not agree")
        places.append((first, end))
    last = 0
    for first, end in sorted(places):
        if first != last:
            raise ValueError("its tensors overlap or leave gaps")
        last = end
    return last

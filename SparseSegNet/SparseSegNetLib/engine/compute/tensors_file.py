"""Tensors on disk: .safetensors with everything else as JSON in the header.

Never pickle: opening a stranger's file must not run code.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...runfolder.atomic import atomic_path
from ...runfolder.forms import parse_json, record, whole

WINDOWS_FULL = (39, 112)  # its error numbers for a full disk


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    """Writes a .safetensors file atomically.

    Args:
        path: Of the file.
        tensors: By name.
        header: Entries of the file's header.

    Raises:
        OSError: It cannot be written.
    """
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    with atomic_path(path, ".safetensors") as temporary:
        try:
            save_file(copies, temporary, header)
        except SafetensorError as error:
            said = re.search(r"os error (\d+)", str(error))
            number = int(said[1]) if said else errno.EIO
            if os.name == "nt":
                number = errno.ENOSPC if number in WINDOWS_FULL else errno.EIO
            raise OSError(number, str(error), str(path)) from error


def read_tensors(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads a .safetensors file.

    Returns:
        The tensors by name, on the CPU, and the JSON object in the header under `key`.

    Raises:
        ValueError: It is no such file.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(key)
            if said is None:
                raise ValueError(f"its header has no entry '{key}'")
            about = parse_json(said)
            record({"schema": whole(1)})(about, "the header")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    # What safetensors and torch say of shapes and types that cannot be.
    except (
        OSError,
        SafetensorError,
        RuntimeError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ValueError(str(error) or type(error).__name__) from error

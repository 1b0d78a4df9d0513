"""The model file: weights as .safetensors, everything else as JSON in its header.

Never pickle: opening a stranger's model must not run code.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ...errors import InputError
from ..compute.tensors_file import read_tensors, save_tensors

SCHEMA = 1
KEY = "sparsesegnet"


def save_model(path: Path | str, network: torch.nn.Module, about: dict) -> None:
    """Writes a network's weights and buffers, atomically.

    Args:
        path: Of the file.
        network: The network.
        about: JSON-able: plan, normalisation, segments, channels, provenance.

    Raises:
        OSError: It cannot be written.
    """
    header = {KEY: json.dumps({"schema": SCHEMA, **about}, allow_nan=False)}
    save_tensors(Path(path), network.state_dict(), header)


def load_model(path: Path | str) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads a model file.

    Returns:
        Weights by name, and the description.

    Raises:
        InputError: It is no model file, or one of a newer version.
    """
    try:
        tensors, about = read_tensors(Path(path), KEY)
    except ValueError as error:
        raise InputError(
            f"{path} is not a SparseSegNet model ({error}). Give a file that "
            "SparseSegNet has saved."
        ) from error
    if about["schema"] > SCHEMA:
        raise InputError(
            f"the model {path} was written by a newer SparseSegNet (schema "
            f"{about['schema']}, this one reads up to {SCHEMA}): update SparseSegNet."
        )
    return tensors, about

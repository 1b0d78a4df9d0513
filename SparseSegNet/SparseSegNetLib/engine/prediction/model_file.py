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
    """Write a network's weights and buffers with `about` (JSON-able: plan, normalisation,
    segments, channels, provenance) atomically."""
    header = {KEY: json.dumps({"schema": SCHEMA, **about}, allow_nan=False)}
    save_tensors(Path(path), network.state_dict(), header)


def load_model(path: Path | str) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and description of a model file. Raises InputError when it is none or newer."""
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

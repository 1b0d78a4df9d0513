"""The model file: weights as .safetensors, everything else as JSON in its header.

Never pickle: opening a stranger's model must not run code.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from .checkpoint import save_tensors

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
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a SparseSegNet model ({error}).") from error
    if about["schema"] > SCHEMA:
        raise InputError(f"the model {path} was written by a newer SparseSegNet (schema "
                         f"{about['schema']}, this one reads up to {SCHEMA}): update SparseSegNet.")
    return tensors, about

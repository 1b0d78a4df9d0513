"""Checkpoints: all that a training needs to resume, in two generations.

Never pickle: tensors as .safetensors, everything else as JSON in its header.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from ...runfolder.checkpoints import KEY, SCHEMA
from ...runfolder.file_retries import replace
from ..compute.tensors_file import read_tensors, save_tensors


def save_state(paths: tuple[Path, Path], tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Writes a checkpoint; the one before becomes the second generation.

    Args:
        paths: Of the newest checkpoint and of the one before.
        tensors: Weights and other tensors by name.
        about: Everything else, JSON-able.

    Raises:
        OSError: It cannot be written.
    """
    newest, previous = paths
    fresh = newest.with_name("state-next.safetensors")
    save_tensors(fresh, tensors, {KEY: json.dumps({"schema": SCHEMA, **about}, allow_nan=False)})
    with contextlib.suppress(FileNotFoundError):
        replace(newest, previous)
    # A process that ends here leaves the previous one, which is read as well.
    replace(fresh, newest)


def load_state(
    paths: tuple[Path, Path],
    check: Callable[[dict[str, torch.Tensor], dict], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Reads the newest checkpoint that is whole.

    Args:
        paths: Of the newest checkpoint and of the one before.
        check: Raises ValueError for a checkpoint of another form.
        warn: Called with a message about damaged ones.

    Returns:
        Tensors on the CPU and what goes with them; None when there is no whole checkpoint.
    """
    damaged = []
    for path in paths:
        if not path.exists():
            continue
        try:
            tensors, about = read_tensors(path, KEY)
            if about["schema"] != SCHEMA:
                raise ValueError(f"it is of schema {about['schema']}, expected {SCHEMA}")
            if check is not None:
                check(tensors, about)
        except ValueError as error:
            damaged.append(f"the checkpoint {path} is damaged ({error})")
            continue
        if damaged and warn is not None:
            warn(f"{damaged[0]}: training goes on from the one before.")
        return tensors, about
    if damaged and warn is not None:
        warn(f"{'; '.join(damaged)}: training begins anew.")
    return None

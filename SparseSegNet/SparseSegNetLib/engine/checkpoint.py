"""All that a training needs to go on where it was broken off, in two generations.

Never pickle: tensors as .safetensors, everything else as JSON in its header.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..run.atomic import atomic_path
from ..run.forms import parse_json, record, whole
from ..run.states import KEY, SCHEMA

WINDOWS_FULL = (39, 112)  # its error numbers for a full disk


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    """Write a .safetensors file atomically. Raises OSError when it cannot be written."""
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


def save_state(paths: tuple[Path, Path], tensors: dict[str, torch.Tensor], about: dict) -> None:
    """Write a state; the one before becomes the second of `paths`. about: JSON-able."""
    newest, previous = paths
    fresh = newest.with_name("state-next.safetensors")
    save_tensors(fresh, tensors, {KEY: json.dumps({"schema": SCHEMA, **about}, allow_nan=False)})
    with contextlib.suppress(FileNotFoundError):
        os.replace(newest, previous)
    # A process that ends here leaves the previous one, which is read as well.
    os.replace(fresh, newest)


def read_tensors(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of a .safetensors file and the JSON object in its header under `key`. Raises
    ValueError for any other file."""
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
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, AttributeError,
            OverflowError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def load_state(paths: tuple[Path, Path],
               check: Callable[[dict[str, torch.Tensor], dict], None] | None = None,
               told: Callable[[str], None] | None = None
               ) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The newest state that is whole: tensors on the CPU and what goes with them; None when there
    is none.

    check: raises ValueError for a state that is not one.  told: called with what the user should
    know of damaged ones.
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
        if damaged and told is not None:
            told(f"{damaged[0]}: training goes on from the one before.")
        return tensors, about
    if damaged and told is not None:
        told(f"{'; '.join(damaged)}: training begins anew.")
    return None


def flatten(state: dict, prefix: str) -> tuple[dict[str, torch.Tensor], dict]:
    """An optimiser's state_dict as tensors by name, and the rest of it as JSON."""
    tensors, rest = {}, {}
    for number, entries in state["state"].items():
        for name, value in entries.items():
            if torch.is_tensor(value):
                tensors[f"{prefix}{number}.{name}"] = value
            else:
                rest.setdefault(str(number), {})[name] = value
    return tensors, {"state": rest, "groups": state["param_groups"]}


def unflatten(tensors: dict[str, torch.Tensor], rest: dict, prefix: str) -> dict:
    """The inverse of `flatten`."""
    state: dict[int, dict] = {int(n): dict(v) for n, v in rest["state"].items()}
    for name, value in tensors.items():
        if name.startswith(prefix):
            number, entry = name[len(prefix):].split(".", 1)
            state.setdefault(int(number), {})[entry] = value
    return {"state": state, "param_groups": rest["groups"]}

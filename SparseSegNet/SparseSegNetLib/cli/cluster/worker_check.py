"""Checks that a worker has what tasks need, before it gets any."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InputError
from ...runfolder.atomic import PREFIX
from ...tiles.done_file import digest
from .connection import PATIENCE


@dataclass(frozen=True)
class Check:
    """Questions to each worker.

    Attributes:
        model: The model file.
        model_digest: Of its content.
        marker: A file in the output folder.
        device: That tiles are computed on, as the command's option; None for whole images.
    """

    model: Path
    model_digest: str
    marker: Path
    device: str | None = None

    def payload(self) -> bytes:
        """The task."""
        parts = __version__, self.model, self.model_digest, self.marker, self.device
        return pickle.dumps(("check", parts))


@contextmanager
def checks(model: Path, folder: Path, device: str | None = None) -> Iterator[Check]:
    """Context manager for the time of a command: a file marks the output folder meanwhile.

    A worker that sees the file sees this folder, and not another one of that name.

    Args:
        model: The model file.
        folder: The output folder.
        device: See `Check`.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = folder.absolute()
    with ExitStack() as stack:
        try:
            marker = stack.enter_context(tempfile.NamedTemporaryFile(prefix=PREFIX, dir=folder))
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be written ({error.strerror or error}): choose "
                "another."
            ) from error
        yield Check(model.absolute(), digest(model), Path(marker.name), device)


def lacking(future: Any) -> tuple[list[str], dict[str, Any]]:
    """Reads a worker's answer: the list of what it lacks, and what else it says.

    Args:
        future: Of the check, which has ended.
    """
    error = future.exception(timeout=PATIENCE)
    if error is not None:
        text = " ".join(f"{type(error).__name__}: {error.__cause__ or error}".split())
        return [f"cannot load the SparseSegNet of this command ({text})"], {}
    found = future.result(timeout=PATIENCE)
    if not found["ok"]:
        return [found["cause"]], {}
    return found["lacks"], found


def refusal(name: str, lacks: dict[str, list[str]]) -> InputError:
    """The error that says which workers lack what.

    Args:
        name: Of the cluster.
        lacks: By a worker's address.
    """
    by_fault: dict[str, list[str]] = {}
    for worker, faults in lacks.items():
        by_fault.setdefault("; ".join(faults), []).append(worker)
    said = ". ".join(f"{_some(workers)} {fault}" for fault, workers in sorted(by_fault.items()))
    return InputError(
        f"--dask {name}: {said}. Scheduler and workers need the environment of this command (the "
        "same SparseSegNet, torch), and a file system on which they see model, images and output "
        "under the same paths."
    )


def _some(workers: list[str]) -> str:
    first, *others = sorted(workers)
    more = {0: "", 1: " (and another)"}.get(len(others), f" (and {len(others)} others)")
    return f"the worker {first}{more}"

"""Runs in the workers of a Dask cluster: checks, images and tiles.

The scheduler loads this module, too: what is large (torch above all) is loaded by the functions.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import pickle
import socket
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...errors import EngineError, InputError

if TYPE_CHECKING:
    from ...runfolder.options import Options
    from ..segment_jobs import Job

POLL = 0.5  # seconds between two looks at whether a task is still wanted
# Of a process: tasks at once would share its threads and its graphics card.
_ONE = threading.Lock()
_log = logging.getLogger("distributed.worker")


class Unwanted(KeyboardInterrupt):
    """The task that runs was cancelled, or its client has gone."""


def answer(payload: bytes) -> dict[str, Any]:
    """Runs one of the functions below.

    Args:
        payload: Its name and arguments, pickled apart, so that the scheduler does not read them.

    Returns:
        Plain numbers and texts: what the function gives, with ``ok``; of a failure ``cause`` and
        the ``code`` of an EngineError, else an empty one.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted(*_: object) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Unwanted

    try:
        while not _ONE.acquire(timeout=POLL):
            wanted()
    except Unwanted:
        return _failed("cancelled")
    try:
        name, arguments = pickle.loads(payload)
        _keep_freed_memory()
        os.environ["OMP_NUM_THREADS"] = str(worker.state.nthreads)  # of the engine's process
        return {"ok": True, **_FUNCTIONS[name](wanted, worker.state.nthreads, *arguments)}
    except Unwanted:
        return _failed("cancelled")
    except Exception as error:
        from ..outcomes import reason

        if not isinstance(error, EngineError | InputError | OSError):
            _log.exception("SparseSegNet: %s", key)
        return _failed(reason(error), error.code if isinstance(error, EngineError) else "")
    finally:
        _ONE.release()


def _keep_freed_memory() -> None:
    """Has glibc keep some freed memory for the next array, as it usually does.

    Dask's nanny sets this variable so that memory goes back to the system at once: tiles then took
    2.3 times the processor's seconds (docs/lab/dask.md). Processes of the engine do not inherit it.
    """
    if os.environ.pop("MALLOC_TRIM_THRESHOLD_", None) is None:
        return
    with suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 26)  # M_TRIM_THRESHOLD


def _failed(cause: str, code: str = "") -> dict[str, Any]:
    return {"ok": False, "cause": cause, "code": code}


def _check(
    wanted: Callable[..., None],
    threads: int,
    version: str,
    model: Path,
    model_digest: str,
    marker: Path,
    device: str | None,
) -> dict[str, Any]:
    """Looks for what tasks need.

    Args:
        wanted: Raises Unwanted when the task was cancelled.
        threads: Of this worker.
        version: Of the command.
        model: The model file.
        model_digest: Of its content.
        marker: A file in the output folder.
        device: That tiles will be computed on; None for whole images, which the engine's process
            computes.

    Returns:
        ``lacks``: what is missing, an empty list if nothing is; for tiles ``host`` and ``memory``,
        the free bytes of the device, or fewer if the worker may not use as many.
    """
    from ...tiles.done_file import digest

    if version != __version__:
        return {"lacks": [f"has SparseSegNet {__version__}, and this command is {version}"]}
    lacks = []
    if not model.is_file():
        lacks.append(f"does not see the model {model}")
    elif digest(model) != model_digest:
        lacks.append(f"has another file as the model {model}")
    if not marker.exists():
        lacks.append(f"does not see the output folder {marker.parent}")
    else:
        try:
            with tempfile.TemporaryFile(dir=marker.parent):
                pass
        except OSError as error:
            lacks.append(f"may not write to {marker.parent} ({error.strerror or error})")
    if device is None:
        from ...client.interpreter import THIS, chosen

        if chosen().kind == THIS and importlib.util.find_spec("torch") is None:
            lacks.append("has no torch (pip install torch safetensors)")
        return {"lacks": lacks}
    try:
        from ...files.zarr_library import zarr_library

        zarr_library()
        chosen = _prepared(device)
    except EngineError as error:
        return {"lacks": [*lacks, f"cannot compute: {error.cause}"]}
    except InputError as error:
        return {"lacks": [*lacks, f"cannot compute: {error}"]}
    from distributed import get_worker

    from ...tiles.tile_size import free_on

    free, limit = free_on(chosen), get_worker().memory_manager.memory_limit
    memory = float(min(free, limit or free))
    return {"lacks": lacks, "host": socket.gethostname(), "memory": memory}


@lru_cache
def _prepared(device: str) -> str:
    from ..segment_stored import prepare

    return prepare(device)


def _tile(wanted: Callable[..., None], threads: int, device: str, *parts: Any) -> dict[str, Any]:
    """Computes a tile.

    Args:
        wanted: Raises Unwanted when the task was cancelled.
        threads: Of this worker.
        device: As the command's option.
        parts: The first arguments of `segment_tile`.

    Returns:
        ``notes`` for the user.
    """
    chosen = _prepared(device)
    from ...engine.compute.device import prepare_threads
    from ...tiles.segment_tile import segment_tile

    prepare_threads(threads)
    notes: list[str] = []
    segment_tile(*parts, chosen, wanted, notes.append)
    return {"notes": notes}


def _image(
    wanted: Callable[..., None],
    threads: int,
    job: Job,
    settings: Options,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Segments an image, in a process of the engine, and writes its outputs.

    Args:
        wanted: Raises Unwanted when the task was cancelled.
        threads: Of this worker.
        job: The image.
        settings: Options of the run.
        options: Those of the command that `segment_image` reads.

    Returns:
        ``uncertain``, see `uncertain_share`, and ``notes`` for the user.
    """
    from ...runfolder.model_description import ModelDescription
    from ..segment_image import Cancelled, segment_image
    from .unseen_progress import UnseenProgress

    progress = UnseenProgress(wanted)
    model = ModelDescription.read(options["model"])
    try:
        share = segment_image(job, model, settings, Namespace(**options), progress)
    except Cancelled as error:
        raise Unwanted from error
    return {"uncertain": share, "notes": progress.notes}


_FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "check": _check,
    "image": _image,
    "tile": _tile,
}

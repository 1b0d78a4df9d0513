"""One image segmented by a model, in a temporary run folder of its own."""

from __future__ import annotations

import argparse
import errno
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..annotation.channel_order import reordered
from ..annotation.composition import UNLABELLED
from ..annotation.uncertain import uncertain_share
from ..client.engine_run import EngineRun
from ..errors import EngineError
from ..files.images import Volume, read_volume
from ..files.writing import check_output, values_note, write_image, write_labels
from ..runfolder.compatibility import check_compatible
from ..runfolder.file_retries import remove, remove_tree
from ..runfolder.folder import RunFolder
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from ..runfolder.run_input import RunInput
from .images_progress import ImagesProgress
from .segment_jobs import Job


class Cancelled(KeyboardInterrupt):
    """The user has cancelled the run of an image."""


def segment_image(
    job: Job,
    model: ModelDescription,
    settings: Options,
    options: argparse.Namespace,
    bar: ImagesProgress,
) -> float | None:
    """Segments one image and writes its outputs.

    Args:
        job: The image and its outputs.
        model: Description of the model.
        settings: Options of the run.
        options: The command's parsed options.
        bar: Shows the progress.

    Returns:
        See `uncertain_share`.

    Raises:
        Cancelled: The user has cancelled it; nothing was written.
        InputError: The image cannot be read, or does not fit the model.
        EngineError: The run failed.
        OSError: An output cannot be written.
    """
    bar.begin(job.name)
    volume = read_volume(job.images, options.replace_nonfinite, options.series)
    order, notes = check_compatible(
        model, job.name, volume.image, volume.geometry, volume.channels, options.accept
    )
    notes += [*volume.notes, check_output(job.output, volume.geometry, job.images) or ""]
    notes.append(values_note(job.output, model.segments) or "")
    for note in filter(None, notes):
        bar.tell(f"note: {note}")
    path = Path(tempfile.mkdtemp(prefix="sparsesegnet-"))
    keep_log = False
    try:
        folder = RunFolder.create(
            path,
            [_input(job.name, volume, order)],
            model.segments,
            settings,
            job.name,
            job.output,
            job.images[0],
            task="segment",
            model=options.model,
        )
        run = EngineRun(folder)
        bar.follow(run)
        if run.state == "cancelled":
            raise Cancelled
        labels = run.result()
        uncertainty = folder.read_uncertainty()
        _write(job, model, volume, labels, uncertainty)
        return uncertain_share(labels, uncertainty)
    except EngineError as error:
        log = path / "log.txt"
        keep_log = error.code not in ("input", "no-python") and log.is_file()
        if not keep_log:
            raise
        raise EngineError(error.code, f"{error.cause} The log is {log}.", error.remedy) from error
    finally:
        _remove(path, keep_log)


def _input(name: str, volume: Volume, order: Sequence[int]) -> RunInput:
    image, channels = reordered(volume.image, volume.channels, order)
    return RunInput(
        image,
        np.full(volume.geometry.shape, UNLABELLED, np.uint8),
        volume.geometry,
        [],
        channels,
        name=name,
    )


def _write(
    job: Job,
    model: ModelDescription,
    volume: Volume,
    labels: np.ndarray,
    uncertainty: np.ndarray,
) -> None:
    """Write the outputs, the segmentation last: where it is, everything is."""
    try:
        if job.uncertainty is not None:
            write_image(job.uncertainty, uncertainty, volume.geometry, job.images[0])
        write_labels(job.output, labels, volume.geometry, model.segments, job.images[0])
    except BaseException as error:
        if job.uncertainty is not None:
            with suppress(OSError):
                remove(job.uncertainty)
        if isinstance(error, RuntimeError | ValueError):
            raise OSError(errno.EIO, str(error), str(job.output)) from error
        raise


def _remove(path: Path, keep_log: bool) -> None:
    """Remove a run folder, apart from its log if that can help to find the cause of an error."""
    if not keep_log:
        remove_tree(path, ignore_errors=True)
        return
    for item in path.iterdir():
        if item.is_dir():
            remove_tree(item, ignore_errors=True)
        elif item.name != "log.txt":
            with suppress(OSError):
                remove(item)

"""The command ``sparsesegnet segment``: a model applied to one or many images."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from ..errors import EngineError, InputError
from ..files.completeness import check_complete
from ..files.headers import check_header
from ..files.zarr_library import is_zarr
from ..runfolder.exit_codes import CANCELLED, DONE, SOME_FAILED
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from .images_progress import ImagesProgress
from .output_folder import check_outputs, output_folder
from .progress import say
from .segment_image import segment_image
from .segment_jobs import Job, jobs_of
from .segment_stored import segment_stored

# Codes of errors that every image would meet.
OF_THE_MACHINE = (
    *("no-device", "no-python"),
    *("ssh", "ssh-missing", "ssh-host-key", "ssh-permission", "ssh-refused", "ssh-unreachable"),
    *("remote-python", "remote-packages", "remote-disk-full"),
)


@dataclass(frozen=True)
class Outcome:
    """Result of an image, or the reason that there is none.

    Attributes:
        name: Of the image.
        result: A few words: written, there already, or failed and why.
        seconds: That it took; None if it was skipped.
        uncertain: See `uncertain_share`.
        failed: Whether there is no result.
    """

    name: str
    result: str
    seconds: float | None = None
    uncertain: float | None = None
    failed: bool = False


def segment(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if any(is_zarr(path) for path in (*options.images, options.output)):
        return segment_stored(options)
    if options.region is not None or options.memory is not None:
        raise InputError("--region and --memory are for volumes in OME-Zarr.")
    model = ModelDescription.read(options.model)
    settings = Options(device=options.device, largest_component=options.largest_component)
    jobs, folder = jobs_of(options.images, options.output, options.format, options.uncertainty)
    with nullcontext() if folder is None else output_folder(folder):
        check_outputs(
            [path for job in jobs for path in job.outputs],
            [options.model, *(path for job in jobs for path in job.images)],
        )
        return _segment_all(jobs, model, settings, options)


def _segment_all(
    jobs: Sequence[Job], model: ModelDescription, settings: Options, options: argparse.Namespace
) -> int:
    outcomes: list[Outcome] = []
    waiting = []
    for job in jobs:
        if options.resume and _whole(job):
            outcomes.append(Outcome(job.name, "there already"))
        else:
            waiting.append(job)
    cancelled = False
    with ImagesProgress(len(waiting), options.quiet) as bar:
        for job in waiting:
            begun = time.monotonic()
            try:
                share = segment_image(job, model, settings, options, bar)
            except KeyboardInterrupt:  # and Cancelled
                cancelled = True
                break
            except Exception as error:
                if os.environ.get("SPARSESEGNET_DEBUG"):
                    raise
                nothing = not any(o.seconds is not None and not o.failed for o in outcomes)
                if isinstance(error, EngineError) and error.code in OF_THE_MACHINE and nothing:
                    raise
                outcome = Outcome(
                    job.name, f"failed: {_reason(error)}", time.monotonic() - begun, None, True
                )
            else:
                outcome = Outcome(job.name, "written", time.monotonic() - begun, share)
            outcomes.append(outcome)
            if outcome.failed and len(jobs) > 1:
                bar.tell(f"{outcome.name} {outcome.result}")
            bar.finished()
    return _report(outcomes, len(jobs), cancelled)


def _report(outcomes: Sequence[Outcome], count: int, cancelled: bool) -> int:
    """Print the summary; returns the exit code."""
    if outcomes:
        print(table(outcomes))
    if cancelled:
        missing = count - sum(not o.failed for o in outcomes)
        say(
            f"cancelled: {missing} of {count} images have no result. What is written stays; the "
            "same command with --resume goes on with the others."
        )
        return CANCELLED
    if failed := sum(o.failed for o in outcomes):
        if count > 1:
            say(
                f"{failed} of {count} images failed. Once the cause is removed, the same command "
                "with --resume segments these alone."
            )
        return SOME_FAILED
    return DONE


def _whole(job: Job) -> bool:
    """True if all outputs are there, to their last voxel."""
    try:
        for path in job.outputs:
            if not path.is_file():
                return False
            check_header(path, "the result")
            check_complete(path, "the result")
    except InputError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Cause of a failure in one line, without a remedy that speaks of the removed run folder."""
    if isinstance(error, EngineError):
        text = error.cause
    elif isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        text = f"{name}{error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = "there is too little memory for it; crop it, or close other programs"
    else:
        text = f"{type(error).__name__}: {error} (a fault in SparseSegNet)"
    return " ".join(text.split())


def table(outcomes: Sequence[Outcome]) -> str:
    """The summary, for people."""
    rows = [("image", "seconds", "uncertain", "result")]
    for one in outcomes:
        rows.append(
            (
                one.name,
                "" if one.seconds is None else f"{one.seconds:.0f}",
                "" if one.uncertain is None else f"{100 * one.uncertain:.2g} %",
                one.result,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows
    )

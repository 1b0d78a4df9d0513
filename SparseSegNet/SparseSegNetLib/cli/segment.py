"""The command ``sparsesegnet segment``: a model applied to one or many images."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext

from ..errors import EngineError, InputError
from ..files.completeness import check_complete
from ..files.headers import check_header
from ..files.zarr_library import is_zarr
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from .images_progress import ImagesProgress
from .outcomes import Outcome, reason, report
from .output_folder import check_outputs, output_folder
from .segment_image import segment_image
from .segment_jobs import Job, jobs_of
from .segment_stored import segment_stored

# Codes of errors that every image would meet.
OF_THE_MACHINE = (
    *("no-device", "no-python"),
    *("ssh", "ssh-missing", "ssh-host-key", "ssh-permission", "ssh-refused", "ssh-unreachable"),
    *("remote-python", "remote-packages", "remote-disk-full"),
)


def segment(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if options.dask is not None and options.ssh is not None:
        raise InputError("--dask and --ssh both say where to compute: give one of them.")
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
        try:
            if options.dask is None:
                _one_by_one(waiting, model, settings, options, bar, outcomes)
            elif waiting:
                from .cluster.segment_scans import segment_scans

                segment_scans(waiting, settings, options, bar, outcomes)
        except KeyboardInterrupt:  # and Cancelled, Terminated
            cancelled = True
    return report(outcomes, len(jobs), cancelled)


def _one_by_one(
    jobs: Sequence[Job],
    model: ModelDescription,
    settings: Options,
    options: argparse.Namespace,
    bar: ImagesProgress,
    outcomes: list[Outcome],
) -> None:
    """Segment images one after the other on this computer."""
    several = len(jobs) + len(outcomes) > 1
    for job in jobs:
        begun = time.monotonic()
        try:
            share = segment_image(job, model, settings, options, bar)
        except Exception as error:
            if os.environ.get("SPARSESEGNET_DEBUG"):
                raise
            nothing = not any(o.seconds is not None and not o.failed for o in outcomes)
            if isinstance(error, EngineError) and error.code in OF_THE_MACHINE and nothing:
                raise
            seconds = time.monotonic() - begun
            outcome = Outcome(job.name, f"failed: {reason(error)}", seconds, None, True)
        else:
            outcome = Outcome(job.name, "written", time.monotonic() - begun, share)
        outcomes.append(outcome)
        if outcome.failed and several:
            bar.tell(f"{outcome.name} {outcome.result}")
        bar.finished()


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

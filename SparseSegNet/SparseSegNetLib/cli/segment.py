"""The command ``sparsesegnet segment``: a model applied to one or many images."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, InputError
from ..files.completeness import check_complete
from ..files.headers import check_header
from ..runfolder.compatibility import ACCEPTABLE
from ..runfolder.exit_codes import CANCELLED, DONE, SOME_FAILED
from ..runfolder.model_description import ModelDescription
from ..runfolder.options import Options
from .images_progress import ImagesProgress
from .output_folder import check_outputs, output_folder
from .progress import say
from .segment_image import segment_image
from .segment_jobs import Job, jobs_of
from .training_options import add_repair

OF_THE_MACHINE = ("no-device", "no-python")  # codes of errors that every image would meet


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


def add_segment(commands) -> None:
    """Adds the command to the parser's."""
    command = commands.add_parser(
        "segment",
        help="segment images with a model, without drawing",
        description="Apply a model that 'train' or 'densify --save-model' has written to one or "
        "many images. An image that fails does not end the others; Ctrl-C keeps what is "
        "finished. A table tells at the end which share of each segmentation the model is "
        "uncertain of: look at the highest first. Exit code 1 if an image failed.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="the model file")
    command.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file (the channels of one image joined by ';', in quotes), a folder of "
        "DICOM files, or a list in CSV under the header image[,name]",
    )
    command.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help="a file for one image (.seg.nrrd keeps names and colours); a folder for several, "
        "which get NAME.seg.nrrd",
    )
    command.add_argument(
        "--format", metavar="ENDING", help="the format of results in a folder, such as .nii.gz"
    )
    command.add_argument(
        "--accept",
        nargs="+",
        action="extend",
        default=[],
        choices=ACCEPTABLE,
        metavar="WHAT",
        help="apply the model to images that differ from its training set in "
        f"{', '.join(ACCEPTABLE)}",
    )
    command.add_argument(
        "--uncertainty",
        action="store_true",
        help="write an image of the uncertainty beside each result, NAME-uncertainty: 0 certain, "
        "255 undecided",
    )
    command.add_argument(
        "--resume", action="store_true", help="leave out images whose result is there already"
    )
    command.add_argument(
        "--series",
        metavar="WHICH",
        help="which DICOM series of a folder, as for densify",
    )
    command.add_argument(
        "--largest-component",
        action="store_true",
        help="of each segment keep only the largest connected component",
    )
    add_repair(command)
    command.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps …"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=segment)


def segment(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
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

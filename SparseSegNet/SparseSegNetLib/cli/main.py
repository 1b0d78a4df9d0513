"""The command line ``sparsesegnet``: the same engine without Slicer."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from ..annotation.composition import UNLABELLED
from ..errors import EngineError, InputError
from ..runfolder.exit_codes import BAD_INPUT, CANCELLED, INTERNAL, exit_code
from ..runfolder.signals import answer, raise_terminated
from .evaluate import add_parser as add_evaluate
from .model import add_model
from .segment import add_segment
from .train import add_train
from .training_options import add_network, add_reading, add_records, add_training


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a bad argument in one line, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with the code for bad input."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(BAD_INPUT)


def parser() -> Parser:
    """Parser of all commands; `run` in what it returns is the command's function."""
    top = Parser(
        prog="sparsesegnet", description="Dense 3D segmentations from a few annotated slices."
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    densify = commands.add_parser(
        "densify",
        help="segment a whole volume from a few annotated slices of it",
        description="Train on the labelled voxels of a volume and segment all of it. Ctrl-C "
        "stops early and keeps the best result so far; a second Ctrl-C cancels.",
    )
    densify.add_argument(
        "files",
        nargs="+",
        metavar="IMAGE... LABELS",
        type=Path,
        help="the image (several files: several channels), then the labels, unless --labels "
        "names them: a label image in which a value means unlabelled, or a .seg.nrrd",
    )
    densify.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help="the dense segmentation: .seg.nrrd keeps names and colours; .nrrd, "
        ".nii.gz, .mha … get a label image",
    )
    densify.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME=FILE",
        help="one label file per structure instead of one for all: organ=organ.nii.gz "
        "tumour=tumour.nii.gz; one called Background marks background. All other files are images",
    )
    add_reading(densify)
    densify.add_argument(
        "--slices",
        nargs="+",
        default=[],
        metavar="AXIS:INDEX",
        help="the completely annotated slices, such as k:10,20 i:5, counted "
        "from 0 (default: found from what was drawn); none if only what is drawn is labelled",
    )
    densify.add_argument(
        "--series",
        metavar="WHICH",
        help="which DICOM series of the image's folder, where there are several: its number, "
        "its description or the start of its UID; '/2' behind it means the second volume of it",
    )
    densify.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="begin with the weights of a model that 'train' or --save-model has written, which "
        "needs fewer slices than beginning from nothing",
    )
    add_network(densify)
    add_training(densify)
    add_records(densify)
    densify.add_argument(
        "--save-model", type=Path, metavar="FILE.safetensors", help="write the trained model there"
    )
    densify.set_defaults(run=densify_command)
    add_train(commands)
    add_segment(commands)
    add_model(commands)
    add_evaluate(commands)

    resume = commands.add_parser(
        "resume",
        help="resume an interrupted run",
        description="Resume the training of a run folder from its last checkpoint (at most "
        "half a minute old), predict and write the result.",
    )
    resume.add_argument("run_folder", type=Path, metavar="RUN", help="the run folder")
    resume.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="where to write the dense segmentation (default: the output named for the run)",
    )
    resume.add_argument(
        "--time-budget",
        type=float,
        metavar="S",
        help="seconds in total, including those already used (default: as before)",
    )
    resume.add_argument("--quiet", action="store_true", help="no progress bar")
    resume.set_defaults(run=resume_command)

    export = commands.add_parser(
        "export",
        help="write the result of a finished run again",
        description="Write the dense segmentation of a run folder to a file, in any format. "
        "Nothing is computed.",
    )
    export.add_argument("run_folder", type=Path, metavar="RUN", help="the run folder")
    export.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="the dense segmentation"
    )
    export.set_defaults(run=export_command)

    doctor = commands.add_parser(
        "doctor",
        help="check Python, torch, the device, memory and disk",
        description="Check what the engine needs, in a process of its own, with a real 3D "
        "convolution forward and backward on the device. Exit code 0 if all is well, "
        "4 if the engine cannot run.",
    )
    doctor.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps …")
    doctor.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where run folders are to lie (default: the temporary folder)",
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=doctor_command)

    networks = commands.add_parser("networks", help="list the networks and their properties")
    networks.add_argument("--json", action="store_true", help="as JSON")
    networks.set_defaults(run=networks_command)

    reproduce = commands.add_parser(
        "reproduce",
        help="the 3D U-Net paper's experiments on your own volumes",
        description="Repeat an experiment of the 3D U-Net paper (Cicek et al. 2016) on your own "
        "volumes. table1: 3-fold cross-validation over the annotated slices, 3D with "
        "and without batch normalisation and 2D. table2: IoU against the number of "
        "annotated slices. table3: train on all volumes but one, segment that one. "
        "Every training is stored in DIR as it ends; the same command resumes where "
        "it was interrupted.",
    )
    reproduce.add_argument("table", choices=("table1", "table2", "table3"))
    reproduce.add_argument(
        "cases",
        type=Path,
        metavar="CASES.csv",
        help="a row per volume under the header image,labels[,slices]: paths "
        "(relative to the file; several channels with ';'), and slices "
        "such as 'k:10,20 i:5'",
    )
    reproduce.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("reproduce"),
        metavar="DIR",
        help="where results are kept (default ./reproduce)",
    )
    reproduce.add_argument(
        "--spread",
        default="9,9,7",
        metavar="YZ,XZ,XY",
        help="how many slices of a densely labelled volume count as annotated (default 9,9,7)",
    )
    reproduce.add_argument(
        "--unlabelled",
        type=int,
        default=UNLABELLED,
        metavar="V",
        help=f"the value of unlabelled voxels in label images (default {UNLABELLED})",
    )
    add_training(reproduce, 600.0)
    reproduce.set_defaults(run=reproduce_command)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments; those of this process by default.

    Returns:
        The exit code: 0 done, 1 some of several images failed, 2 bad arguments or input,
        3 cancelled, 4 no usable device, 5 internal error.
    """
    try:
        options = parser().parse_args(arguments)
        return options.run(options)
    except InputError as error:
        return _fail(BAD_INPUT, str(error))
    except EngineError as error:
        return _fail(exit_code(error.code), f"{error.cause} {error.remedy}")
    except KeyboardInterrupt:
        return _fail(CANCELLED, "cancelled; nothing was written.")
    except OSError as error:
        name = f" {error.filename}" if error.filename else ""
        return _fail(
            INTERNAL,
            f"a file cannot be written or read{name}: "
            f"{error.strerror or error}. Check rights and free space.",
        )
    except Exception as error:
        if os.environ.get("SPARSESEGNET_DEBUG"):
            raise
        return _fail(
            INTERNAL,
            f"{type(error).__name__}: {error}. This is a fault in SparseSegNet; "
            "SPARSESEGNET_DEBUG=1 shows where.",
        )


def densify_command(options: argparse.Namespace) -> int:
    """Runs ``densify``; its imports are loaded only then, as for every command."""
    from .densify import densify

    return densify(options)


def resume_command(options: argparse.Namespace) -> int:
    """Runs ``resume``."""
    from .resume import resume

    return resume(options)


def export_command(options: argparse.Namespace) -> int:
    """Runs ``export``."""
    from .export import export

    return export(options)


def doctor_command(options: argparse.Namespace) -> int:
    """Runs ``doctor``."""
    from .doctor import doctor

    return doctor(options)


def networks_command(options: argparse.Namespace) -> int:
    """Runs ``networks``."""
    from .networks import networks

    return networks(options.json)


def reproduce_command(options: argparse.Namespace) -> int:
    """Runs ``reproduce``."""
    from .reproduce import reproduce

    return reproduce(options)


def _fail(code: int, message: str) -> int:
    print(f"sparsesegnet: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def entry() -> None:
    """Entry point of the installed script; exits with the command's exit code."""
    answer(raise_terminated)
    code = main()
    # A reader that closed its end of the pipe must not cause a traceback at exit.
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)

"""Command-line options of every command that trains."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..annotation.composition import UNLABELLED
from ..client.interpreter import use_ssh
from ..errors import InputError
from ..remote.ssh_command import words
from ..runfolder.options import Options
from ..runfolder.presets import PRESETS, preset


def add_training(command: argparse.ArgumentParser, time_budget: float = 120.0) -> None:
    """Adds the options that every command which trains has."""
    add_computing(command, time_budget)
    command.add_argument(
        "--steps",
        type=int,
        default=0,
        metavar="N",
        help="train for N steps instead of by time; with the same seed a run on "
        "the CPU then gives the same bits",
    )
    command.add_argument(
        "--tile",
        metavar="I,J,K",
        help="voxels that a published network takes in, along i, j and k (default: as published)",
    )
    command.add_argument(
        "--width", type=int, metavar="N", help="channels of a published network's first level"
    )
    command.add_argument(
        "--largest-component",
        action="store_true",
        help="of each segment keep only the largest connected component, and the "
        "components that touch annotation",
    )


def add_computing(command: argparse.ArgumentParser, time_budget: float) -> None:
    """Adds the options that say on what, for how long and from which image it is computed."""
    command.add_argument(
        "--time-budget",
        type=float,
        default=time_budget,
        metavar="S",
        help=f"time budget: seconds from start to result (default {time_budget:g})",
    )
    command.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps …"
    )
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument(
        "--n4", action="store_true", help="correct the bias field first (N4; for MR)"
    )
    command.add_argument(
        "--resample",
        metavar="MM",
        help="the spacing to work at: mm along i, j and k (1,1,1.5), or one number for all",
    )
    add_remote(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def add_remote(command: argparse.ArgumentParser) -> None:
    """Adds the options by which the engine works on another computer."""
    command.add_argument(
        "--ssh",
        metavar="COMMAND",
        help="compute on another computer, which this command logs in to without a question, such "
        "as 'ssh me@gpu-box' (default: on this one)",
    )
    command.add_argument(
        "--remote-python",
        metavar="PATH",
        help="the Python with torch on that computer (default python3)",
    )


def use_remote(given: argparse.Namespace) -> None:
    """Has this process use the engine on the computer that `add_remote`'s options name, if any.

    Raises:
        InputError: The SSH command cannot be read, or is missing beside --remote-python.
    """
    command, python = getattr(given, "ssh", None), getattr(given, "remote_python", None)
    if command is not None:
        words(command)
        use_ssh(command, python)
    elif python is not None:
        raise InputError("--remote-python needs --ssh, which names the computer that it is on.")


def add_files(command: argparse.ArgumentParser) -> None:
    """Adds the image, its annotation, and how both are read."""
    command.add_argument(
        "files",
        nargs="+",
        metavar="IMAGE... LABELS",
        type=Path,
        help="the image (several files: several channels), then the labels, unless --labels "
        "names them: a label image in which a value means unlabelled, or a .seg.nrrd",
    )
    command.add_argument(
        "--labels",
        nargs="+",
        metavar="NAME=FILE",
        help="one label file per structure instead of one for all: organ=organ.nii.gz "
        "tumour=tumour.nii.gz; one called Background marks background. All other files are images",
    )
    add_reading(command)
    command.add_argument(
        "--slices",
        nargs="+",
        default=[],
        metavar="AXIS:INDEX",
        help="the completely annotated slices, such as k:10,20 i:5, counted "
        "from 0 (default: found from what was drawn); none if only what is drawn is labelled",
    )
    command.add_argument(
        "--series",
        metavar="WHICH",
        help="which DICOM series of the image's folder, where there are several: its number, "
        "its description or the start of its UID; '/2' behind it means the second volume of it",
    )


def add_reading(command: argparse.ArgumentParser) -> None:
    """Adds the options that say how images and labels are read."""
    add_label_reading(command)
    add_repair(command)


def add_label_reading(command: argparse.ArgumentParser) -> None:
    """Adds the options that say how annotation is read."""
    command.add_argument(
        "--unlabelled",
        type=int,
        metavar="V",
        help=f"the value of unlabelled voxels in a label image (default "
        f"{UNLABELLED}); 0 means that nothing was drawn there, as in a "
        "segmentation",
    )
    command.add_argument(
        "--background-label",
        type=int,
        metavar="V",
        help="the value that marks background in a label image (default 0), such as 1 in labels of "
        "ilastik, together with --unlabelled 0",
    )
    command.add_argument(
        "--resample-labels",
        action="store_true",
        help="carry a label image that lies on another grid to the image's grid",
    )


def add_repair(command: argparse.ArgumentParser) -> None:
    """Adds the option for images with voxels that are no numbers."""
    command.add_argument(
        "--replace-nonfinite",
        action="store_true",
        help="set NaN and infinite voxels to the lowest finite value",
    )


def add_records(command: argparse.ArgumentParser) -> None:
    """Adds the options that keep what a training did."""
    command.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="DIR",
        help="keep the run folder (inputs, weights, curves, log) there",
    )
    command.add_argument(
        "--no-scan-names",
        action="store_true",
        help="store no names of scans and files in run folder and model, which may be those of "
        "patients, but numbers",
    )
    command.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE.json",
        help="write the plan, the scores on held-out slices and the times there",
    )


def add_network(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose a network."""
    command.add_argument(
        "--network",
        default="auto",
        help=f"{', '.join(PRESETS)} (default auto; 'sparsesegnet networks' describes them)",
    )
    command.add_argument(
        "--kernel",
        type=int,
        metavar="N",
        help="edge of V-Net's convolutions: 5 (published) or 3 (cheaper)",
    )
    command.add_argument(
        "--no-batch-norm",
        action="store_true",
        help="a published network without its batch normalisation",
    )


def training_options(given: argparse.Namespace, **changes) -> Options:
    """Options of a run from parsed arguments.

    Args:
        given: The parsed arguments.
        **changes: Options that replace those given.

    Raises:
        InputError: A value is out of range or does not fit the network.
    """
    network = changes.get("network", getattr(given, "network", "auto"))
    tile = _numbers("--tile", getattr(given, "tile", None), int)
    if tile and preset(network).planar and "," not in given.tile:
        tile = (*tile[:2], 1)  # one number for both sides of a flat tile
    return Options(
        **{
            "network": network,
            "time_budget": given.time_budget,
            "device": given.device,
            "seed": given.seed,
            "max_steps": getattr(given, "steps", 0),
            "tile": tile,
            "kernel": getattr(given, "kernel", None),
            "width": getattr(given, "width", None),
            "batch_norm": not getattr(given, "no_batch_norm", False),
            "n4": given.n4,
            "resample": _numbers("--resample", given.resample, float),
            "largest_component": getattr(given, "largest_component", False),
            "scan_names": not getattr(given, "no_scan_names", False),
            **changes,
        }
    )


def _numbers(option: str, text: str | None, kind: type) -> tuple | None:
    """Three numbers from text, or one for all three axes; None if there is no text."""
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise InputError(
            f"{option} {text}: expected three numbers, for i, j and k, such as "
            + ("132,132,116." if kind is int else "1,1,1.5.")
        )
    return values

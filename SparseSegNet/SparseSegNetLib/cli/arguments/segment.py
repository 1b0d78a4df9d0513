"""The arguments of ``sparsesegnet segment``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...runfolder.compatibility import ACCEPTABLE
from ..tile_options import add_tiles
from ..training_options import add_remote, add_repair


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
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
        "DICOM files or of images, or a list in CSV under the header image[,name]; or one OME-Zarr",
    )
    command.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help="a file for one image (.seg.nrrd keeps names and colours); a folder for several, "
        "which get NAME.seg.nrrd; an .ome.zarr is written tile by tile, for a volume of any size",
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
        "--resume",
        action="store_true",
        help="leave out images whose result is there already; of an OME-Zarr, tiles",
    )
    add_tiles(command)
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
        "--dask",
        metavar="ADDRESS",
        help="segment on the workers of a Dask cluster: the address of its scheduler, such as "
        "tcp://10.0.0.5:8786, or 'local:N' for N workers on this computer; an image, or a tile of "
        "an OME-Zarr, is a task",
    )
    command.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps …"
    )
    add_remote(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..segment import segment

    return segment(options)

"""The arguments of ``sparsesegnet densify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..tile_options import add_tiles
from ..training_options import add_files, add_network, add_records, add_training


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "densify",
        help="segment a whole volume from a few annotated slices of it",
        description="Train on the labelled voxels of a volume and segment all of it. Ctrl-C "
        "stops early and keeps the best result so far; a second Ctrl-C cancels.",
    )
    add_files(command)
    command.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help="the dense segmentation: .seg.nrrd keeps names and colours; .nrrd, "
        ".nii.gz, .mha … get a label image; .ome.zarr is for a volume in OME-Zarr",
    )
    command.add_argument(
        "--prior",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="another tool's result on this volume, which counts as far as the annotation agrees "
        "with it: a segmentation or label image (matched by segment name, else label value), or "
        "NAME=FILE with the probability of one segment (0 to 1, or 0 to 255)",
    )
    command.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="a model that 'train' or --save-model has written predicts the volume first, and its "
        "prediction counts as far as the drawn slices confirm it: fewer slices are needed",
    )
    add_network(command)
    add_training(command)
    add_records(command)
    command.add_argument(
        "--save-model", type=Path, metavar="FILE.safetensors", help="write the trained model there"
    )
    command.add_argument(
        "--level",
        type=int,
        metavar="N",
        help="of an OME-Zarr the level to work on, 0 for the finest (default: the finest that fits "
        "memory)",
    )
    command.add_argument(
        "--everywhere",
        action="store_true",
        help="of an OME-Zarr segment all, outside of the annotated region by the trained model; "
        "without it there is background",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="of an OME-Zarr go on with what the same command has begun",
    )
    add_tiles(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..densify import densify

    return densify(options)

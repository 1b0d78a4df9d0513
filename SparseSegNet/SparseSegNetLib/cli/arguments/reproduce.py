"""The arguments of ``sparsesegnet reproduce``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...annotation.composition import UNLABELLED
from ..training_options import add_training


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "reproduce",
        help="the 3D U-Net paper's experiments on your own volumes",
        description="Repeat an experiment of the 3D U-Net paper (Cicek et al. 2016) on your own "
        "volumes. table1: 3-fold cross-validation over the annotated slices, 3D with "
        "and without batch normalisation and 2D. table2: IoU against the number of "
        "annotated slices. table3: train on all volumes but one, segment that one. "
        "Every training is stored in DIR as it ends; the same command resumes where "
        "it was interrupted.",
    )
    command.add_argument("table", choices=("table1", "table2", "table3"))
    command.add_argument(
        "cases",
        type=Path,
        metavar="CASES.csv",
        help="a row per volume under the header image,labels[,slices]: paths "
        "(relative to the file; several channels with ';'), and slices "
        "such as 'k:10,20 i:5'",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("reproduce"),
        metavar="DIR",
        help="where results are kept (default ./reproduce)",
    )
    command.add_argument(
        "--spread",
        default="9,9,7",
        metavar="YZ,XZ,XY",
        help="how many slices of a densely labelled volume count as annotated (default 9,9,7)",
    )
    command.add_argument(
        "--unlabelled",
        type=int,
        default=UNLABELLED,
        metavar="V",
        help=f"the value of unlabelled voxels in label images (default {UNLABELLED})",
    )
    add_training(command, 600.0)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..reproduce import reproduce

    return reproduce(options)

"""The arguments of ``sparsesegnet train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...runfolder.options import MODALITIES
from ..training_options import add_network, add_reading, add_records, add_training


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser's.

    Args:
        commands: The parser's commands.
    """
    command = commands.add_parser(
        "train",
        help="learn one model from several volumes, to segment others without drawing",
        description="Train one model on several volumes of which a few slices each are annotated. "
        "'segment' then applies it to new images. Ctrl-C stops early and keeps the best model so "
        "far; a second Ctrl-C cancels.",
    )
    command.add_argument(
        "cases",
        type=Path,
        metavar="CASES.csv",
        help="a row per volume under the header image,labels[,slices][,name]: paths (relative to "
        "the file; several channels with ';'), slices as for densify --slices (\"k:10,20 i:5\", "
        "none, or all for a dense segmentation), and the volume's name. Without labels a volume "
        "is an unlabelled scan. Segments are the same if their names are",
    )
    command.add_argument(
        "--save-model",
        type=Path,
        required=True,
        metavar="FILE.safetensors",
        help="write the trained model there",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write the dense segmentation of each volume of the list there, as NAME.seg.nrrd",
    )
    add_reading(command)
    add_network(command)
    add_training(command)
    command.add_argument(
        "--modality",
        choices=MODALITIES,
        default="auto",
        help="ct if the intensities are Hounsfield units, other if each volume has its own scale "
        "(default auto: told by the values)",
    )
    command.add_argument(
        "--match-histograms",
        action="store_true",
        help="match the histogram of each volume to the training set's (for MR of several "
        "scanners)",
    )
    add_records(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..train import train

    return train(options)

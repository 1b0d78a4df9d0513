"""The command ``sparsesegnet export``: writes the result of a finished run again."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.writing import check_output, check_writable, values_note, write_labels
from ..runfolder.exit_codes import DONE
from ..runfolder.folder import RunFolder
from .progress import say


def export(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    folder = RunFolder.open(options.run_folder)
    prepare(folder, options.output)
    if not folder.has_result():
        raise InputError(
            f"the run {folder.path} has no result yet: "
            f"'sparsesegnet resume \"{folder.path}\"' goes on from its last checkpoint."
        )
    write(folder, options.output, folder.read_result())
    say(f"{options.output} written.")
    return DONE


def prepare(folder: RunFolder, output: Path) -> None:
    """Checks that a run's result can be written to a file, and prints notes about it.

    Raises:
        InputError: It cannot, see `check_output`.
    """
    source = folder.description["source"]
    inputs = [Path(source)] if source else []
    check_writable(output, inputs)
    note = check_output(output, folder.geometry(), inputs)
    for text in filter(None, (note, values_note(output, folder.segments))):
        say(f"note: {text}")


def write(folder: RunFolder, output: Path, labels: np.ndarray) -> None:
    """Writes a run's result to a file.

    Args:
        folder: The run folder.
        output: The file.
        labels: uint8 (k, j, i), the dense labels.

    Raises:
        OSError: It cannot be written.
    """
    source = folder.description["source"]
    like = Path(source) if source and Path(source).is_file() else None
    write_labels(output, labels, folder.geometry(), folder.segments, like)
    folder.remember_written(output)

"""The command ``sparsesegnet export``: writes the result of a finished run again."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.writing import SEGMENTATION, check_output, check_writable, values_note, write_labels
from ..runfolder.exit_codes import DONE
from ..runfolder.folder import RunFolder
from .case_list import is_file_name
from .output_folder import output_folder
from .progress import say


def export(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    folder = RunFolder.open(options.run_folder)
    if folder.task == "train":
        return _export_all(folder, options.output)
    prepare(folder, options.output)
    if not folder.has_result():
        raise InputError(
            f"the run {folder.path} has no result yet: "
            f"'sparsesegnet resume \"{folder.path}\"' goes on from its last checkpoint."
        )
    write(folder, options.output, folder.read_result())
    say(f"{options.output} written.")
    return DONE


def _export_all(folder: RunFolder, output: Path) -> int:
    """Write the result of every volume of a training set into a folder."""
    numbers = [n for n in range(1, folder.count + 1) if folder.has_result(n)]
    if not numbers:
        raise InputError(
            f"the training {folder.path} has no result yet: it may have been asked for the model "
            "alone, or be unfinished. 'sparsesegnet segment' applies its model to images."
        )
    with output_folder(output):
        names: set[str] = set()
        for number in numbers:
            name = folder.description["inputs"][number - 1].get("name", "")
            if not is_file_name(name) or name.casefold() in names:
                name = str(number)
            names.add(name.casefold())
            path = output / f"{name}{SEGMENTATION}"
            check_output(path, folder.geometry(number))
            write_labels(path, folder.read_result(number), folder.geometry(number), folder.segments)
    say(f"{len(numbers)} segmentations are in {output}.")
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

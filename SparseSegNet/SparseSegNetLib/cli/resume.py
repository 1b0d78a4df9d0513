"""The command ``sparsesegnet resume``: continues an interrupted run to its result.

The result of a training on several volumes is the model.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from ..client.engine_run import ENDING, EngineRun
from ..errors import InputError
from ..files.writing import check_writable
from ..runfolder.changes import Changes
from ..runfolder.checkpoints import STORED
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.folder import RunFolder
from .dense_stages import go_on
from .export import prepare, write
from .progress import follow, say, say_cancelled
from .segment_stored import prepare as prepare_device
from .train import save_model


def resume(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    folder = RunFolder.open(options.run_folder)
    if (folder.path / STORED).is_file():
        return _resume_stored(options, folder)
    output = options.output or folder.description["output"]
    if output is None:
        raise InputError(
            f"the run {folder.path} names no output file for its result: name one with -o."
        )
    output = Path(output)
    training = folder.task == "train"
    _check_replaceable(options, folder, output)
    if training:
        check_writable(output)
    else:
        prepare(folder, output)
    changes = None
    if options.time_budget is not None:  # checked as at the beginning
        changes = Changes(replace(folder.options, time_budget=options.time_budget))
    run = EngineRun(folder, changes=changes, patience=ENDING)
    run.observe(_tell)
    if follow(run, quiet=options.quiet) == "cancelled":
        say_cancelled(folder.path)
        return CANCELLED
    for note in folder.notes:
        say(f"note: {note}")
    _check_replaceable(options, folder, output)  # a file may have appeared meanwhile
    if training:
        if run.error is not None:
            raise run.error
        save_model(folder, output)
        folder.remember_written(output)
    else:
        write(folder, output, run.result())
    say(f"{output} written after {run.summary['seconds']:.0f} s, {run.summary['step']} steps.")
    if training and folder.has_result():
        say(f"'sparsesegnet export \"{folder.path}\" -o DIR' writes the segmentations.")
    return DONE


def _resume_stored(options: argparse.Namespace, folder: RunFolder) -> int:
    """Goes on with the densify of a volume in OME-Zarr."""
    from ..tiles.dense_task import DenseTask
    from ..tiles.dense_writing import begun_by

    task = DenseTask.open(folder.path)
    assert task is not None
    if options.output is not None or options.time_budget is not None:
        raise InputError(
            "the output and the time budget of a run on an OME-Zarr cannot be changed: leave out "
            "-o and --time-budget."
        )
    output = Path(task.output)
    if not begun_by(output, folder.path):
        raise InputError(
            f"{output}, which the run {folder.path} names as its output, exists and is complete, "
            "or not what this run began there: move it away."
        )
    prepare_device(task.device)
    return go_on(folder, options.quiet, resumed=True)


def _check_replaceable(options: argparse.Namespace, folder: RunFolder, output: Path) -> None:
    """Raise InputError unless the file may be replaced.

    A run folder may be somebody else's, and what it names as its output may be anything.
    """
    if options.output is None and os.path.lexists(output) and not folder.wrote(output):
        raise InputError(
            f"{output}, which the run {folder.path} names as its output, exists and "
            "is not what this run wrote there: name the file with -o to replace it, "
            "or another one."
        )


def _tell(event: dict) -> None:
    if event["event"] == "resumed":
        say(f"resuming from step {event['step']}, after {event['seconds']:.0f} s.")

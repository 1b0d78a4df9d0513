"""The command ``sparsesegnet densify``: files in, run folder, engine, files out."""

from __future__ import annotations

import argparse
import errno

import numpy as np

from ..annotation.channel_order import reordered
from ..client.engine_run import EngineRun
from ..errors import InputError
from ..files.images import Volume
from ..files.labels import Annotation
from ..files.prior import prior_files, read_prior
from ..files.writing import (
    check_output,
    link_target,
    values_note,
    write_labels,
)
from ..files.zarr_library import is_zarr
from ..runfolder.atomic import write_json
from ..runfolder.compatibility import check_start
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.folder import RunFolder
from ..units import counted
from .annotated_image import input_of, label_files, read_annotated, say_annotated
from .densify_stored import densify_stored
from .output_folder import check_files
from .progress import follow, say, say_cancelled
from .run_place import run_place
from .scores import lines_of_score, report
from .train import save_model
from .training_options import training_options


def densify(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if any(is_zarr(path) for path in (*options.files, options.output)):
        return densify_stored(options)
    if options.everywhere or options.level is not None or options.region is not None:
        raise InputError("--region, --level and --everywhere are for volumes in OME-Zarr.")
    if options.resume:
        raise InputError(
            "--resume is for volumes in OME-Zarr: 'sparsesegnet resume RUN' goes on with a run "
            "whose folder was kept with --run."
        )
    settings = training_options(options, save_model=options.save_model is not None)
    images, structures = label_files(options)
    inputs = [*images, *(path for _, path in structures)]
    inputs += [options.start_from] if options.start_from else []
    given = prior_files(options.prior)
    inputs += [path for _, path in given]
    written = [path for path in (options.output, options.metrics, options.save_model) if path]
    check_files(written, inputs, options.run_folder)
    volume, annotation, reading = read_annotated(options, images, structures)
    prior = (
        read_prior(given, volume.geometry, annotation.segments, reading.by_index) if given else None
    )
    notes = [
        *volume.notes,
        *annotation.warnings,
        *([] if prior is None else prior.notes),
        check_output(options.output, volume.geometry, inputs),
        values_note(options.output, annotation.segments),
    ]
    for text in filter(None, notes):
        say(f"note: {text}")
    say_annotated(volume, annotation)
    if options.start_from:
        order, notes = check_start(
            options.start_from,
            volume.paths[0].name,
            volume.image,
            volume.geometry,
            volume.channels,
            annotation.segments,
        )
        for note in notes:
            say(f"note: {note}")
        volume.image, volume.channels = reordered(volume.image, volume.channels, order)
    rest = (
        "(the dense labels in result/1.npy); 'sparsesegnet export \"{path}\" -o FILE' writes it "
        "again."
    )
    with run_place(options.run_folder, options.output, rest) as place:
        folder = RunFolder.create(
            place.path,
            [input_of(volume, annotation, prior)],
            annotation.segments,
            settings,
            options.output.name,
            options.output,
            volume.paths[0],
            model=options.start_from,
        )
        run = EngineRun(folder)
        if follow(run, quiet=options.quiet) == "cancelled":
            say_cancelled(options.run_folder)
            return CANCELLED
        place.computed = run.error is None
        result = run.result()
        _write(options, run, result, volume, annotation)
        score = lines_of_score(folder)
    say(
        f"{options.output} written after {run.summary['seconds']:.0f} s, "
        f"{counted(run.summary['step'], 'step')}."
    )
    for line in score:
        say(line)
    return DONE


def _write(
    options: argparse.Namespace,
    run: EngineRun,
    result: np.ndarray,
    volume: Volume,
    annotation: Annotation,
) -> None:
    """Writes what was asked for; raises OSError if it cannot."""
    try:
        if options.save_model:
            save_model(run.folder, options.save_model)
        if options.metrics:
            write_json(link_target(options.metrics), report(run, annotation))
        # The result comes last: where it exists, everything else does.
        write_labels(options.output, result, volume.geometry, annotation.segments, volume.paths[0])
        run.folder.remember_written(options.output)
    except (RuntimeError, ValueError, EOFError, MemoryError) as error:
        raise OSError(errno.EIO, str(error), str(options.output)) from error

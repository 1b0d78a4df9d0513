"""The command ``sparsesegnet densify``: files in, run folder, engine, files out."""

from __future__ import annotations

import argparse
import errno
import tempfile
from pathlib import Path

from ..client.engine_run import EngineRun
from ..errors import EngineError, InputError
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
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder
from .annotated_image import input_of, label_files, read_annotated, say_annotated
from .densify_stored import densify_stored
from .output_folder import check_files
from .progress import follow, say, say_cancelled
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
        if order != list(range(len(order))):
            volume.image = volume.image[order]
            volume.channels = [volume.channels[place] for place in order]
    path = options.run_folder or Path(tempfile.mkdtemp(prefix="sparsesegnet-"))
    keep = options.run_folder is not None
    try:
        folder = RunFolder.create(
            path,
            [input_of(volume, annotation, prior)],
            annotation.segments,
            settings,
            options.output.name,
            options.output,
            volume.paths[0],
            model=options.start_from,
        )
        return _train_and_write(options, folder, volume, annotation)
    except EngineError as error:
        keep = keep or error.code != "no-python"  # its log helps to find the cause
        raise
    except OSError as error:
        keep = True
        raise EngineError(
            "files",
            f"{error.filename or options.output} cannot be written: {error.strerror or error}.",
            f"What was computed is kept in {path} (the dense labels in result/1.npy); "
            f"'sparsesegnet export \"{path}\" -o FILE' writes it again.",
        ) from error
    finally:
        if not keep:
            remove_tree(path, ignore_errors=True)


def _train_and_write(
    options: argparse.Namespace, folder: RunFolder, volume: Volume, annotation: Annotation
) -> int:
    run = EngineRun(folder)
    if follow(run, quiet=options.quiet) == "cancelled":
        say_cancelled(options.run_folder)
        return CANCELLED
    result = run.result()
    try:
        if options.save_model:
            save_model(folder, options.save_model)
        if options.metrics:
            write_json(link_target(options.metrics), report(run, annotation))
        # The result comes last: where it exists, everything else does.
        write_labels(options.output, result, volume.geometry, annotation.segments, volume.paths[0])
        folder.remember_written(options.output)
    except (RuntimeError, ValueError, EOFError, MemoryError) as error:
        raise OSError(errno.EIO, str(error), str(options.output)) from error
    say(
        f"{options.output} written after {run.summary['seconds']:.0f} s, "
        f"{run.summary['step']} steps."
    )
    for line in lines_of_score(folder):
        say(line)
    return DONE

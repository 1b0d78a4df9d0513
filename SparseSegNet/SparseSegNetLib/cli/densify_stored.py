"""``sparsesegnet densify`` of a volume in OME-Zarr: learnt in a region, written tile by tile."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..annotation.composition import check_trainable
from ..annotation.slices import check_slices, format_slices, parse_slices
from ..client.engine_run import EngineRun
from ..errors import EngineError, InputError
from ..files.label_region import LabelSource
from ..files.labels import Annotation, Reading
from ..files.ngff_labels import LabelStore, chunk_of
from ..files.ngff_volume import NgffVolume
from ..files.open_stored import open_stored
from ..files.stored_volume import StoredVolume
from ..files.writing import link_target
from ..files.zarr_library import is_zarr, zarr_library
from ..runfolder.atomic import write_json
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder, annotated_share
from .output_folder import check_files
from .progress import follow, say, say_cancelled
from .scores import lines_of_score, report
from .segment_stored import GB, Progress, check_output_store, prepare
from .train import save_model
from .training_options import training_options

if TYPE_CHECKING:
    from ..tiles.dense_region import DenseRegion
    from ..tiles.tile_list import Region, Tile

LABEL_BYTES = 12  # per voxel of a region, while its annotation is read
OTHERS = ("prior", "start_from", "labels", "series", "resample_labels")
Outside = Callable[["Tile"], np.ndarray]


def densify_stored(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    for name in OTHERS:
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} does not work on a volume in OME-Zarr: leave it out."
            )
    if len(options.files) != 2:
        raise InputError(
            "densify needs two paths here: the OME-Zarr, whose channels lie along its axis c, and "
            "its labels (a group of labels in OME-Zarr, a label image or a .seg.nrrd)."
        )
    if not is_zarr(options.output):
        raise InputError(
            f"the output {options.output} of an OME-Zarr is one, too: name it "
            f"{options.output.stem}.ome.zarr."
        )
    zarr_library()
    settings = training_options(
        options, save_model=options.save_model is not None or options.everywhere
    )
    image = open_stored(options.files[0])
    check_output_store(options.output, image, False)
    written = [path for path in (options.metrics, options.save_model) if path]
    check_files(written, options.files, options.run_folder)
    device = prepare(options.device if options.everywhere else "cpu")
    region, annotation, note = _annotated(options, image)
    for text in filter(None, [*image.notes, image.missing_note(), *annotation.warnings, note]):
        say(f"note: {text}")
    outside = "the trained model" if options.everywhere else "background (--everywhere: the model)"
    ranges = ",".join(f"{a}:{b}" for a, b in zip(region.low, region.high, strict=True))
    say(f"note: learnt in the region {ranges}; what is outside of it gets {outside}.")
    item = region.input(image, annotation, options.replace_nonfinite)
    check_trainable(item.labels, [s.name for s in annotation.segments])
    say(
        f"{len(annotation.slices)} annotated slices (in the region: "
        f"{format_slices(annotation.slices)}), {100 * annotated_share(annotation.labels):.2g} % of "
        f"its voxels labelled; {len(annotation.segments)} segments."
    )
    path = options.run_folder or Path(tempfile.mkdtemp(prefix="sparsesegnet-"))
    keep = options.run_folder is not None
    try:
        folder = RunFolder.create(
            path,
            [item],
            annotation.segments,
            settings,
            options.output.name,
            None,
            image.path,
        )
        run = EngineRun(folder)
        if follow(run, quiet=options.quiet) == "cancelled":
            say_cancelled(options.run_folder)
            return CANCELLED
        try:
            return _write(options, image, run, region, annotation, device)
        except (KeyboardInterrupt, EngineError, OSError) as error:
            keep = True
            if isinstance(error, KeyboardInterrupt):
                say(f"cancelled; nothing was written. {_kept(path)}")
                return CANCELLED
            raise _unwritten(error, options.output, path) from error
    except EngineError as error:
        keep = keep or error.code != "no-python"  # its log helps to find the cause
        raise
    finally:
        if not keep:
            remove_tree(path, ignore_errors=True)


def _kept(path: Path) -> str:
    return f"What was learnt is kept in {path} (the labels of the region in result/1.npy)."


def _unwritten(error: EngineError | OSError, output: Path, path: Path) -> EngineError:
    """The error that also says where the result of the training is."""
    if isinstance(error, EngineError):
        return EngineError(error.code, error.cause, f"Check free space and rights. {_kept(path)}")
    name = error.filename or output
    return EngineError(
        "files", f"{name} cannot be written: {error.strerror or error}.", _kept(path)
    )


def _annotated(
    options: argparse.Namespace, image: StoredVolume
) -> tuple[DenseRegion, Annotation, str]:
    """The region to learn in, its annotation on the finest grid, and a note on the level."""
    from ..engine.compute.allocation import free_memory
    from ..engine.compute.device import possible_devices
    from ..tiles.dense_region import around, choose_region, region_of
    from ..tiles.tile_list import parse_region

    slices = parse_slices(options.slices) if options.slices else None
    check_slices(slices or (), image.shape)
    reading = Reading(options.unlabelled, slices, options.background_label)
    source = LabelSource(options.files[1], image.geometry, reading)
    box: Region | None
    if options.region is not None:
        box = parse_region(options.region, image.shape)
    elif (box := source.drawn_box()) is not None:
        box = around(box, image.shape)
    else:
        raise InputError(
            f"no voxel of {options.files[1]} is labelled: annotate at least one slice (or check "
            "which value means unlabelled)."
        )
    coarsest = region_of(image, box, len(image.levels) - 1)
    voxels = math.prod(b - a for a, b in zip(coarsest.low, coarsest.high, strict=True))
    free = free_memory(possible_devices("cpu")[0])
    if voxels * LABEL_BYTES > free:
        raise InputError(
            f"what is labelled in {options.files[1]} spans {voxels:.3g} voxels, whose labels do "
            f"not fit the free memory ({free / GB:.1f} GB): give a smaller --region."
        )
    whole = source.annotation((coarsest.low, coarsest.high))
    region, note = choose_region(image, box, len(whole.segments) + 1, options.level)
    # On the finest grid the region ends where voxels of its own level end.
    if (region.low, region.high) != (coarsest.low, coarsest.high):
        whole = source.annotation((region.low, region.high))
    return region, whole, note


def _write(
    options: argparse.Namespace,
    image: StoredVolume,
    run: EngineRun,
    region: DenseRegion,
    annotation: Annotation,
    device: str,
) -> int:
    """Write the result and all else that is wanted; returns the exit code."""
    from ..tiles.dense_region import write_dense
    from ..tiles.tile_list import tiles_of

    result = run.result()
    if options.save_model:
        save_model(run.folder, options.save_model)
    if options.metrics:
        write_json(link_target(options.metrics), report(run, annotation))
    version = image.version if isinstance(image, NgffVolume) else "0.5"
    with Progress(options.quiet) as bar:
        outside: Outside | None = None
        chunk = chunk_of(image.shape)
        size = chunk
        bar.phase("measuring intensities")
        if options.everywhere:
            outside, size = _model(options, image, run.folder.model_path, device, bar)
        store = LabelStore.create(options.output, image.geometry, annotation.segments, version)
        try:
            box = None if options.everywhere else (region.low, region.high)
            tiles = tiles_of(image.shape, size, box)
            bar.phase("writing")
            write_dense(store, tiles, region, result, annotation.labels, outside, bar.share)
        except BaseException:
            remove_tree(options.output, ignore_errors=True)
            raise
    say(
        f"{options.output} written after {run.summary['seconds']:.0f} s of training, "
        f"{run.summary['step']} steps; {len(tiles)} tiles, {len(store.levels)} levels."
    )
    for line in lines_of_score(run.folder):
        say(line)
    return DONE


def _model(
    options: argparse.Namespace, image: StoredVolume, path: Path, device: str, bar: Progress
) -> tuple[Outside, tuple[int, int, int]]:
    """The function that predicts a tile by the trained model, and the size of tiles."""
    from ..tiles.model_view import ModelView
    from ..tiles.segment_tile import load_model, predict_tile
    from ..tiles.tile_size import tile_size
    from ..tiles.whole_volume import measure

    model = load_model(path, device)
    if model.n4:
        raise InputError("--everywhere does not work with --n4, which looks at all of a volume.")
    order = tuple(range(len(image.channels)))
    whole = measure(image, model, order, options.replace_nonfinite, bar.share)
    memory = None if options.memory is None else options.memory * GB
    size = tile_size(ModelView(image, model, order), chunk_of(image.shape), memory)
    return lambda tile: predict_tile(image, model, tile, whole), size

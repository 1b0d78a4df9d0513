"""``sparsesegnet densify`` of a volume in OME-Zarr: what is to be done, kept in its run folder."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..annotation.composition import UNLABELLED, check_trainable
from ..annotation.cover import cover_slices
from ..annotation.slices import AnnotatedSlice, check_slices, format_slices, parse_slices
from ..errors import EngineError, InputError
from ..files.label_boxes import LabelBoxes
from ..files.label_region import LabelSource
from ..files.labels import Reading
from ..files.open_stored import open_stored
from ..files.stored_volume import StoredVolume
from ..files.zarr_library import is_zarr, zarr_library
from ..runfolder.exit_codes import DONE
from ..runfolder.file_retries import remove_tree
from ..runfolder.folder import RunFolder, annotated_share
from ..runfolder.options import SHORTEST_BUDGET, Options
from ..units import counted, percent
from .dense_stages import go_on
from .output_folder import check_files
from .progress import say
from .segment_stored import GB, check_output_store, prepare
from .training_options import training_options

if TYPE_CHECKING:
    from ..tiles.dense_region import Choice, DenseRegion
    from ..tiles.drawn_voxels import DrawnVoxels

OTHERS = ("prior", "start_from", "labels", "series", "resample_labels")
RUN = ".run"  # of the run folder beside the output, where none is named
PRIORS_SHARE = 0.5  # of the time budget, where a network is trained on patches after them


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
    path = options.run_folder or options.output.with_name(options.output.name + RUN)
    image = open_stored(options.files[0])
    if options.resume:
        return _resume(options, image, path)
    settings = training_options(
        options, save_model=options.save_model is not None or options.everywhere
    )
    check_output_store(options.output, image, False)
    if path.exists() and options.run_folder is None and any(path.iterdir()):
        raise InputError(
            f"{path} is the run folder of a densify that was interrupted: --resume goes on with "
            "it; or delete it to begin again."
        )
    written = [file for file in (options.metrics, options.save_model) if file]
    check_files(written, options.files, options.run_folder)
    prepare("cpu")
    folder = _begun(options, image, path, settings)
    return go_on(folder, options.quiet)


def _resume(options: argparse.Namespace, image: StoredVolume, path: Path) -> int:
    """Goes on with what the same command has begun."""
    from ..tiles.dense_task import DenseTask

    if check_output_store(options.output, image, True):
        say(f"{options.output} is there already, with all its tiles.")
        return DONE
    folder = RunFolder.open(path)
    task = DenseTask.open(path)
    if task is None:
        raise InputError(
            f"the run {path} is not one of a volume in OME-Zarr, or was interrupted before "
            "anything was learnt: delete it and begin again."
        )
    for name, given, before in (
        ("image", image.path, task.image),
        ("output", options.output, task.output),
    ):
        if str(given.absolute()) != before:
            raise InputError(
                f"the run {path} was begun with another {name} ({before}, now {given.absolute()}): "
                "--resume goes on with the same alone."
            )
    prepare(task.device)
    return go_on(folder, options.quiet, resumed=True)


def _begun(
    options: argparse.Namespace,
    image: StoredVolume,
    path: Path,
    settings: Options,
) -> RunFolder:
    """Makes the run folder, with the task and the drawn voxels."""
    from ..tiles.dense_region import room_for
    from ..tiles.dense_task import DenseTask

    memory = None if options.memory is None else options.memory * GB
    room = room_for(memory)
    choice, boxes = _chosen(options, image, room, settings)
    region = choice.region
    for text in filter(None, [*image.notes, image.missing_note(), *boxes.warnings, choice.note]):
        say(f"note: {text}")
    outside = "the trained model" if options.everywhere else "background (--everywhere: the model)"
    ranges = ",".join(f"{a}:{b}" for a, b in zip(region.low, region.high, strict=True))
    say(f"note: learnt in the region {ranges}; what is outside of it gets {outside}.")
    # Of what is computed here; the engine chooses its own.
    here = options.everywhere or choice.fine is not None
    device = prepare(options.device if here else "cpu")
    seconds = 0.0
    if choice.fine is not None:
        seconds = (1 - PRIORS_SHARE) * settings.time_budget
        shorter = max(SHORTEST_BUDGET, settings.time_budget - seconds)
        settings = replace(settings, time_budget=shorter, priors_alone=True)
    settings = replace(settings, probabilities=region.level > 0)
    item = region.input(image, options.replace_nonfinite)
    made = not path.exists()
    folder = RunFolder.create(
        path, [item], boxes.segments, settings, options.output.name, None, image.path
    )
    try:
        drawn = _drawn(image, region, boxes, path, room)
        labels, slices = _on_level(region, drawn, boxes)
        check_trainable(labels, [s.name for s in boxes.segments])
        folder.write_labels(1, labels, slices)
        say(
            f"{counted(len(slices), 'annotated slice')} (in the region"
            f"{f', on level {region.level}' if region.level else ''}: {format_slices(slices)}), "
            f"{percent(annotated_share(labels))} of its voxels labelled; "
            f"{counted(len(boxes.segments), 'segment')}."
        )
        files = options.save_model, options.metrics
        DenseTask(
            str(image.path.absolute()),
            str(options.output.absolute()),
            region,
            choice.fine,
            seconds,
            options.everywhere,
            options.replace_nonfinite,
            memory,
            room,
            device,
            *(None if file is None else str(file.absolute()) for file in files),
            options.run_folder is not None,
        ).save(path)
    except BaseException as error:
        drawn = None  # its files are mapped
        remove_tree(path, ignore_errors=True)
        if not made:
            path.mkdir(exist_ok=True)
        if not isinstance(error, OSError):
            raise
        raise EngineError(
            "files",
            f"{error.filename or path} cannot be written: {error.strerror or error}.",
            "Choose a folder with enough free space, with --run.",
        ) from error
    return folder


def _chosen(
    options: argparse.Namespace, image: StoredVolume, room: float, settings: Options
) -> tuple[Choice, LabelBoxes]:
    """The region to learn in, and its annotation on the finest grid."""
    from ..tiles.dense_region import around, choose_region, region_of
    from ..tiles.tile_list import parse_region

    slices = parse_slices(options.slices) if options.slices else None
    check_slices(slices or (), image.shape)
    reading = Reading(options.unlabelled, slices, options.background_label)
    source = LabelSource(options.files[1], image.geometry, reading)
    if options.region is not None:
        box = parse_region(options.region, image.shape)
    elif (found := source.drawn_box()) is not None:
        box = around(found, image.shape)
    else:
        raise InputError(
            f"no voxel of {options.files[1]} is labelled: annotate at least one slice (or check "
            "which value means unlabelled)."
        )
    coarsest = region_of(image, box, len(image.levels) - 1)
    boxes = LabelBoxes(source, (coarsest.low, coarsest.high), room)
    if not boxes.segments:
        raise InputError("no voxel is labelled in the region: give a larger --region.")
    # What looks at all of the region, is published, or is far away works on what fits memory.
    patches = settings.network == "auto" and not (
        settings.n4 or settings.largest_component or settings.resample or options.ssh
    )
    choice = choose_region(image, box, len(boxes.segments) + 1, options.level, room, patches)
    # On the finest grid the region ends where voxels of its own level end.
    ends = choice.region.low, choice.region.high
    if ends != (coarsest.low, coarsest.high):
        boxes = LabelBoxes(source, ends, room)
    return choice, boxes


def _drawn(
    image: StoredVolume, region: DenseRegion, boxes: LabelBoxes, path: Path, room: float
) -> DrawnVoxels:
    """Writes the drawn voxels of the region into the run folder."""
    from ..files.chunk_cache import block_of
    from ..tiles.drawn_voxels import Blocks, DrawnVoxels

    blocks = Blocks.of(region.low, region.high, block_of(image, 0, room))

    def read(low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray | None:
        return boxes.read(low, high) if boxes.anything(low, high) else None

    return DrawnVoxels.write(path / "drawn", blocks, read)


def _on_level(
    region: DenseRegion, drawn: DrawnVoxels, boxes: LabelBoxes
) -> tuple[np.ndarray, list[AnnotatedSlice]]:
    """Labels uint8 (k, j, i) and annotated slices on the region's level."""
    from ..engine.data.preprocessing import slices_on
    from ..tiles.drawn_voxels import reduced

    labels = reduced(drawn, region.shape, (0, 0, 0), region.shape)
    if boxes.slices is None:
        return labels, cover_slices(labels != UNLABELLED)
    return labels, slices_on(boxes.slices, drawn.blocks.shape, region.shape)

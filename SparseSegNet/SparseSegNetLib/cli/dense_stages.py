"""The stages of a ``densify`` of a stored volume: the engine, a network on patches, the tiles.

Each is done once: what was interrupted goes on where it was, from the run folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..annotation.geometry import triple
from ..client.engine_run import ENDING, EngineRun
from ..errors import EngineError, InputError
from ..files.labels import Annotation
from ..files.ngff_labels import chunk_of
from ..files.open_stored import open_stored
from ..files.stored_volume import StoredVolume
from ..files.writing import link_target
from ..runfolder.atomic import write_json
from ..runfolder.checkpoints import STORED
from ..runfolder.exit_codes import CANCELLED, DONE
from ..runfolder.file_retries import remove, remove_tree
from ..runfolder.folder import RunFolder
from ..runfolder.lock import FolderLock
from ..runfolder.prior_outputs import has_probabilities, read_probabilities
from .progress import follow, say, say_cancelled
from .scores import lines_of_score, report
from .segment_stored import Progress
from .train import save_model

if TYPE_CHECKING:
    from ..tiles.dense_task import DenseTask
    from ..tiles.dense_writing import Outside
    from ..tiles.drawn_voxels import DrawnVoxels
    from ..tiles.region_labels import RegionLabels


def go_on(folder: RunFolder, quiet: bool, resumed: bool = False) -> int:
    """Does what is left of the task in a run folder.

    Args:
        folder: The run folder.
        quiet: Show no progress bar.
        resumed: Whether an engine may have worked on it before.

    Returns:
        The exit code.

    Raises:
        InputError: The image cannot be read, or something in the run folder is damaged.
        EngineError: As the engine's, or 'locked', 'disk-full' or 'files'. The run folder stays.
    """
    from ..tiles.dense_task import DenseTask
    from ..tiles.drawn_voxels import DrawnVoxels

    task = DenseTask.open(folder.path)
    assert task is not None
    image = open_stored(task.image)
    task.check(image, folder.path)
    if resumed and task.learnt is None:
        for file in filter(None, (task.save_model, task.metrics)):
            if os.path.lexists(file):  # a run folder may be somebody else's
                raise InputError(
                    f"{file}, which the run {folder.path} names as its output, exists: move it "
                    "away."
                )
    if task.learnt is None and not _learn(folder, task, quiet, resumed):
        say_cancelled(folder.path if task.keep else None)
        if not task.keep:
            remove_tree(folder.path, ignore_errors=True)
        return CANCELLED
    with Progress(quiet) as bar, FolderLock(folder.path):
        try:
            drawn = DrawnVoxels(folder.path / "drawn")
            low, high = task.region.low, task.region.high
            size = triple(b - a for a, b in zip(low, high, strict=True))
            drawn.check(size, len(folder.segments))
            tiles, levels = _write(folder, task, image, drawn, bar)
        except KeyboardInterrupt:  # and Terminated
            bar.close()
            say(f"cancelled. {_kept(folder.path)}")
            return CANCELLED
        except InputError as error:
            raise InputError(f"{error} {_kept(folder.path)}") from error
        except (EngineError, OSError) as error:
            raise _with_rest(error, folder.path) from error
    assert task.learnt is not None
    say(
        f"{task.output} written after {task.learnt.seconds:.0f} s of training, "
        f"{task.learnt.steps} steps; {tiles} tiles, {levels} levels."
    )
    lines = lines_of_score(folder)
    if lines and task.fine is not None:
        say(f"before the network, on level {task.region.level}:")
    for line in lines:
        say(line)
    if task.keep and not folder.options.scan_names:
        remove(folder.path / STORED)  # it names files, and nothing is left to be done
    if not task.keep:
        del drawn  # its files are mapped, and Windows removes none that is
        remove_tree(folder.path, ignore_errors=True)
    return DONE


def _kept(run: Path) -> str:
    return (
        f"What was learnt and written is kept: the same command with --resume, or 'sparsesegnet "
        f'resume "{run}"\', goes on.'
    )


def _with_rest(error: EngineError | OSError, run: Path) -> EngineError:
    """The error that also says where the rest is."""
    from ..tiles.segment_tile import KEPT, unwritten

    if isinstance(error, OSError):
        error = unwritten(error, run)
    remedy = error.remedy.removesuffix(KEPT).strip()
    return EngineError(error.code, error.cause, f"{remedy} {_kept(run)}".strip())


def _learn(folder: RunFolder, task: DenseTask, quiet: bool, resumed: bool) -> bool:
    """Has the engine learn in the region; False if it was cancelled."""
    from ..tiles.dense_task import Learnt

    run = EngineRun(folder, patience=ENDING) if resumed else EngineRun(folder)
    try:
        if follow(run, quiet=quiet) == "cancelled":
            return False
        run.result()  # or the error
    except EngineError as error:
        if error.code == "no-python" and not task.keep:  # nothing was begun
            remove_tree(folder.path, ignore_errors=True)
        raise
    if task.save_model:
        save_model(folder, Path(task.save_model))
    if task.metrics:
        labels, slices = folder.read_labels(), folder.read_slices()
        annotation = Annotation(labels, folder.segments, slices)
        write_json(link_target(Path(task.metrics)), report(run, annotation))
    task.learnt = Learnt(run.summary["seconds"], run.summary["step"])
    task.save(folder.path)
    return True


def _write(
    folder: RunFolder, task: DenseTask, image: StoredVolume, drawn: DrawnVoxels, bar: Progress
) -> tuple[int, int]:
    """Trains on patches where that is wanted, and writes the tiles; returns tiles and levels."""
    from ..tiles.dense_writing import begin_writing

    inside = _inside(folder, task, image, drawn, bar)
    outside, size = _outside(folder, task, image, bar)
    if outside is None:
        size = inside.tile(triple(chunk_of(image.shape)), task.room)
    work = begin_writing(
        Path(task.output),
        image,
        folder.segments,
        size,
        (task.region.low, task.region.high),
        inside,
        drawn,
        outside,
        folder.path,
    )
    bar.tiles(len(work.tiles), len(work.tiles) - len(work.waiting))
    for tile in work.waiting:
        work.write(tile)
        bar.finished()
    bar.phase("coarser levels")
    work.complete(bar.share)
    return len(work.tiles), len(work.store.levels)


def _inside(
    folder: RunFolder, task: DenseTask, image: StoredVolume, drawn: DrawnVoxels, bar: Progress
) -> RegionLabels:
    """Sources of the region's labels; trains the network of a finer level."""
    from ..tiles.fine_region import FineRegion
    from ..tiles.region_labels import RegionLabels

    shape, classes = drawn.blocks.shape, len(folder.segments) + 1
    if not has_probabilities(folder.path):
        return RegionLabels(shape, folder.read_result())
    probabilities = read_probabilities(folder.path, classes)
    if task.fine is None:
        return RegionLabels(shape, None, probabilities)
    fine = FineRegion(image, task, folder.path, drawn, classes, task.room)
    network = fine.network()
    if network is None:
        assert task.learnt is not None
        # What the priors did not need of their share is the network's.
        spare = max(0.0, folder.options.time_budget - task.learnt.seconds)
        slices = len(folder.read_slices())
        training = fine.training(folder.options, slices, task.seconds + spare)
        if training is None:
            bar.tell(
                f"note: no network was trained on level {task.fine}: the annotation cannot be "
                "divided into two parts that both show a segment."
            )
            return RegionLabels(shape, None, probabilities)
        bar.phase(f"training on level {task.fine}")
        network = fine.train(training, bar.share)
        task.learnt.seconds += training.taken()
        task.learnt.steps = training.trainer.steps
        task.save(folder.path)
        bar.tell(
            f"note: {training.trainer.steps} steps on level {task.fine}; "
            f"{100 * fine.cache.hit_rate:.1f} % of the chunks that patches needed were in memory, "
            f"{fine.cache.read_in} were read."
        )
    return RegionLabels(shape, None, probabilities, fine.volume, network)


def _outside(
    folder: RunFolder, task: DenseTask, image: StoredVolume, bar: Progress
) -> tuple[Outside | None, tuple[int, int, int]]:
    """The function that predicts a tile by the trained model, if it is wanted; size of tiles."""
    chunk = chunk_of(image.shape)
    if not task.everywhere:
        return None, triple(chunk)
    from ..tiles.model_view import ModelView
    from ..tiles.segment_tile import load_model, predict_tile
    from ..tiles.tile_size import tile_size
    from ..tiles.whole_volume import measure

    bar.phase("measuring intensities")
    model = load_model(folder.model_path, task.device)
    if model.n4:
        raise InputError("--everywhere does not work with --n4, which looks at all of a volume.")
    order = tuple(range(len(image.channels)))
    whole = measure(image, model, order, task.replace_nonfinite, bar.share)
    size = tile_size(ModelView(image, model, order), chunk, task.memory)
    return lambda tile: predict_tile(image, model, tile, whole), size

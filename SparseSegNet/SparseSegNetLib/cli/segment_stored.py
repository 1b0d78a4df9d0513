"""``sparsesegnet segment`` of a volume in OME-Zarr, tile by tile."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..errors import EngineError, InputError
from ..files.open_stored import open_stored
from ..files.stored_volume import StoredVolume
from ..files.writing import check_writable
from ..files.zarr_library import is_zarr, zarr_library
from ..runfolder.exit_codes import CANCELLED, DONE, SOME_FAILED
from ..units import clock
from .outcomes import table
from .progress import say

if TYPE_CHECKING:
    from ..tiles.segmenting import Segmenting
    from .cluster.segment_tiles import TileWorkers

GB = 1e9


def segment_stored(options: argparse.Namespace) -> int:
    """Runs the command with its parsed options; returns the exit code."""
    if len(options.images) != 1:
        raise InputError(
            "an OME-Zarr is segmented alone: give one image, whose channels lie along its axis c."
        )
    if not is_zarr(options.output):
        raise InputError(
            f"the output {options.output} of an OME-Zarr is one, too: name it "
            f"{Path(options.output).stem}.ome.zarr."
        )
    for name in ("uncertainty", "largest_component", "format", "series", "ssh"):
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} does not work on an OME-Zarr, which is segmented tile "
                "by tile: leave it out."
            )
    zarr_library()
    if options.dask is not None:  # workers have another current folder
        options.model, options.output = options.model.absolute(), options.output.absolute()
        options.images = [Path(path).absolute() for path in options.images]
    image = open_stored(options.images[0])
    # On a cluster each worker chooses its own, and the volume is measured here.
    device = prepare(options.device if options.dask is None else "cpu")
    if check_output_store(options.output, image, options.resume):
        say(f"{options.output} is there already, with all its tiles.")
        return DONE
    with Progress(options.quiet) as bar:
        try:
            return _segment(options, image, device, bar)
        except KeyboardInterrupt:  # and Terminated
            bar.close()
            say(bar.cancelled(options.output))
            return CANCELLED


def _segment(options: argparse.Namespace, image: StoredVolume, device: str, bar: Progress) -> int:
    from ..tiles.segmenting import begin
    from ..tiles.tile_list import parse_region

    region = None if options.region is None else parse_region(options.region, image.shape)
    with _workers(options, bar) as workers:
        memory = None if workers is None else workers.memory()
        bar.phase("measuring intensities")
        work = begin(
            options.model,
            image,
            options.output,
            device=device,
            region=region,
            memory=memory if options.memory is None else options.memory * GB,
            accept=tuple(options.accept),
            replace_nonfinite=options.replace_nonfinite,
            resume=options.resume,
            tell=lambda text: bar.tell(f"note: {text}"),
            step=bar.share,
        )
        if workers is None:
            compute_tiles(work, bar)
        elif failed := workers.compute(work, bar):
            bar.close()
            print(table(failed, "tile"))
            say(
                f"{len(failed)} of {len(work.tiles)} tiles failed. The others stay in "
                f"{options.output}; once the cause is removed, the same command with --resume "
                "computes these alone."
            )
            return SOME_FAILED
    complete(work, bar)
    say(f"{options.output} written: {len(work.tiles)} tiles, {len(work.store.levels)} levels.")
    return DONE


@contextmanager
def _workers(options: argparse.Namespace, bar: Progress) -> Iterator[TileWorkers | None]:
    """Context manager for the workers of --dask; None without it."""
    if options.dask is None:
        yield None
        return
    from .cluster.segment_tiles import tile_workers

    bar.phase("checking workers")
    where = options.dask, options.model, options.output, options.device
    with tile_workers(*where, bar) as workers:
        yield workers


def compute_tiles(work: Segmenting, bar: Progress) -> None:
    """Computes the tiles that are not done, one after the other."""
    bar.tiles(len(work.tiles), len(work.tiles) - len(work.waiting))
    for tile in work.waiting:
        work.compute(tile, bar.share)
        bar.finished()


def complete(work: Segmenting, bar: Progress) -> None:
    """Makes the coarser levels."""
    bar.phase("coarser levels")
    work.complete(bar.share)


def prepare(device: str) -> str:
    """Loads torch and chooses the device; returns its name.

    Raises:
        EngineError: 'torch', 'library-missing' or 'no-device'.
    """
    from ..engine.worker import prepare_environment

    prepare_environment()
    try:
        from ..engine.compute.device import prepare_threads
        from ..engine.trial.choice import choose_devices
    except (ImportError, OSError) as error:
        raise EngineError(
            "torch",
            f"torch cannot be loaded ({error}).",
            "A volume in OME-Zarr is segmented in this process: pip install torch safetensors.",
        ) from error
    prepare_threads()
    chosen = choose_devices(device, apart=False)
    for note in chosen.notes:
        say(f"note: {note}")
    return str(chosen.network)


def check_output_store(output: Path, image: StoredVolume, resume: bool) -> bool:
    """Checks that a store can be written; tells whether it is there with all its tiles.

    Raises:
        InputError: It exists and is not to be gone on with, or its folder cannot be written.
    """
    from ..tiles.done_file import beside

    there, begun = output.exists(), beside(output).is_file()
    inside = image.path.absolute()
    if output.absolute() in (inside, *inside.parents) or inside in output.absolute().parents:
        raise InputError(f"the output {output} would lie in the image {image.path}: name another.")
    check_writable(beside(output))
    if not resume and (there or begun):
        raise InputError(
            f"the output {output} exists already"
            + (", with some of its tiles: --resume computes the others" if begun else "")
            + "; name another, or delete it."
        )
    return resume and there and not begun


class Progress:
    """Progress bar over tiles, with the time that is left."""

    def __init__(self, quiet: bool):
        self._count, self._done, self._before, self._phase = 0, 0, 0, ""
        self._begun = time.monotonic()
        self._bar = tqdm(
            total=1.0,
            disable=quiet,
            file=sys.stderr,
            leave=False,
            bar_format="{desc} |{bar}|{postfix}",
        )
        self.close: Callable[[], None] = self._bar.close

    def __enter__(self) -> Progress:
        """Begins."""
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the bar."""
        self.close()

    def tell(self, text: str) -> None:
        """Prints a line for the user."""
        self._bar.write(text, file=sys.stderr)

    def phase(self, name: str) -> None:
        """Something else than tiles begins."""
        self._phase = name
        self.share(0.0)

    def tiles(self, count: int, done: int) -> None:
        """The tiles begin, some of which are done."""
        self._count, self._done, self._before, self._phase = count, done, done, ""
        self._begun = time.monotonic()
        self.share(0.0)

    def finished(self) -> None:
        """A tile is done."""
        self._done += 1
        self.share(0.0)

    def share(self, part: float) -> None:
        """Shows the share of the tile, or of the phase, that is done."""
        if self._phase:
            self._bar.n = min(1.0, part)
            self._bar.set_description_str(self._phase, refresh=False)
            self._bar.set_postfix_str("")
            return
        done = min(self._done + part, self._count)
        self._bar.n = done / max(1, self._count)
        left = ""
        if done > self._before:
            seconds = (time.monotonic() - self._begun) / (done - self._before)
            left = f"{clock(seconds * (self._count - done))} left"
        number = min(self._done + 1, self._count)
        self._bar.set_description_str(f"tile {number}/{self._count}", refresh=False)
        self._bar.set_postfix_str(left)

    def cancelled(self, output: Path) -> str:
        """The message after Ctrl-C."""
        if not self._count:
            return "cancelled; nothing was written."
        return (
            f"cancelled: {self._done} of {self._count} tiles are done and stay in {output}; the "
            "same command with --resume goes on with the others."
        )

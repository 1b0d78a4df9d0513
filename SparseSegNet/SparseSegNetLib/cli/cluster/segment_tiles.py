"""``sparsesegnet segment --dask`` of an OME-Zarr: each tile is a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..outcomes import Outcome
from .connection import connected
from .task_queue import Task, TaskQueue
from .worker_check import checks

if TYPE_CHECKING:
    from ...tiles.segmenting import Segmenting
    from ..segment_stored import Progress


class TileWorkers:
    """Workers of a cluster, which were checked, for the tiles of a volume.

    Args:
        queue: Hands out the tiles.
        device: That tiles are computed on, as the command's option.
    """

    def __init__(self, queue: TaskQueue, device: str):
        self._queue, self._device = queue, device

    def memory(self) -> float:
        """Bytes that a tile may take: those of one computer are computed at once."""
        from ...tiles.tile_size import MOST, SHARE

        workers = self._queue.workers.values()
        sharing = Counter(one["host"] for one in workers)
        least = min(one["memory"] / sharing[one["host"]] for one in workers)
        return min(MOST, SHARE * least)

    def compute(self, work: Segmenting, bar: Progress) -> list[Outcome]:
        """Computes the tiles that are not done.

        Args:
            work: What is to be done.
            bar: Shows the progress.

        Returns:
            The tiles that failed.

        Raises:
            EngineError: 'workers-lost', 'disk-full' or 'files'.
            KeyboardInterrupt: The user has cancelled; the tiles that are done are noted.
        """
        failed = []
        tiles = {f"tile {tile.number}": tile for tile in work.waiting}
        waiting = [
            Task(name, "tile", (self._device, work.model, work.image, tile, work.store, work.whole))
            for name, tile in tiles.items()
        ]
        bar.tiles(len(work.tiles), len(work.tiles) - len(waiting))
        with closing(self._queue.ended(waiting)) as ended:
            for one in ended:
                tile = tiles[one.task.name]
                if one.answer is not None:
                    work.finished(tile)
                    for note in one.answer["notes"]:
                        work.tell(f"{one.task.name}: {note}")
                else:
                    box = ",".join(f"{a}:{b}" for a, b in zip(tile.low, tile.high, strict=True))
                    name = f"{one.task.name} ({box})"
                    failed.append(Outcome(name, f"failed {one.cause}", one.seconds, None, True))
                    bar.tell(f"{name} failed {one.cause}")
                bar.finished()
        return failed


@contextmanager
def tile_workers(
    where: str, model: Path, output: Path, device: str, bar: Progress
) -> Iterator[TileWorkers]:
    """Context manager for the workers of a cluster.

    Args:
        where: See `connected`.
        model: The model file.
        output: The store that will be written.
        device: That tiles are computed on, as the command's option.
        bar: Tells the user.

    Raises:
        InputError: There is no such cluster, or a worker lacks something.
        EngineError: 'workers-lost'.
    """
    with connected(where) as cluster, checks(model, output.parent, device) as check:
        queue = TaskQueue(cluster, check, bar.tell)
        queue.check_workers()
        yield TileWorkers(queue, device)

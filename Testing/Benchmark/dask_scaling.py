"""`make benchmark-dask`: images and tiles by one and two workers of a Dask cluster.

Each worker is a process with one thread on this computer; OMP_NUM_THREADS=1, which make sets, gives
this process one, too. Where other programs compute on its
cores, seconds of the wall clock say little: seconds of the processor are counted in this process,
in the workers, and in the processes that either starts. What runs in this process (measuring a
volume, coarser levels, handing out) is done once whatever the number of workers, so that

    seconds on cores of their own = processor here + processor of the workers / their number

which is arithmetic, not a measurement. Turns go through all rows; the table shows medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import distributed
import numpy as np

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.cli.cluster.connection import SETUP
from SparseSegNetLib.cli.main import main as command
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.files.writing import write_image
from zarr_volumes import make_store, phantom, train_model

TILE = 64  # voxels along each axis: half of what is usual, so that a volume is done in a minute
DIRECTIONS = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def processor() -> float:
    """Seconds of the processor of this process, and of those it started that have ended."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def load_torch() -> None:
    """Loads what is loaded with the first tile."""
    import SparseSegNetLib.tiles.segment_tile  # noqa: F401


def of_workers(client: distributed.Client) -> float:
    """`processor` of all workers together."""
    return sum(client.run(processor).values())


def segmented(words: list[str], output: Path, client: distributed.Client | None) -> list[float]:
    """Runs `segment`: seconds of the clock, of the processor here, of the workers' processors."""
    if client is not None:
        words = [*words, "--dask", client.scheduler.address]
    begun = time.monotonic(), processor(), 0.0 if client is None else of_workers(client)
    code = command(["segment", *words, "-o", str(output), "--device", "cpu", "--quiet"])
    ended = time.monotonic(), processor(), 0.0 if client is None else of_workers(client)
    if code:
        raise SystemExit(code)
    for path in output.parent.glob(f"{output.name}*"):
        shutil.rmtree(path)
    return [after - before for before, after in zip(begun, ended, strict=True)]


def report(name: str, rows: dict[int, list[list[float]]]) -> None:
    """Prints the rows of a kind of task, by the number of workers; 0 is `segment` without Dask."""
    alone = 0.0
    for workers, turns in rows.items():
        clock, here, there = (statistics.median(column) for column in zip(*turns, strict=True))
        own = here + there / max(1, workers)
        alone = alone or own
        label = {0: "without Dask", 1: "1 worker"}.get(workers, f"{workers} workers")
        print(
            f"| {name}, {label} | {clock:.1f} | {here:.1f} | {there:.1f} | {here + there:.1f} "
            f"| {own:.1f} | {alone / own:.2f} |",
            flush=True,
        )


def main() -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, metavar="N")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--images", type=int, default=6, metavar="N", help="0 for none")
    parser.add_argument("--edge", type=int, default=128, metavar="VOXELS", help="of the volume")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = train_model(folder, 20)
        (folder / "scans").mkdir()
        for number in range(options.images):
            geometry = Geometry((96,) * 3, (1e-3,) * 3, (0.0, 0.0, 0.0), DIRECTIONS)
            image = phantom((96,) * 3, number)[0].astype(np.int16)
            write_image(folder / "scans" / f"{number}.nrrd", image, geometry)
        store = folder / "volume.ome.zarr"
        make_store(store, options.edge, options.edge)
        ngff_labels.CHUNK = TILE
        kinds = {
            f"{options.images} images of 96³": ([str(model), str(folder / "scans")], "out"),
            f"{(options.edge // TILE) ** 3} tiles of {TILE}³": (
                [str(model), str(store), "--memory", "0"],
                "out.ome.zarr",
            ),
        }
        load_torch()
        clients: dict[int, distributed.Client | None] = {0: None}
        for count in options.workers:
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                preload=[SETUP],
            )
            address = stack.enter_context(cluster).scheduler_address
            client = distributed.Client(address, set_as_default=False)
            clients[count] = stack.enter_context(client)
            client.run(load_torch)
        print("| | clock, s | here | workers | together | on cores of their own | as fast |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name, (words, output) in list(kinds.items())[not options.images :]:
            rows: dict[int, list[list[float]]] = {count: [] for count in clients}
            for _ in range(options.turns):
                for count, client in clients.items():
                    rows[count].append(segmented(words, folder / output, client))
            report(name, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

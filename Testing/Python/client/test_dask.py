"""`sparsesegnet segment --dask`: the same results from the workers of a cluster."""

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")
pytest.importorskip("torch")
pytest.importorskip("zarr")

import zarr
from engine_stand_in import StandIn
from model_files import write_model
from phantom import nested
from small_models import SHAPE, geometry_of, small_model
from zarr_stores import write_store

from SparseSegNetLib.cli import main as cli
from SparseSegNetLib.cli import segment_image
from SparseSegNetLib.cli.cluster import connection, task_queue, tasks
from SparseSegNetLib.client.processes import engine_environment
from SparseSegNetLib.errors import EngineError
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.files.writing import write_image
from SparseSegNetLib.tiles import segment_tile
from SparseSegNetLib.tiles.done_file import DoneFile

# Loaded by each worker process: the first one that has a tile to write ends in the middle of it.
ENDS = """
import os
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.tiles import segment_tile

ngff_labels.CHUNK = 16
write = getattr(segment_tile.write_tile, "write", segment_tile.write_tile)

def ending(store, tile, labels):
    try:
        os.close(os.open({flag!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return write(store, tile, labels)
    write(store, tile, labels[:, :1])
    os._exit(9)

ending.write = write  # Dask may load this twice
segment_tile.write_tile = ending
"""


def threads_as_workers(count=2):
    """A cluster whose workers are threads of this process."""
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        protocol="inproc://",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    )


@pytest.fixture(scope="module")
def two_threads():
    """Address of a scheduler with two workers that are threads of this process."""
    with threads_as_workers() as cluster:
        yield cluster.scheduler_address


def computing(dask_worker):
    """Tasks that a worker still computes, also those that nobody waits for any more."""
    return dask_worker.state.executing_count


@pytest.fixture
def own_threads(two_threads):
    """The same; what a test left to these workers has ended before the next one begins."""
    yield two_threads
    with distributed.Client(two_threads) as client:
        while any(client.run(computing).values()):
            time.sleep(0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a model and the images a, b and c in a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(segment_image, "EngineRun", StandIn)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "faults", {})
    monkeypatch.setattr(task_queue, "POLL", 0.05)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # workers set it, and these are this process
    write_model(tmp_path / "m.safetensors")
    (tmp_path / "scans").mkdir()
    for seed, name in enumerate("abc"):
        image = np.random.default_rng(seed).integers(0, 160, (6, 8, 10), np.int16)
        write_image(
            tmp_path / "scans" / f"{name}.nrrd", image, geometry_of((6, 8, 10), (1.0, 1.0, 2.0))
        )
    return tmp_path


def run(*arguments):
    try:
        return cli.main(["segment", *map(str, arguments), "--quiet"])
    except SystemExit as end:
        return end.code


def scans(*arguments):
    return run("m.safetensors", "scans", "-o", "out", *arguments)


def names(path):
    return sorted(p.name for p in path.iterdir())


class TestScans:
    def test_as_without_dask(self, folder, own_threads, capsys):
        assert scans("--uncertainty") == 0
        there = {p.name: p.read_bytes() for p in (folder / "out").iterdir()}
        (folder / "out").rename(folder / "before")
        assert scans("--uncertainty", "--dask", own_threads) == 0
        assert {p.name: p.read_bytes() for p in (folder / "out").iterdir()} == there
        assert capsys.readouterr().out.count("written") == 6

    def test_one_that_fails_is_tried_by_both_workers(
        self, folder, own_threads, capsys, monkeypatch
    ):
        StandIn.faults["b"] = EngineError("crashed", "the engine crashed.", "resume it")
        segmented, tried = segment_image.segment_image, []

        def noted(job, *rest):
            tried.append((job.name, distributed.get_worker().address))
            return segmented(job, *rest)

        monkeypatch.setattr(segment_image, "segment_image", noted)
        assert scans("--dask", own_threads) == 1
        assert names(folder / "out") == ["a.seg.nrrd", "c.seg.nrrd"]
        out, err = capsys.readouterr()
        (row,) = (line for line in out.splitlines() if line.startswith("b "))
        assert "failed on inproc://" in row and "the engine crashed." in row
        assert "1 of 3 images failed" in err and "--resume" in err
        assert len(tried) == 4 and len({where for name, where in tried if name == "b"}) == 2
        StandIn.faults.clear()
        StandIn.made.clear()
        assert scans("--dask", own_threads, "--resume") == 0
        assert [made.inputs[0].name for made in StandIn.made] == ["b"]
        assert capsys.readouterr().out.count("there already") == 2

    def test_a_worker_that_is_gone_for_good(self, folder, capsys, monkeypatch):
        segmented, gone = segment_image.segment_image, []

        def closing(job, *rest):
            worker = distributed.get_worker()
            if not gone:
                gone.append(worker.address)
                closed = worker.close(executor_wait=False, nanny=False)
                asyncio.run_coroutine_threadsafe(closed, worker.loop.asyncio_loop).result()
            assert worker.address not in gone, "nobody hears of this any more"
            return segmented(job, *rest)

        monkeypatch.setattr(segment_image, "segment_image", closing)
        with threads_as_workers() as cluster:
            assert scans("--dask", cluster.scheduler_address) == 0
        assert names(folder / "out") == ["a.seg.nrrd", "b.seg.nrrd", "c.seg.nrrd"]
        assert len(gone) == 1 and capsys.readouterr().out.count("written") == 3

    def test_ctrl_c_cancels_what_runs_and_leaves_the_scheduler(
        self, folder, own_threads, capsys, monkeypatch
    ):
        done = task_queue.TaskQueue.ended

        def interrupted(*arguments):
            for one in done(*arguments):
                yield one
                raise KeyboardInterrupt

        monkeypatch.setattr(task_queue.TaskQueue, "ended", interrupted)
        assert scans("--dask", own_threads) == 3
        out, err = capsys.readouterr()
        assert out.count("written") == 1 and "2 of 3 images have no result" in err
        monkeypatch.undo()
        with distributed.Client(own_threads, set_as_default=False) as client:
            assert len(client.nthreads()) == 2
            assert not client.run_on_scheduler(lambda dask_scheduler: dict(dask_scheduler.tasks))

    def test_what_a_worker_lacks(self, folder, own_threads, capsys, monkeypatch):
        monkeypatch.setattr(tasks, "__version__", "0.0.7")
        assert scans("--dask", own_threads) == 2
        err = capsys.readouterr().err
        assert "the worker inproc://" in err and "(and another) has SparseSegNet 0.0.7" in err
        assert StandIn.made == [] and not (folder / "out").exists()

    def test_a_worker_that_sees_another_file(self, folder, own_threads, capsys, monkeypatch):
        monkeypatch.setattr("SparseSegNetLib.cli.cluster.worker_check.digest", lambda path: "0")
        assert scans("--dask", own_threads) == 2
        assert "has another file as the model" in capsys.readouterr().err

    def test_no_workers(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(task_queue, "PATIENCE", 0.0)
        with threads_as_workers(0) as cluster:
            assert scans("--dask", cluster.scheduler_address) == 3
        assert "has no workers" in capsys.readouterr().err and not (folder / "out").exists()

    def test_ssh_and_dask(self, folder, capsys):
        assert scans("--dask", "local", "--ssh", "ssh nobody@nowhere") == 2
        assert "give one of them" in capsys.readouterr().err

    def test_nothing_answers(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(connection, "PATIENCE", 0.2)
        for where in ("tcp://127.0.0.1:9", "nonsense://x", "local:0"):
            assert scans("--dask", where) == 2
            err = capsys.readouterr().err
            assert f"--dask {where}: " in err and "Traceback" not in err
        assert not (folder / "out").exists()


def test_the_scheduler_loads_nothing_large():
    code = (
        "import sys; import SparseSegNetLib.cli.cluster.tasks; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'SimpleITK', 'tqdm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=engine_environment()).returncode == 0


class TestTiles:
    @pytest.fixture
    def volume(self, tmp_path, monkeypatch):
        """A small volume for tiles of 16 voxels, segmented without Dask; gives its labels."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(ngff_labels, "CHUNK", 16)
        monkeypatch.setattr(task_queue, "POLL", 0.05)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        small_model(shallow=False).save(tmp_path / "m.safetensors")
        write_store(tmp_path / "a.ome.zarr", nested((20, 26, 34), 3)[0])
        assert self.segment("here.ome.zarr", "--memory", "0") == 0
        return self.labels("here.ome.zarr")

    def segment(self, output, *arguments):
        model = "m.safetensors"
        return run(model, "a.ome.zarr", "-o", output, "--device", "cpu", *arguments)

    def labels(self, output):
        return zarr.open_group(output)["labels/segmentation/0"][:]

    def test_a_worker_that_ends_in_the_middle_of_a_tile(self, volume, tmp_path):
        preload = ENDS.format(flag=str(tmp_path / "ended"))
        with distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            preload=[connection.SETUP, preload],
            silence_logs=50,
        ) as cluster:
            where = cluster.scheduler_address
            assert self.segment("out.ome.zarr", "--memory", "0", "--dask", where) == 0
        assert (tmp_path / "ended").exists() and len(np.unique(volume)) > 1
        assert (self.labels("out.ome.zarr") == volume).all()
        assert not (tmp_path / "out.ome.zarr.tiles").exists()

    def test_a_tile_that_fails_is_named_and_can_be_resumed(
        self, volume, own_threads, tmp_path, capsys, monkeypatch
    ):
        write, tried = segment_tile.write_tile, []

        def failing(store, tile, labels):
            tried.append(tile.number)
            if tile.number == 5:
                raise EngineError("files", "the chunk cannot be written.")
            write(store, tile, labels)

        monkeypatch.setattr(segment_tile, "write_tile", failing)
        arguments = "out.ome.zarr", "--memory", "0", "--dask", own_threads
        assert self.segment(*arguments) == 1
        out, err = capsys.readouterr()
        assert "tile 5 (0:16,16:26,32:34)" in out and "the chunk cannot be written." in out
        assert "1 of 12 tiles failed" in err
        assert sorted(tried) == sorted([*range(12), 5])
        assert len(DoneFile.open(tmp_path / "out.ome.zarr").done) == 11
        monkeypatch.setattr(segment_tile, "write_tile", write)
        assert self.segment(*arguments, "--resume") == 0
        assert (self.labels("out.ome.zarr") == volume).all()


def test_images_by_workers_of_this_computer(tmp_path, monkeypatch, capsys):
    """The engine itself, in a process that the worker's process starts."""
    monkeypatch.chdir(tmp_path)
    small_model(shallow=False).save(tmp_path / "m.safetensors")
    (tmp_path / "scans").mkdir()
    write_image(tmp_path / "scans" / "a.nrrd", nested(SHAPE, 3)[0], geometry_of(SHAPE))
    whole = (tmp_path / "scans" / "a.nrrd").read_bytes()
    (tmp_path / "scans" / "b.nrrd").write_bytes(whole[:-40])
    assert scans("--device", "cpu", "--dask", "local:1") == 1
    assert names(tmp_path / "out") == ["a.seg.nrrd"]
    out = capsys.readouterr().out
    assert "is cut off" in out and "failed on tls://127.0.0.1" in out
    (tmp_path / "out").rename(tmp_path / "there")
    assert run("m.safetensors", "scans/a.nrrd", "-o", "here", "--device", "cpu") == 0
    found = [(tmp_path / name / "a.seg.nrrd").read_bytes() for name in ("there", "here")]
    assert found[0] == found[1]

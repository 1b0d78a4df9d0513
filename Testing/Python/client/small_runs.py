"""A small annotated volume as a run folder, and helpers to follow its engine."""

import os
import signal
import time

import numpy as np
from phantom import nested

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (24, 28, 30)
SEGMENTS = [Segment("a", "Shell", (1, 0, 0), 1), Segment("b", "Core", (0, 1, 0), 2)]


def run_folder(path, counts=(2, 2, 1), shape=SHAPE, noise=0, **options):
    """A run folder that is ready to be learnt, and the dense truth. noise: more of it."""
    image, truth = nested(shape)
    image = image + np.random.default_rng(0).normal(0, noise, shape) if noise else image
    slices = spread_slices(counts, shape, truth > 0)
    grid = Geometry(tuple(reversed(shape)), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    item = RunInput(image[None], restrict_to_slices(truth, slices), grid, slices)
    options = {"device": "cpu", "time_budget": 15.0, **options}
    return RunFolder.create(path, [item], SEGMENTS, Options(**options)), truth


def with_slice(folder, truth, axis, index):
    """The folder's labels with one more annotated slice, and all slices."""
    item, labels = AnnotatedSlice(axis, index), folder.read_labels()
    labels[item.selector()] = truth[item.selector()]
    return labels, [*folder.read_slices(), item]


def until(run, arrived, timeout=60.0):
    """Follow a run until `arrived()` holds, it ends or the time is over; whether it came."""
    end = time.monotonic() + timeout
    while not arrived() and not run.ended and time.monotonic() < end:
        run.poll()
        time.sleep(0.02)
    return arrived()


def watched(folder, transport=None):
    """A run and the list that its events go to."""
    run, events = EngineRun(folder, transport), []
    run.observe(events.append)
    return run, events


def named(events, name):
    return [e for e in events if e["event"] == name]


def training(run):
    return run.state == "training" and run.progress.get("step", 0) > 0


def kill(pid):
    """What the system does when memory runs out (kill -9)."""
    if os.name == "nt":
        os.kill(pid, signal.SIGTERM)  # TerminateProcess
    else:
        os.kill(pid, signal.SIGKILL)

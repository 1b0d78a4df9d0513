"""`make benchmark-faults`: a volume of 1 GB, and 60 and 200 segments.

Each case runs in a child process with a time and a peak of resident memory per part:

- large: a volume of 512 x 512 x 4096 voxels in the scene; slices are drawn, a run folder is made,
  a stand-in for the engine (thresholds) makes a result, the result is loaded.
- segments: blocks of different brightness, one segment each, drawn in some slices; the engine as it
  is trains and predicts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "Python"
PLANE = (512, 512)
CELLS = (48, 96, 96)


def peak() -> float:
    """Most resident memory of this process so far, GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@contextmanager
def part(name: str, rows: list[dict]) -> Iterator[None]:
    """Notes the seconds of a part and the peak of memory after it."""
    begun = time.monotonic()
    yield
    rows.append({"part": name, "seconds": time.monotonic() - begun, "peak": peak()})


def large(planes: int) -> list[dict]:
    """A volume of so many planes, through the scene."""
    import slicer
    from mrml_scene import sceneWithLogics

    scene, slicer.modules, _application = sceneWithLogics()
    slicer.mrmlScene = scene
    import slicer.util

    from SparseSegNetLib.client import engine_run
    from SparseSegNetLib.scene import logic
    from SparseSegNetLib.scene.annotation_session import AnnotationSession

    engine_run.WORKER = "stand_in_engine"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    shape, rows = (planes, *PLANE), []
    ball = np.s_[planes // 4 : planes // 2, 50:300, 60:200]
    with part("volume in the scene", rows):
        image = np.zeros(shape, np.uint8)
        image[ball] = 200
        volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "large")
        slicer.util.updateVolumeFromArray(volume, image)
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.GetSegmentation().AddEmptySegment("A", "A")
    del image
    with part("session begun", rows):
        session = AnnotationSession(volume, node)
    for index in (planes // 3, planes // 3 + 40):
        with part("a slice drawn", rows):
            stroke(slicer, node, volume, (index, *ball[1:]))
        with part("and read", rows):
            session.look()
    assert len(session.slices) == 2, session.slices
    session.close()
    with tempfile.TemporaryDirectory() as name:
        with part("run folder written, engine started", rows):
            run = logic.densify(volume, node, runFolder=Path(name) / "run")
        with part("stand-in engine", rows):
            assert run.wait(600) == "done", run.error
        with part("result loaded", rows):
            found = slicer.util.arrayFromSegmentBinaryLabelmap(run.result, "A", volume)
        assert found[ball].all() and found.sum() == found[ball].size, "as the thresholds say"
        rows.append(
            {"part": "; ".join(run.warnings) or "no warnings", "seconds": 0, "peak": peak()}
        )
    return rows


def stroke(slicer, node, volume, where) -> None:
    """Fills a rectangle of a slice, as the brush of Slicer's editor does: it brings its extent."""
    import vtk

    k, j, i = where
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k, k)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.GetPointData().GetScalars().Fill(1)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, node, "A", logic.MODE_MERGE_MAX)


def cells(count: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of blocks of different brightness in noise, and their numbers 1...count."""
    truth = np.zeros(CELLS, np.uint8)
    across = int(np.ceil(np.sqrt(count)))
    edge = CELLS[1] // across
    for n in range(count):
        row, column = divmod(n, across)
        where = np.s_[
            4:44, row * edge : (row + 1) * edge - 1, column * edge : (column + 1) * edge - 1
        ]
        truth[where] = n + 1
    bright = np.random.default_rng(1).permutation(count + 1).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.3, CELLS)
    return (bright[truth] + noise).astype(np.float32), truth


def segments(count: int, seconds: float) -> list[dict]:
    """A run of the engine on that many segments."""
    from SparseSegNetLib.annotation.composition import restrict_to_slices
    from SparseSegNetLib.annotation.geometry import Geometry
    from SparseSegNetLib.annotation.segments import Segment
    from SparseSegNetLib.annotation.slices import AnnotatedSlice
    from SparseSegNetLib.client.engine_run import EngineRun
    from SparseSegNetLib.runfolder.folder import RunFolder
    from SparseSegNetLib.runfolder.options import Options
    from SparseSegNetLib.runfolder.run_input import RunInput

    image, truth = cells(count)
    slices = [AnnotatedSlice("k", k) for k in (8, 20, 32, 40)]
    grid = Geometry(CELLS[::-1], (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    labels, rows = restrict_to_slices(truth, slices), []
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(
            Path(name) / "run",
            [RunInput(image[None], labels, grid, slices)],
            [Segment.numbered(n, n) for n in range(1, count + 1)],
            Options(device="cpu", time_budget=seconds),
        )
        run, begun, first, memory = EngineRun(folder), time.monotonic(), 0.0, 0
        while not run.ended:
            run.wait(0.2)
            first = first or (folder.read_preview() is not None and time.monotonic() - begun)
            memory = max(memory, resident(run._pid))
        assert run.state == "done", run.error
        found = run.result()
    unseen = labels == 255
    ious = [
        ((found == n) & (truth == n) & unseen).sum()
        / (((found == n) | (truth == n)) & unseen).sum()
        for n in range(1, count + 1)
    ]
    about = f"first preview after {first:.1f} s, {run.summary['step']} steps, mean IoU elsewhere "
    about += f"{np.mean(ious):.3f}; {'; '.join(run.warnings) or 'no warnings'}"
    rows.append({"part": about, "seconds": time.monotonic() - begun, "peak": memory / 1e9})
    return rows


def resident(pid: int | None) -> int:
    """Most resident memory of a process so far, bytes; 0 where the system does not tell so."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def main() -> None:
    """Runs each case in a child and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=4096, help="of the large volume")
    parser.add_argument("--seconds", type=float, default=60.0, help="time budget of the engine")
    parser.add_argument("--only", choices=["large", "60", "200"], help="one case")
    parser.add_argument("--child", choices=["large", "60", "200"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.path[:0] = [str(TESTS)]
        large_case = options.child == "large"
        rows = (
            large(options.planes) if large_case else segments(int(options.child), options.seconds)
        )
        print(json.dumps(rows))
        return
    print("| case | part | seconds | peak memory (GB) |\n|---|---|---|---|", flush=True)
    for case in [options.only] if options.only else ["large", "60", "200"]:
        child = [sys.executable, __file__, *sys.argv[1:], "--child", case]
        done = subprocess.run(child, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        for row in json.loads(done.stdout.splitlines()[-1]):
            print(
                f"| {case} | {row['part']} | {row['seconds']:.1f} | {row['peak']:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()

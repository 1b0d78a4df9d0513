"""`make benchmark-zarr-training`: `sparsesegnet densify` of stores that do not fit `--memory`.

Two questions. *Accuracy*: a scan whose expert labels are known is stored with a coarser level, and
densified from the same few slices in memory, on the coarser level alone, and with the network on
chunks of the finest level beside priors of the coarser one; IoU on voxels that were not drawn.
*Memory*: stores of two sizes are annotated in planes right through, and the peak of resident memory
of learning and of some tiles is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import zarr

from SparseSegNetLib.engine.stacking.stacker import Stacker
from zarr_volumes import BALL, CHUNK, phantom

# Runs the command line, and ends it after some tiles: one tile tells as much of the memory as all.
CHILD = """
import json, resource, sys
from SparseSegNetLib.cli.main import main
from SparseSegNetLib.tiles.dense_writing import DenseWriting

report, most, real, done = sys.argv[1], int(sys.argv[2]), DenseWriting.write, []

def write(work, tile):
    if len(done) == most:
        raise KeyboardInterrupt
    done.append(tile)
    real(work, tile)

if most:
    DenseWriting.write = write
code = main(sys.argv[3:])
unit = 1 if sys.platform == "darwin" else 1024
own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
found = {"code": code, "own": own.ru_maxrss * unit, "engine": below.ru_maxrss * unit}
found["cpu"] = own.ru_utime + own.ru_stime
with open(report, "w") as file:
    json.dump(found, file)
"""
SHARES = {"k": (0.15, 0.32, 0.5, 0.68, 0.85), "j": (0.35, 0.6)}  # of the axis, where slices lie


def halved(array: np.ndarray) -> np.ndarray:
    """The mean of blocks of 2 voxels along each axis; at the end what is left of one."""
    ends = [(0, n % 2) for n in array.shape]
    array = np.pad(array, ends, mode="edge")
    k, j, i = (n // 2 for n in array.shape)
    return array.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5)).astype(array.dtype)


def describe(group, count: int, spacing: tuple[float, ...]) -> None:
    """Writes the metadata of an image with so many levels."""
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": n, "type": "space", "unit": "millimeter"} for n in "zyx"],
                "datasets": [
                    {
                        "path": str(n),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [2.0**n * mm for mm in spacing]}
                        ],
                    }
                    for n in range(count)
                ],
            }
        ],
    }


def write_levels(path: Path, levels: list[np.ndarray], spacing: tuple[float, ...]) -> None:
    """Writes arrays as the levels of a store in chunks of 32³ voxels."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    for number, array in enumerate(levels):
        made = group.create_array(
            str(number), shape=array.shape, chunks=(32, 32, 32), dtype=array.dtype
        )
        made[:] = array
    describe(group, len(levels), spacing)


def run(folder: Path, words: list[str], most_tiles: int = 0) -> dict:
    """Runs the command line in a process of its own; what it measured, and what it said."""
    report = folder / "report.json"
    call = [sys.executable, "-c", CHILD, str(report), str(most_tiles), *words]
    child = subprocess.run(call, capture_output=True, encoding="utf-8")
    wanted = 3 if most_tiles else 0
    if child.returncode or (found := json.loads(report.read_text("utf-8")))["code"] != wanted:
        raise SystemExit(child.stderr)
    said = re.search(r"([0-9.]+) % of the chunks .* memory, ([0-9]+) were read", child.stderr)
    found["hits"] = f"{said[1]} % ({said[2]} read)" if said else ""
    return found


def accuracy(folder: Path, name: str, data: Path, steps: int) -> None:
    """Prints the rows of a scan."""
    scan = sitk.ReadImage(str(data / f"{name}-image.nrrd"))
    image = sitk.GetArrayFromImage(scan)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(data / f"{name}-labels.nrrd")))
    spacing = tuple(reversed(scan.GetSpacing()))
    labels = np.full(truth.shape, 255, np.uint8)
    for axis, shares in SHARES.items():
        for share in shares:
            at = [slice(None)] * 3
            at["kj".index(axis)] = int(share * truth.shape["kj".index(axis)])
            labels[tuple(at)] = truth[tuple(at)]
    write_levels(folder / "scan.ome.zarr", [image, halved(image)], spacing)
    write_levels(folder / "drawn.ome.zarr", [labels], spacing)
    classes = int(truth.max()) + 1
    each = Stacker.bytes_per_voxel(1, classes) + 12 + 4 * classes + 8
    bound = f"{0.5 * each * truth.size / 1e9:.3f}"  # what the finest level does not fit
    for how, more in (
        ("in memory", ["--memory", "100"]),
        ("level 1 alone", ["--level", "1", "--memory", "100"]),
        ("chunks, priors on level 1", ["--memory", bound]),
    ):
        output = folder / "out.ome.zarr"
        words = ["densify", str(folder / "scan.ome.zarr"), str(folder / "drawn.ome.zarr")]
        ends = ",".join(f"0:{n}" for n in truth.shape)
        words += ["-o", str(output), "--region", ends, "--steps", str(steps)]
        found = run(folder, [*words, "--device", "cpu", "--quiet", *more])
        result = zarr.open_group(str(output))["labels/segmentation/0"][:]
        shutil.rmtree(output)
        rest = labels == 255
        scores = [
            ((result == c) & (truth == c) & rest).sum()
            / (((result == c) | (truth == c)) & rest).sum()
            for c in range(1, classes)
        ]
        print(
            f"| {name} | {how} | {np.mean(scores):.4f} | {found['hits']} "
            f"| {max(found['own'], found['engine']) / 1e9:.2f} GB |",
            flush=True,
        )


def write_large(path: Path, edge: int, labels: bool) -> None:
    """Writes a phantom of balls with its coarser levels, or planes of its truth, by chunks."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    tile, truth = phantom((CHUNK,) * 3, 0)
    if labels:
        array = group.create_array(
            "0", shape=(edge,) * 3, chunks=(CHUNK,) * 3, dtype="u1", fill_value=255
        )
        plane = np.tile(truth[BALL // 2], (edge // CHUNK,) * 2)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            k = int(share * edge) // BALL * BALL + BALL // 2
            array[k] = plane
            array[:, k] = plane
        describe(group, 1, (0.001,) * 3)
        return
    count = 1 + int(np.log2(edge / 64))
    for number in range(count):
        n = edge >> number
        chunk = min(CHUNK, n)
        array = group.create_array(str(number), shape=(n,) * 3, chunks=(chunk,) * 3, dtype="u2")
        repeats = (max(1, chunk // len(tile)),) * 3
        piece = np.tile(tile, repeats)
        for place in np.ndindex(*(n // chunk,) * 3):
            array[tuple(slice(p * chunk, (p + 1) * chunk) for p in place)] = piece
        tile = halved(tile)
    describe(group, count, (0.001,) * 3)


def memory(folder: Path, edge: int, bound: float, steps: int) -> None:
    """Prints the row of a size."""
    write_large(folder / "large.ome.zarr", edge, False)
    write_large(folder / "drawn.ome.zarr", edge, True)
    words = ["densify", str(folder / "large.ome.zarr"), str(folder / "drawn.ome.zarr")]
    words += ["-o", str(folder / "out.ome.zarr"), "--memory", str(bound), "--steps", str(steps)]
    found = run(folder, [*words, "--device", "cpu", "--quiet"], most_tiles=1)
    print(
        f"| {edge}³ uint16, {2 * edge**3 / 1e9:.1f} GB | {found['engine'] / 1e9:.2f} GB "
        f"| {found['own'] / 1e9:.2f} GB | {found['cpu']:.0f} | {found['hits']} |",
        flush=True,
    )


def main() -> int:
    """Measures, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--scans", nargs="*", default=["brain-mricrop", "ct-multiorgan"])
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--memory", type=float, default=0.6, metavar="GB", help="for the sizes")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="of the network")
    options = parser.parse_args()
    if options.sizes:
        print("| volume | peak RSS, engine | peak RSS, network and tiles | CPU s | chunks found |")
        print("|---|---|---|---|---|", flush=True)
    for edge in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            memory(Path(name), edge, options.memory, options.steps)
    if options.scans:
        print("| scan | how | mean IoU | chunks found | peak RSS |")
        print("|---|---|---|---|---|", flush=True)
    for name in options.scans:
        with tempfile.TemporaryDirectory() as folder:
            accuracy(Path(folder), name, options.data, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())

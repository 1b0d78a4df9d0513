"""`make benchmark-zarr`: memory and speed of `sparsesegnet segment` on volumes of any size.

Stores of balls in noise are written chunk by chunk into a temporary folder (the largest holds a
few chunks in its middle alone), a model is trained on a small part, and each volume is segmented by
the command line in a process of its own, whose peak of resident memory is reported. Of each volume
256³ voxels are computed, since a CPU takes hours for all of a large one; the statistics are those
of the whole volume.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import zarr

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.cli.main import main as command
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.prediction.model import Model
from SparseSegNetLib.files.writing import write_image

CHUNK = 128
BALL = 64  # voxels from the middle of a ball to that of the next
CHILD = """
import json, resource, sys, time
from SparseSegNetLib.cli.main import main
begun = time.monotonic()
code = main(sys.argv[2:])
# In kilobytes on Linux, in bytes on macOS.
unit = 1 if sys.platform == "darwin" else 1024
used = resource.getrusage(resource.RUSAGE_SELF)
found = {"code": code, "peak": used.ru_maxrss * unit, "seconds": time.monotonic() - begun}
with open(sys.argv[1], "w") as file:
    json.dump({**found, "cpu": used.ru_utime + used.ru_stime}, file)
"""
# Edge of the volume, edge of what is stored in its middle, region that is computed.
NETWORK = "256:384,256:384,256:384"  # of the smallest, with a network, too
VOLUMES = [
    (512, 512, "256:512,256:512,256:512"),
    (1024, 1024, "512:768,512:768,512:768"),
    (4096, 512, "2048:2304,2048:2304,2048:2304"),
]


def phantom(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright shells around dark cores in noise: image uint16 and truth uint8 (k, j, i)."""
    at = np.indices(shape, dtype=np.float32)
    radius = np.sqrt(sum(((x % BALL) - (BALL - 1) / 2) ** 2 for x in at)) / (0.42 * BALL)
    truth = np.where(radius < 0.5, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(seed).integers(-12, 13, shape)
    return (np.array([60, 160, 100])[truth] + noise).clip(0).astype(np.uint16), truth


def make_store(path: Path, edge: int, stored: int) -> int:
    """Writes a store; returns its bytes on the disk."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = group.create_array("0", shape=(edge,) * 3, chunks=(CHUNK,) * 3, dtype="u2")
    steps = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"],
                "datasets": [{"path": "0", "coordinateTransformations": steps}],
            }
        ],
    }
    chunks = [phantom((CHUNK,) * 3, seed)[0] for seed in range(4)]
    low = (edge - stored) // 2
    for number, place in enumerate(np.ndindex(*(stored // CHUNK,) * 3)):
        box = tuple(slice(low + p * CHUNK, low + (p + 1) * CHUNK) for p in place)
        array[box] = chunks[number % len(chunks)]
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def train_model(folder: Path, steps: int) -> Path:
    """Trains a model on a small part, whose slices are drawn."""
    shape = (96, 96, 96)
    image, truth = phantom(shape, 0)
    labels = np.full(shape, 255, np.uint8)
    for index in (16, 31, 56, 90):
        labels[index], labels[:, index] = truth[index], truth[:, index]
    directions = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    geometry = Geometry(shape, (1e-3,) * 3, (0.0, 0.0, 0.0), directions)
    write_image(folder / "image.nrrd", image, geometry)
    write_image(folder / "labels.nrrd", labels, geometry)
    model = folder / "model.safetensors"
    files = [str(folder / name) for name in ("image.nrrd", "labels.nrrd")]
    options = ["-o", str(folder / "dense.nrrd"), "--save-model", str(model), "--device", "cpu"]
    code = command(["densify", *files, *options, "--steps", str(steps), "--quiet"])
    if code:
        raise SystemExit(code)
    return model


def with_network(model: Path, folder: Path) -> Path:
    """The model with an untrained network of the usual size, whose weight is next to nothing.

    A short training keeps none where the shallow model alone is as good; time and memory do not
    depend on what a network has learnt.
    """
    device = torch.device("cpu")
    found = Model.load(model, device)
    classes = found.classes
    fingerprint = Fingerprint((96, 96, 96), found.spacing, 1, classes, 1, 3, 2)
    found.plan = replace(make_plan(fingerprint, "cpu"), position=False, priors=False)
    found.network = build(found.plan, 1, classes).eval()
    found.network_share = 0.001
    path = folder / "network.safetensors"
    found.save(path)
    return path


def segmented(model: Path, store: Path, region: str, memory: float | None) -> dict:
    """Segments a region in a process of its own: seconds and peak of resident memory."""
    output = store.with_name(f"{model.stem}-{store.name}")
    report = output.with_suffix(".json")
    words = ["segment", str(model), str(store), "-o", str(output), "--region", region]
    words += ["--device", "cpu", "--quiet"]
    words += [] if memory is None else ["--memory", str(memory)]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(report), *words], capture_output=True, encoding="utf-8"
    )
    if child.returncode or (found := json.loads(report.read_text(encoding="utf-8")))["code"]:
        raise SystemExit(child.stderr)
    found["tiles"] = int(re.findall(r"written: ([0-9]+) tiles", child.stderr)[0])
    labels = zarr.open_group(str(output))["labels/segmentation/0"]
    ends = [tuple(map(int, part.split(":"))) for part in region.split(",")]
    box = tuple(slice(a, b) for a, b in ends)
    part = labels[box]
    chunk = phantom((CHUNK,) * 3, 0)[1]
    truth = np.tile(chunk, [-(-n // CHUNK) for n in part.shape])
    truth = truth[tuple(slice(n) for n in part.shape)]
    return {**found, "voxels": part.size, "right": float((part == truth).mean())}


def main() -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=float, metavar="GB", help="of a tile, see segment")
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="of the training")
    parser.add_argument("--model", type=Path, help="a model that --keep-model left, to train none")
    parser.add_argument("--keep-model", type=Path, metavar="FILE", help="copy the model there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 4096])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or train_model(folder, options.steps)
        if options.keep_model:
            shutil.copyfile(model, options.keep_model)
        print("| volume | stored | on disk | computed | tiles | s | CPU s", end="")
        print(" | voxels/CPU s | peak RSS | right |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        for edge, stored, region in VOLUMES:
            if edge not in options.sizes:
                continue
            store = folder / f"{edge}.ome.zarr"
            begun = time.monotonic()
            size = make_store(store, edge, stored)
            made = time.monotonic() - begun
            rows = [("", segmented(model, store, region, options.memory))]
            if edge == VOLUMES[0][0]:
                other = with_network(model, folder)
                rows.append((", with a network", segmented(other, store, NETWORK, options.memory)))
            for label, row in rows:
                print(
                    f"| {edge}³ uint16, {2 * edge**3 / 1e9:.1f} GB{label} "
                    f"| {stored}³ (in {made:.0f} s) | {size / 1e9:.2f} GB "
                    f"| {row['voxels'] / 1e6:.1f} M | {row['tiles']} | {row['seconds']:.0f} "
                    f"| {row['cpu']:.0f} | {row['voxels'] / row['cpu']:,.0f} "
                    f"| {row['peak'] / 1e9:.2f} GB "
                    f"| {row['right']:.4f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

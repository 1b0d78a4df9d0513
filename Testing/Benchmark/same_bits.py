"""Compares what this checkout and an earlier revision compute, bit by bit.

python Testing/Benchmark/same_bits.py --against REVISION

Trains on the CPU for a fixed number of steps with the same random seed, with this checkout and with
the revision (in a worktree that is taken away again), and compares label arrays and weights.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from safetensors.numpy import load_file

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "SparseSegNet" / "Resources" / "Sample"


def blob(folder: Path) -> list[Path]:
    """A small noisy ellipsoid in anisotropic voxels, annotated in five slices: image and labels."""
    shape = (20, 28, 32)
    at = np.indices(shape)
    radius = sum(((x - (n - 1) / 2) / (0.4 * n)) ** 2 for x, n in zip(at, shape, strict=True))
    truth = np.where(radius < 0.3, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.3, shape)
    labels = restrict_to_slices(truth, spread_slices((2, 2, 1), shape))
    paths = [folder / "image.nrrd", folder / "labels.nrrd"]
    for path, array in zip(paths, ((truth + noise).astype(np.float32), labels), strict=True):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(image, str(path))
    return paths


def densify(checkout: Path, files: list[Path], out: Path, steps: int) -> tuple[np.ndarray, dict]:
    """The label array (k, j, i) and the weights by name that a checkout's command line makes."""
    out.mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(checkout / "SparseSegNet")}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "SparseSegNetLib.cli",
            "densify",
            *map(str, files),
            "-o",
            str(out / "result.nrrd"),
            "--run",
            str(out / "run"),
            "--steps",
            str(steps),
            "--device",
            "cpu",
            "--seed",
            "0",
            "--quiet",
        ],
        check=True,
        cwd=out,
        env=environment,
    )
    state = load_file(next((out / "run").rglob("state.safetensors")))
    weights = {k: v for k, v in state.items() if k.startswith(("network.", "average."))}
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out / "result.nrrd"))), weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, metavar="REVISION")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before = folder / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), given.against], check=True)
        try:
            cases = {
                "ellipsoid": blob(folder),
                "kidney": [SAMPLE / f"kidney-{name}.nrrd" for name in ("image", "annotation.seg")],
            }
            for name, files in cases.items():
                old, new = (
                    densify(checkout, files, folder / f"{name}-{n}", given.steps)
                    for n, checkout in enumerate((before, ROOT))
                )
                voxels = int((old[0] != new[0]).sum())
                tensors = sorted(
                    key
                    for key in old[1].keys() | new[1].keys()
                    if key not in old[1]
                    or key not in new[1]
                    or not np.array_equal(old[1][key], new[1][key])
                )
                print(
                    f"{name}: {voxels} of {old[0].size} voxels and {len(tensors)} of "
                    f"{len(old[1])} weight tensors differ {tensors[:3] or ''}"
                )
                worst = max(worst, voxels, len(tensors))
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())

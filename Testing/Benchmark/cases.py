"""Benchmark cases: a real image with dense truth, of which only a few slices are shown."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files.images import geometry_of, read_file, read_volume
from SparseSegNetLib.files.labels import read_annotation

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def data_is_there(folder: Path) -> bool:
    """Whether the development volumes are in `folder`; says so when they are not."""
    if not folder.is_dir():
        print(f"the development volumes are not at {folder}: give --data DIR", file=sys.stderr)
    return folder.is_dir()


def slice_counts(text: str) -> tuple[int, ...]:
    """For argparse: numbers of slices (yz, xz, xy) from a text such as 5,5,3."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or not any(map(int, parts)):
        raise argparse.ArgumentTypeError(
            f"{text!r} does not say how many slices: give three numbers (yz,xz,xy) such as 5,5,3"
        )
    return tuple(map(int, parts))


@dataclass
class Case:
    """image, truth: (k, j, i).  sparse: uint8 (k, j, i), 255 = unlabelled."""

    name: str
    image_path: Path
    image: np.ndarray
    geometry: Geometry
    truth: np.ndarray
    sparse: np.ndarray
    slices: list[AnnotatedSlice]
    segments: list[Segment]
    annotation_path: Path | None

    def write_annotation(self, folder: Path) -> Path:
        """The file that the engine gets to see: the case's own, or one made from the slices."""
        if self.annotation_path is not None:
            return self.annotation_path
        path = folder / "annotation.nrrd"
        image = sitk.GetImageFromArray(self.sparse)
        image.CopyInformation(sitk.ReadImage(str(self.image_path)))
        sitk.WriteImage(image, str(path), True)
        return path

    def scores(self, result: np.ndarray) -> list[dict]:
        """IoU and Dice per segment on the voxels that were not annotated."""
        return metrics.overlap(result, self.truth, len(self.segments), self.sparse == UNLABELLED)


def load_case(prefix: Path | str, counts: tuple[int, int, int], shift: float = 0.0) -> Case:
    """`<prefix>-image.nrrd` with `<prefix>-labels.nrrd`, dense.

    What is annotated stands in `<prefix>-annotation.seg.nrrd`, or else is cut out of the truth:
    `counts` (yz, xz, xy) slices spread evenly over the extent of the labelled structures,
    shifted by `shift` of the distance between two.
    """
    prefix = Path(prefix)
    image_path = prefix.with_name(f"{prefix.name}-image.nrrd")
    volume = read_volume([image_path])
    truth_image = read_file(prefix.with_name(f"{prefix.name}-labels.nrrd"), "the ground truth")
    if (difference := volume.geometry.difference(geometry_of(truth_image))) is not None:
        raise InputError(f"image and ground truth of {prefix} differ in {difference}.")
    truth = sitk.GetArrayFromImage(truth_image)
    annotation_path = prefix.with_name(f"{prefix.name}-annotation.seg.nrrd")
    if annotation_path.exists():
        found = read_annotation(annotation_path, volume.geometry)
        sparse, slices, segments = found.labels, found.slices, found.segments
    else:
        annotation_path = None
        slices = spread_slices(counts, truth.shape, truth > 0, shift)
        sparse = restrict_to_slices(truth, slices)
        segments = [Segment.numbered(v, v - 1) for v in range(1, int(truth.max()) + 1)]
    return Case(
        prefix.name,
        image_path,
        volume.image[0],
        volume.geometry,
        truth,
        sparse,
        slices,
        segments,
        annotation_path,
    )


def halved(case: Case) -> Case:
    """Every second voxel of image and truth, with nothing annotated."""
    truth, image = (np.ascontiguousarray(a[::2, ::2, ::2]) for a in (case.truth, case.image))
    grid = case.geometry
    geometry = Geometry(
        truth.shape[::-1], tuple(2 * mm for mm in grid.spacing), grid.origin, grid.directions
    )
    return replace(
        case,
        image=image,
        truth=truth,
        geometry=geometry,
        sparse=np.full_like(truth, UNLABELLED),
        slices=[],
    )


def densify(arguments: list[str | Path]) -> None:
    """The command line, as a user calls it; raises when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "SparseSegNetLib.cli", "densify", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"sparsesegnet densify ended with {done.returncode}: {done.stderr}")

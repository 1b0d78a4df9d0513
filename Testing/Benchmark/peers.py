"""What people use instead, through its public packages: each takes a case and gives dense labels.

A peer sees what the engine sees: the image, the sparse labels (255 = unlabelled) and which slices
are annotated. Packages that only a peer needs are in requirements-benchmark.txt.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from cases import Case
from features import coordinates, filter_features
from monai_peer import monai_unet
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import array_axis

SEED = 0
THREADS = 2
BIOMEDISA = Path(__file__).resolve().parents[2] / ".venv-biomedisa" / "bin" / "python"


@dataclass(frozen=True)
class Peer:
    """run: from a case and a time budget in seconds to labels uint8 (k, j, i).  timed: whether
    it uses a budget; otherwise it takes what it takes."""

    name: str
    title: str
    run: Callable[[Case, float], np.ndarray]
    timed: bool = False


def interpolation(case: Case, budget: float) -> np.ndarray:
    """Signed distances to the contours, linear between slices, averaged over the three axes with
    weights that fall with the distance."""
    spacing = case.geometry.spacing_kji
    classes = len(case.segments)
    total = np.zeros((classes, *case.sparse.shape), np.float32)
    weights = np.zeros(case.sparse.shape, np.float32)
    for axis in range(3):
        at = [s.index for s in case.slices if array_axis(s.axis) == axis]
        if not at:
            continue
        plane = [s for a, s in enumerate(spacing) if a != axis]
        known = np.stack(
            [
                _signed(np.moveaxis(case.sparse, axis, 0)[sorted(at)] == c, plane)
                for c in range(1, classes + 1)
            ],
            axis=1,
        )
        places = np.arange(case.sparse.shape[axis])
        between = np.interp(places, sorted(at), np.arange(len(at)))
        low = np.floor(between).astype(int)
        high = np.minimum(low + 1, len(at) - 1)
        share = (between - low).astype(np.float32)[:, None, None, None]
        distance = np.abs(places[:, None] - np.array(at)).min(axis=1) * spacing[axis]
        outside = (places < min(at)) | (places > max(at))
        values = (
            (1 - share) * known[low]
            + share * known[high]
            - (distance * outside).astype(np.float32)[:, None, None, None]
        )
        weight = (1 / (distance + 0.5 * min(spacing)) ** 2).astype(np.float32)
        # Bounded, or a contour far away along one axis would outweigh a near one along another.
        values = np.tanh(values / (4 * min(spacing)))
        total += np.moveaxis(values * weight[:, None, None, None], 0, axis + 1)
        form = [1, 1, 1]
        form[axis] = -1
        weights += weight.reshape(form)
    score = total / weights
    return np.where(score.max(axis=0) > 0, score.argmax(axis=0) + 1, 0).astype(np.uint8)


def _signed(masks: np.ndarray, spacing: list[float]) -> np.ndarray:
    """Signed distances of one class in parallel slices; a slice without it counts as being as
    far outside as the others reach inside, so that it ends half-way."""
    found = [
        ndimage.distance_transform_edt(m, spacing) - ndimage.distance_transform_edt(~m, spacing)
        if 0 < m.sum() < m.size
        else None
        for m in masks
    ]
    deepest = max((f.max() for f in found if f is not None), default=1.0)
    return np.stack(
        [
            np.full(m.shape, deepest if m.all() else -deepest) if f is None else f
            for m, f in zip(masks, found, strict=True)
        ]
    ).astype(np.float32)


def registration(case: Case, budget: float) -> np.ndarray:
    """Slices carried from neighbour to neighbour by SimpleITK's symmetric demons."""
    spacing, classes = case.geometry.spacing_kji, len(case.segments) + 1
    image = case.image.astype(np.float32)
    total = np.zeros((classes, *image.shape), np.float32)
    for axis in range(3):
        at = sorted(s.index for s in case.slices if array_axis(s.axis) == axis)
        if not at:
            continue
        planes, labels = np.moveaxis(image, axis, 0), np.moveaxis(case.sparse, axis, 0)
        found = np.moveaxis(total, axis + 1, 0)
        for n in at:
            found[n] += _one_hot(labels[n], classes) * 1e4
        chains = [
            (n, range(n + 1, stop), -1) for n, stop in zip(at, [*at[1:], len(planes)], strict=True)
        ]
        chains += [
            (n, range(n - 1, stop, -1), 1) for n, stop in zip(at, [-1, *at[:-1]], strict=True)
        ]

        def carried(chain, planes=planes, labels=labels, axis=axis) -> list:
            start, places, back = chain
            current, out = _one_hot(labels[start], classes), []
            for place in places:
                demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
                demons.SetNumberOfIterations(30)
                demons.SetStandardDeviations(1.5)
                demons.SetNumberOfThreads(1)
                field = demons.Execute(
                    sitk.GetImageFromArray(planes[place]),
                    sitk.GetImageFromArray(planes[place + back]),
                )
                transform = sitk.DisplacementFieldTransform(
                    sitk.Cast(field, sitk.sitkVectorFloat64)
                )
                current = np.stack(
                    [
                        sitk.GetArrayFromImage(
                            sitk.Resample(sitk.GetImageFromArray(c), transform, sitk.sitkLinear)
                        )
                        for c in current
                    ]
                )
                distance = abs(place - start) * spacing[axis] / min(spacing)
                out.append((place, current / (distance + 0.5) ** 2))
            return out

        with ThreadPoolExecutor(THREADS) as pool:
            for chain in pool.map(carried, chains):
                for place, part in chain:
                    found[place] += part
    return total.argmax(axis=0).astype(np.uint8)


def _one_hot(plane: np.ndarray, classes: int) -> np.ndarray:
    return (plane == np.arange(classes)[:, None, None]).astype(np.float32)


def _forest(case: Case, where: bool) -> np.ndarray:
    from sklearn.ensemble import RandomForestClassifier

    found = filter_features(case.image, case.geometry.spacing_kji)
    if where:
        found = np.concatenate((found, coordinates(case.image.shape)), axis=-1)
    known = case.sparse != UNLABELLED
    forest = RandomForestClassifier(
        100,
        n_jobs=THREADS,
        random_state=SEED,
        min_samples_leaf=2,
        class_weight="balanced_subsample",
    )
    x, y = found[known], case.sparse[known]
    if len(y) > 100_000:
        chosen = np.random.default_rng(SEED).choice(len(y), 100_000, replace=False)
        x, y = x[chosen], y[chosen]
    forest.fit(x, y)
    flat = found.reshape(-1, found.shape[-1])
    parts = [forest.predict(flat[n : n + 500_000]) for n in range(0, len(flat), 500_000)]
    return np.concatenate(parts).reshape(case.image.shape).astype(np.uint8)


def forest(case: Case, budget: float) -> np.ndarray:
    """Random forest on multi-scale filter features (ilastik's and Labkit's method)."""
    return _forest(case, False)


def forest_where(case: Case, budget: float) -> np.ndarray:
    """The same with voxel coordinates."""
    return _forest(case, True)


def random_walker(case: Case, budget: float) -> np.ndarray:
    """scikit-image's random walker from the labelled voxels."""
    from skimage.segmentation import random_walker as walk

    image = case.image.astype(np.float32)
    image = (image - image.mean()) / max(1e-6, image.std())
    seeds = np.where(case.sparse == UNLABELLED, 0, case.sparse.astype(np.int32) + 1)
    found = walk(
        image,
        seeds,
        beta=130,
        mode="cg_j",
        tol=1e-3,
        spacing=np.asarray(case.geometry.spacing_kji) / min(case.geometry.spacing_kji),
    )
    return (found - 1).clip(0).astype(np.uint8)


def fill_between_slices(case: Case, budget: float) -> np.ndarray:
    """Slicer's Fill between slices: ITK's morphological contour interpolation."""
    import itk

    drawn = np.where(case.sparse == UNLABELLED, 0, case.sparse).astype(np.uint8)
    image = itk.image_from_array(drawn)
    return itk.array_from_image(itk.morphological_contour_interpolator(image)).astype(np.uint8)


def grow_from_seeds(case: Case, budget: float) -> np.ndarray:
    """Slicer's Grow from seeds: GrowCut on the seeds' extent, here the whole volume."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    def image_data(array: np.ndarray) -> vtk.vtkImageData:
        image = vtk.vtkImageData()
        image.SetDimensions(*reversed(array.shape))
        image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), True))
        return image

    seeds = np.where(case.sparse == UNLABELLED, 0, case.sparse.astype(np.int16) + 1)
    grow = slicer.vtkImageGrowCutSegment()
    grow.SetIntensityVolume(
        image_data(
            case.image.astype(np.int16)
            if np.ptp(case.image) > 2
            else (case.image * 1000).astype(np.int16)
        )
    )
    grow.SetSeedLabelVolume(image_data(seeds.astype(np.int16)))
    grow.Update()
    found = vtk_to_numpy(grow.GetOutput().GetPointData().GetScalars())
    return (found.reshape(case.sparse.shape).astype(np.int16) - 1).clip(0).astype(np.uint8)


def biomedisa(case: Case, budget: float) -> np.ndarray:
    """Biomedisa's smart interpolation: weighted random walks from the labelled voxels, through
    OpenCL on the CPU. It takes 0 for unlabelled and background alike."""
    if not BIOMEDISA.exists():
        raise ImportError("run `make .venv-biomedisa`", name="biomedisa")
    with tempfile.TemporaryDirectory() as name:
        image, labels, out = (Path(name) / f"{n}.npy" for n in ("image", "labels", "out"))
        np.save(image, case.image.astype(np.float32))
        np.save(labels, np.where(case.sparse == UNLABELLED, 0, case.sparse).astype(np.uint8))
        home = BIOMEDISA.parents[1]
        # Its driver lies in the virtual environment, where no loader looks by itself.
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(home / "lib"),
            "PYTHONPATH": "",
            "OCL_ICD_VENDORS": str(home / "etc" / "OpenCL" / "vendors"),
        }
        (home / "etc" / "OpenCL" / "vendors" / "intel-cpu.icd").write_text(
            str(home / "lib" / "libintelocl.so"), encoding="utf-8"
        )
        done = subprocess.run(
            [BIOMEDISA, Path(__file__).with_name("run_biomedisa.py"), image, labels, out],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=environment,
            cwd=name,
        )
        if done.returncode:
            raise RuntimeError(f"Biomedisa failed: {(done.stderr or done.stdout)[-500:]}")
        return np.load(out)


PEERS = {
    p.name: p
    for p in (
        Peer("interpolation", "signed-distance interpolation", interpolation),
        Peer("fill-between", "Fill between slices", fill_between_slices),
        Peer("grow-from-seeds", "Grow from seeds", grow_from_seeds),
        Peer("random-walker", "random walker", random_walker),
        Peer("registration", "deformable registration", registration),
        Peer("biomedisa", "Biomedisa", biomedisa),
        Peer("forest", "random forest", forest),
        Peer("forest-where", "random forest with coordinates", forest_where),
        Peer("monai-unet", "MONAI UNet", monai_unet, timed=True),
    )
}

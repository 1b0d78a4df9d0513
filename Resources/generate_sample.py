"""Makes the sample case: a synthetic confocal stack of a kidney-like network of tubules.

It imitates the data of the 3D U-Net paper (Cicek et al. 2016: Xenopus kidney, confocal): curved
tubules that touch each other, each a wall of cells around a lumen, in textured tissue, stained
unevenly, dimmer in depth, blurred more along z than in plane, and noisy. Everything is computed
here from a seed, so the case is our own work (Apache-2.0) and may be shipped.

    python Resources/generate_sample.py [--output DIR] [--seed N]

writes kidney-image.nrrd (uint8), kidney-labels.nrrd (dense truth: 0 tissue between the tubules,
1 tubule wall, 2 lumen) and kidney-annotation.seg.nrrd, the eight slices that a user would draw.
Arrays are (k, j, i); lengths in micrometres, which the files call mm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.files.images import read_volume
from SparseSegNetLib.files.writing import write_labels

SEED = 7
SHAPE = (60, 96, 104)
SPACING = (0.9, 0.9, 1.4)  # along i, j, k
ORIGIN = (12.5, -31.25, 4.75)
TUBULES = 14
LENGTH = 210  # micrometres per tubule at most
OUTER, LUMEN = 9.0, 5.2  # mean radii
SLICES = (3, 3, 2)  # along i, j, k

SEGMENTS = [
    Segment("TubuleWall", "Tubule wall", (0.95, 0.62, 0.15), 1),
    Segment("TubuleLumen", "Tubule lumen", (0.20, 0.62, 0.95), 2),
]


def geometry() -> Geometry:
    """A slightly oblique grid: 10 degrees about z, then 5 about x."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    d, t = np.cos(np.radians(5)), np.sin(np.radians(5))
    turn = np.array([[1, 0, 0], [0, d, -t], [0, t, d]]) @ np.array(
        [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    )
    return Geometry(SHAPE[::-1], SPACING, ORIGIN, tuple(turn.ravel().tolist()))


def generate(seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """The image and its truth, both uint8 (k, j, i)."""
    rng = np.random.default_rng(seed)
    spacing = np.array(SPACING[::-1])
    centre, tubule = centre_lines(rng, np.array(SHAPE) * spacing)
    labels, depth, owner = tissue(rng, centre, tubule, spacing)
    return stain(rng, labels, depth, owner, spacing), labels


def centre_lines(rng: np.random.Generator, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Winding curves that keep clear of each other: points (n, 3) one micrometre apart, and the
    number of the tubule that each belongs to.

    Each curve grows step by step into the roomiest of a few random directions close to its own,
    which gives the coils of a packed tissue; it ends where there is no room left.
    """
    points: list[np.ndarray] = []
    owner: list[int] = []
    clear = 2 * OUTER - 1.5  # neighbours touch, their walls overlap a little
    for number in range(TUBULES):
        others = cKDTree(np.array(points)) if points else None
        start, room = None, -1.0
        for trial in rng.uniform(0.05, 0.95, (60, 3)) * extent:
            here = others.query(trial)[0] if others is not None else 1e3
            if here > room:
                start, room = trial, here
        if others is not None and room < clear:
            break
        begin = rng.normal(size=3)
        begin /= np.linalg.norm(begin)
        for heading in (begin, -begin):  # a tubule grows both ways from where it begins
            line = [start]
            bend = rng.normal(size=3) * 0.05
            for _ in range(LENGTH // 2):
                bend = 0.93 * bend + rng.normal(size=3) * 0.035
                best, score, free = None, -np.inf, 0.0
                for _ in range(10):
                    turn = heading + bend + rng.normal(size=3) * 0.12
                    turn /= np.linalg.norm(turn)
                    ahead = line[-1] + 7 * turn
                    room = min(others.query(ahead)[0], 2 * clear) if others is not None else 30.0
                    older = np.array(line[:-22]) if len(line) > 25 else None
                    if older is not None:
                        room = min(room, np.linalg.norm(older - ahead, axis=1).min())
                    edge = np.minimum(ahead + 6, extent + 6 - ahead).min()
                    value = min(room, clear + 2) + 0.7 * min(edge, 4) + 3.0 * (turn @ heading)
                    if value > score:
                        best, score, free = turn, value, room
                if free < clear - 2.5 or (line[-1] < -6).any() or (line[-1] > extent + 6).any():
                    break
                heading = best
                line.append(line[-1] + heading)
            points += line
            owner += [number] * len(line)
    return np.array(points), np.array(owner)


def tissue(
    rng: np.random.Generator, centre: np.ndarray, tubule: np.ndarray, spacing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels uint8 (k, j, i), distance from the lumen's surface in the wall's thickness (0 inner,
    1 outer), and the tubule that each voxel is nearest to."""
    where = np.indices(SHAPE).reshape(3, -1).T * spacing
    distance, nearest = cKDTree(centre).query(where, workers=1)
    owner = tubule[nearest].reshape(SHAPE)
    distance = distance.reshape(SHAPE)
    # Radii wander along and around each tubule.
    calibre = gaussian_filter(rng.normal(size=len(centre)), 12)
    calibre = 1 + 0.10 * calibre / calibre.std()
    outer = OUTER * calibre[nearest].reshape(SHAPE) + 0.7 * smooth(rng, 5, spacing)
    width = rng.uniform(0.75, 1.2, TUBULES)[owner]
    lumen = LUMEN * width * calibre[nearest].reshape(SHAPE) + 0.7 * smooth(rng, 3, spacing)
    lumen = np.minimum(lumen, outer - 2.6)
    depth = (distance - lumen) / np.maximum(outer - lumen, 1)
    labels = np.where(depth < 0, 2, np.where(depth < 1, 1, 0)).astype(np.uint8)
    # Where two tubules touch, their walls keep the lumens apart.
    inside = np.flatnonzero(labels == 2)
    others = np.full(len(inside), np.inf)
    for number in range(tubule.max() + 1):
        far = cKDTree(centre[tubule == number]).query(where[inside], workers=1)[0]
        far[owner.ravel()[inside] == number] = np.inf
        others = np.minimum(others, far)
    labels.ravel()[inside[others - distance.ravel()[inside] < 2.4]] = 1
    return labels, depth, owner


def stain(
    rng: np.random.Generator,
    labels: np.ndarray,
    depth: np.ndarray,
    owner: np.ndarray,
    spacing: np.ndarray,
) -> np.ndarray:
    """What the microscope sees of it, uint8 (k, j, i)."""
    wall = labels == 1
    # Cell nuclei sit in the middle of the wall and, sparser, between the tubules.
    nuclei = blobs(rng, wall & (np.abs(depth - 0.5) < 0.2), 3.4, 1.7, spacing)
    cells = blobs(rng, (labels == 0) & (depth > 1.15), 6.0, 1.8, spacing)
    fibres = np.clip(smooth(rng, 1.6, spacing) * 0.6 + smooth(rng, 4, spacing) * 0.7, -1.5, 2)
    # Cell borders and the basal membrane take more stain than the cells' inside.
    membrane = np.exp(-(((depth - 1) / 0.13) ** 2)) + 0.6 * np.exp(-(((depth - 0.02) / 0.12) ** 2))
    cytoplasm = 0.50 + 0.07 * smooth(rng, 1.3, spacing) + 0.34 * nuclei + 0.22 * membrane
    between = 0.21 + 0.08 * fibres + 0.36 * cells + 0.16 * np.exp(-(((depth - 1) / 0.1) ** 2))
    inside = 0.15 + 0.03 * smooth(rng, 3, spacing) + 0.14 * debris(rng, spacing)
    uptake = rng.uniform(0.72, 1.22, TUBULES)[owner]
    light = np.select([wall, labels == 2], [cytoplasm * uptake, inside], between)
    light = np.clip(light, 0.02, None) * np.exp(0.14 * smooth(rng, 22, spacing))
    light *= np.exp(-np.arange(SHAPE[0]) * spacing[0] / 210)[:, None, None]
    light = gaussian_filter(light, np.array([1.5, 0.7, 0.7]) / spacing)
    counts = rng.poisson(150 * light) / 150 + rng.normal(0, 0.015, SHAPE)
    return np.clip(255 * (counts + 0.04), 0, 255).round().astype(np.uint8)


def smooth(rng: np.random.Generator, scale: float, spacing: np.ndarray) -> np.ndarray:
    """Random field of unit variance that varies over `scale` micrometres."""
    field = gaussian_filter(rng.normal(size=SHAPE), scale / spacing, mode="wrap")
    return field / field.std()


def blobs(
    rng: np.random.Generator, inside: np.ndarray, apart: float, radius: float, spacing: np.ndarray
) -> np.ndarray:
    """Soft ellipsoids of about `radius`, at least `apart` from each other, centred in `inside`."""
    candidates = np.argwhere(inside)
    rng.shuffle(candidates)
    chosen = np.empty((0, 3))
    for start in range(0, min(len(candidates), 24000), 400):
        fresh = candidates[start : start + 400] * spacing
        for point in fresh:
            if len(chosen) == 0 or ((chosen - point) ** 2).sum(axis=1).min() > apart**2:
                chosen = np.vstack((chosen, point))
    where = np.indices(SHAPE).reshape(3, -1).T * spacing
    distance, nearest = cKDTree(chosen).query(where, workers=1)
    size = radius * rng.uniform(0.7, 1.15, len(chosen))[nearest]
    bright = rng.uniform(0.5, 1.1, len(chosen))[nearest]
    return (bright / (1 + np.exp((distance - size) / 0.3))).reshape(SHAPE)


def debris(rng: np.random.Generator, spacing: np.ndarray) -> np.ndarray:
    """Faint clumps, as in a lumen that is not quite empty."""
    return np.clip(smooth(rng, 1.8, spacing) - 1.3, 0, 1.5)


def write(folder: Path, seed: int = SEED) -> None:
    image, labels = generate(seed)
    grid = geometry()
    picture = sitk.GetImageFromArray(image)
    picture.SetSpacing(grid.spacing)
    picture.SetOrigin(grid.origin)
    picture.SetDirection(grid.directions)
    sitk.WriteImage(picture, str(folder / "kidney-image.nrrd"), True)
    grid = read_volume([folder / "kidney-image.nrrd"]).geometry  # as any reader will see it
    write_labels(folder / "kidney-labels.nrrd", labels, grid, SEGMENTS)
    sparse = restrict_to_slices(labels, spread_slices(SLICES, labels.shape))
    drawn = np.where(sparse == UNLABELLED, 0, sparse).astype(np.uint8)
    write_labels(folder / "kidney-annotation.seg.nrrd", drawn, grid, SEGMENTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).resolve().parents[1] / "SparseSegNet" / "Resources" / "Sample",
    )
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    write(options.output, options.seed)

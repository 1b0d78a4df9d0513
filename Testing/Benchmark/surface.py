"""A shaded 3D view of a label array in numpy alone: machines without a display have no OpenGL.

Orthographic ray casting: the labels are turned into the view's frame, each ray's first labelled
voxel is found, and it is shaded by the gradient of the smoothed mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import (
    affine_transform,
    binary_dilation,
    binary_erosion,
    gaussian_filter,
    zoom,
)

LIGHT = np.array([-0.75, -0.45, -0.5])  # towards the viewer, from above and the left
VOXELS = 220  # along the longest edge of the view's frame: more is not seen at figure size


def render_surface(
    labels: np.ndarray,
    spacing: Sequence[float],
    colors: Sequence,
    azimuth: float = -35.0,
    elevation: float = 25.0,
    cut: bool = True,
) -> np.ndarray:
    """Picture of all segments, float32 RGBA (h, w, 4) from 0 to 1, transparent where empty.

    labels: uint8 (k, j, i), 0..K.  spacing: mm along i, j, k.  colors: K RGB triples.
    azimuth, elevation: of the viewer, in degrees.  cut: take away the octant next to the viewer,
    to look inside (segments may enclose each other).
    """
    present = np.argwhere(labels > 0)
    if len(present) == 0:
        return np.zeros((64, 64, 4), np.float32)
    labels = labels.copy()
    view = _axes(azimuth, elevation)
    if cut:
        _cut_open(labels, view[0])
    low, high = present.min(axis=0), present.max(axis=0) + 1
    part = np.pad(labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], 1)
    mm = np.array(spacing[::-1], float)
    extent = np.array(part.shape) * mm
    size = np.abs(view) @ extent  # of the box seen along depth, rows and columns
    pixel = size.max() / VOXELS
    shape = np.ceil(size / pixel).astype(int)
    # From the view's frame back into the array: rotation, then mm to voxels.
    matrix = (view.T * pixel) / mm[:, None]
    offset = (np.array(part.shape) - 1) / 2 - matrix @ ((shape - 1) / 2)
    best, which = np.full(shape, 0.5, np.float32), np.zeros(shape, np.uint8)
    solid = np.zeros(shape, np.float32)
    for value in np.unique(part[part > 0]):
        mask = (part == value).astype(np.float32)
        mask = affine_transform(mask, matrix, offset, tuple(shape), order=1)
        mask = gaussian_filter(mask, 1.2)
        better = mask > np.minimum(best, 0.999) - 0.1 * (which == 0)
        which[better & (mask > 0.4)] = value
        best = np.maximum(best, mask)
        solid += mask
    return _shade(which, solid, np.asarray(colors, np.float32))


def _axes(azimuth: float, elevation: float) -> np.ndarray:
    """Rows: depth (away from the viewer), down and right, as unit vectors in (k, j, i) mm."""
    a, e = np.radians(azimuth), np.radians(elevation)
    away = np.array([-np.sin(e), np.cos(e) * np.cos(a), np.cos(e) * np.sin(a)])
    right = np.array([0.0, -np.sin(a), np.cos(a)])
    return np.stack([away, np.cross(right, away), right])


def _cut_open(labels: np.ndarray, away: np.ndarray) -> None:
    """Empty the octant next to the viewer when that uncovers a segment enclosed by others."""
    middle = [int(np.median(axis)) for axis in np.nonzero(labels)]
    octant = tuple(
        slice(m, None) if d < 0 else slice(0, m) for m, d in zip(middle, away, strict=True)
    )
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    if np.count_nonzero(sizes) < 2:
        return
    for value in np.flatnonzero(sizes) + 1:
        others = (labels > 0) & (labels != value)
        mask = labels == value
        rim = mask & ~binary_erosion(mask, border_value=1)
        if binary_dilation(others)[rim].mean() > 0.75:  # its surface is covered by others
            labels[octant] = 0
            return


def _shade(which: np.ndarray, solid: np.ndarray, colors: np.ndarray) -> np.ndarray:
    filled = which > 0
    hit = filled.any(axis=0)
    depth = filled.argmax(axis=0)
    rows, columns = np.indices(depth.shape)
    smooth = gaussian_filter(solid, 2.0)
    slope = np.stack([g[depth, rows, columns] for g in np.gradient(smooth)], axis=-1)
    normal = -slope / (np.linalg.norm(slope, axis=-1, keepdims=True) + 1e-6)
    light = LIGHT / np.linalg.norm(LIGHT)
    diffuse = np.clip(normal @ light, 0, 1)
    halfway = light + np.array([-1.0, 0, 0])
    shine = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 30
    # What lies in a hollow gets less light: compare with the neighbourhood's depth.
    far = np.where(hit, depth, depth.max() if hit.any() else 0).astype(np.float32)
    hollow = np.clip((far - gaussian_filter(far, 8)) / 30, 0, 0.4)
    span = max(1, np.ptp(depth[hit])) if hit.any() else 1
    cue = 1 - 0.2 * (depth - depth[hit].min()) / span if hit.any() else 1.0
    strength = (0.5 + 0.55 * diffuse) * cue * (1 - hollow)
    base = colors[np.maximum(which[depth, rows, columns].astype(int) - 1, 0)]
    rgb = np.clip(base * strength[..., None] + 0.22 * shine[..., None], 0, 1)
    picture = np.dstack([rgb, hit.astype(np.float32)])
    # Enlarged with premultiplied opacity, so that edges are smooth and without dark rims.
    picture[..., :3] *= picture[..., 3:]
    picture = np.clip(zoom(picture, (3, 3, 1), order=1), 0, 1)
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-6)
    return picture.clip(0, 1)

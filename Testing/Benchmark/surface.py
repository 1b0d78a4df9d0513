"""A shaded 3D view of a label array in numpy alone: machines without a display have no OpenGL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import (
    affine_transform,
    binary_dilation,
    distance_transform_edt,
    gaussian_filter,
    map_coordinates,
)

from raycast import Solid, light, trace

MOST = 4_000_000  # voxels of the grid that is traced: more detail is not seen at figure size
LONGEST = 260  # voxels along its longest edge
HIDDEN = 0.12  # a segment of which less of the silhouette is seen than this share is hidden


@dataclass
class _Segment:
    """One segment's level in its own box of the scene's grid."""

    value: int
    corner: np.ndarray  # (k, j, i) of the box
    level: np.ndarray  # float32, positive inside


def render_surface(labels: np.ndarray, spacing: Sequence[float], colors: Sequence,
                   size: tuple[int, int] = (900, 900), azimuth: float = -32.0,
                   elevation: float = 24.0, cut: str = "auto") -> np.ndarray:
    """Picture of all segments: uint8 RGBA (rows, columns, 4), transparent where there are none.

    labels: uint8 (k, j, i), 0..K.  spacing: mm along i, j, k.  colors: K RGB triples, 0 to 1.
    size: rows and columns.  azimuth, elevation: of the viewer, in degrees: 0, 0 looks along j
    with k upwards.  cut: "octant" or "half" takes away that part, next to the viewer; "none";
    "auto" takes the octant away when some segment would be hidden by the others and it helps.
    """
    picture = np.zeros((*size, 4), np.uint8)
    if not labels.any():
        return picture
    view = view_axes(azimuth, elevation)
    solid, segments = _scene(labels, np.array(spacing[::-1], float))
    if cut == "auto" and len(segments) > 1:
        solid = _opened_if_needed(solid, segments, view, labels, spacing)
    elif cut in ("octant", "half"):
        solid = replace(solid, removed=_part(cut, view, _middle(labels, spacing)))
    camera = _camera(solid, view, size)
    rows, columns = (x.ravel() for x in np.indices(size))
    color, depth, value = _seen(solid, segments, colors, view, camera, rows, columns)
    edge = _uneven(color, depth, value, size, solid.step)
    rows, columns = np.nonzero(edge)
    # Nine rays for a pixel in which something changes: smooth edges at little cost.
    total = np.zeros((len(rows), 4))
    for a in (-1 / 3, 0, 1 / 3):
        for b in (-1 / 3, 0, 1 / 3):
            found = _seen(solid, segments, colors, view, camera, rows + a, columns + b)[0]
            total += np.column_stack([found[:, :3] * found[:, 3:], found[:, 3]])
    total[:, :3] /= np.maximum(total[:, 3:], 1e-9)
    total[:, 3] /= 9
    picture[...] = np.rint(255 * color).reshape(*size, 4)
    picture[edge] = np.rint(255 * total)
    return picture


def view_axes(azimuth: float, elevation: float) -> np.ndarray:
    """Rows: depth (away from the viewer), down and right, as unit vectors in (k, j, i)."""
    a, e = np.radians(azimuth), np.radians(elevation)
    away = np.array([-np.sin(e), np.cos(e) * np.cos(a), np.cos(e) * np.sin(a)])
    right = np.array([0.0, -np.sin(a), np.cos(a)])
    return np.stack([away, np.cross(right, away), right])


def _scene(labels: np.ndarray, mm: np.ndarray) -> tuple[Solid, list[_Segment]]:
    """The solid of all segments and each segment's level, on one isotropic grid."""
    margin = 3
    hit = [np.flatnonzero(labels.any(axis=tuple(b for b in range(3) if b != a)))
           for a in range(3)]
    first = np.array([h[0] for h in hit]) - margin
    last = np.array([h[-1] for h in hit]) + margin + 1
    low, high = np.maximum(first, 0), np.minimum(last, labels.shape)
    # Repeated beyond the volume's faces, which then bound the solid as sharp planes.
    part = np.pad(labels[tuple(map(slice, low, high))],
                  list(zip(low - first, last - high, strict=True)), mode="edge")
    extent = np.array(part.shape) * mm
    step = max(extent.max() / LONGEST, (extent.prod() / MOST) ** (1 / 3), mm.min() / 4)
    grid = tuple(np.ceil(extent / step).astype(int))
    level = _level(part > 0, mm, step, grid)
    voxel = np.minimum(mm / step, 3)
    solid = Solid(level, gaussian_filter(level, 1.1 * np.maximum(voxel, 1)),
                  (first - 0.5) * mm + step / 2, step,
                  -0.5 * mm, (np.array(labels.shape) - 0.5) * mm)
    present = np.unique(part[part > 0])
    segments = []
    for value in present:
        if len(present) == 1:
            segments.append(_Segment(int(value), np.zeros(3, int), level))
            continue
        mask = part == value
        where = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a)))
                 for a in range(3)]
        start = np.array([max(w[0] - margin, 0) for w in where])
        stop = np.array([w[-1] + margin + 1 for w in where])
        box = mask[tuple(map(slice, start, stop))]
        corner = np.floor(start * mm / step).astype(int)
        shape = np.minimum(np.ceil((start + box.shape) * mm / step).astype(int), grid) - corner
        shift = start * mm - corner * step
        segments.append(_Segment(int(value), corner, _level(box, mm, step, tuple(shape), shift)))
    return solid, segments


def _level(mask: np.ndarray, mm: np.ndarray, step: float, grid: tuple[int, ...],
           shift: np.ndarray | float = 0.0) -> np.ndarray:
    """A smooth float32 field on the grid, positive inside the mask (bool, (k, j, i)).

    shift: mm from the grid's first corner to the mask's.
    """
    blocks = np.maximum(np.rint(step / mm), 1).astype(int)
    share, mm = _block_means(mask, blocks), mm * blocks
    thick = int(mm.argmax())
    ratio = mm[thick] / np.median(mm)
    if ratio >= 2 and mask.shape[thick] > 1:
        level = _between_slices(share >= 0.5, thick, ratio)
    else:
        level = 2 * share - 1
    level = gaussian_filter(level, 0.62 * np.maximum(step / mm, 1), mode="nearest")
    # Position x mm in the grid's box is x / mm - 0.5 in voxels, from voxel centre to centre.
    scale = step / mm
    # Linear interpolation shows facets where voxels are large, which are few: splines there.
    order = 3 if level.size < 150_000 else 1
    level = affine_transform(level, scale, 0.5 * scale - 0.5 - shift / mm, grid, np.float32, order,
                             mode="nearest")
    return level + np.float32(0.1)  # or else sheets and threads of one voxel would be lost


def _block_means(mask: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """float32 means over blocks of that many voxels along each axis."""
    share = mask.astype(np.float32)
    for axis, n in enumerate(blocks):
        if n > 1:
            width = [(0, -share.shape[axis] % n if a == axis else 0) for a in range(3)]
            share = np.pad(share, width, mode="edge")
            shape = (*share.shape[:axis], -1, n, *share.shape[axis + 1:])
            share = share.reshape(shape).mean(axis=axis + 1)
    return share


def _between_slices(mask: np.ndarray, thick: int, ratio: float) -> np.ndarray:
    """Signed distance within each thick slice, so that outlines move from slice to slice
    instead of in steps; clipped, for what is thin would vanish in between."""
    level = np.empty(mask.shape, np.float32)
    for n in range(mask.shape[thick]):
        where = (slice(None),) * thick + (n,)
        plane = mask[where]
        if plane.all() or not plane.any():
            level[where] = 1e3 if plane.any() else -1e3
        else:
            level[where] = np.where(plane, distance_transform_edt(plane) - 0.5,
                                    0.5 - distance_transform_edt(~plane))
    clip = np.clip(np.percentile(level[mask], 75), 1, 2 * ratio)
    return np.clip(level / clip, -1, 1)


def _middle(labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Median position, mm (k, j, i), of what is labelled."""
    return np.array([np.median(x) for x in np.nonzero(labels)]) * spacing[::-1]


def _part(cut: str, view: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box next to the viewer, as `Solid.removed`."""
    signs = -np.sign(view[0])
    if cut == "half":
        signs[np.arange(3) != np.abs(view[0]).argmax()] = 0
    return corner, signs


def _opened_if_needed(solid: Solid, segments: list[_Segment], view: np.ndarray,
                      labels: np.ndarray, spacing: Sequence[float]) -> Solid:
    """The solid, without the octant next to the viewer if that shows hidden segments."""
    camera = _camera(solid, view, (110, 110))
    whole = _seen_shares(solid, segments, view, camera)
    hidden = [s.value for s, share in zip(segments, whole, strict=True) if share < HIDDEN]
    if not hidden:
        return solid
    corner = _middle(np.isin(labels, hidden), spacing)
    opened = replace(solid, removed=_part("octant", view, corner))
    shares = _seen_shares(opened, segments, view, camera)
    better = [b > max(1.5 * a, a + 0.02) for a, b, s in zip(whole, shares, segments, strict=True)
              if s.value in hidden]
    return opened if 2 * sum(better) >= len(better) and min(shares) >= 0.5 * min(whole) else solid


def _seen_shares(solid: Solid, segments: list[_Segment], view: np.ndarray, camera) -> list[float]:
    """Of each segment, the share of its silhouette in which it is what is seen."""
    rows, columns = (x.ravel() for x in np.indices((110, 110)))
    value = _hits(solid, segments, view, camera, rows, columns)[2]
    shares = []
    for segment in segments:
        points = solid.origin + solid.step * (segment.corner + np.argwhere(segment.level > 0))
        flat = np.rint(_to_pixels(points, view, camera)).astype(int)
        area = np.zeros((110, 110), bool)
        area[tuple(np.clip(flat, 0, 109).T)] = True
        # The grid may be coarser than the pixels: close the gaps between its points.
        area = binary_dilation(area) if solid.step > camera[2] else area
        shares.append((value == segment.value).sum() / max(area.sum(), 1))
    return shares


def _camera(solid: Solid, view: np.ndarray, size: tuple[int, int]) -> tuple:
    """(centre in mm, size, mm per pixel) so that the solid fills the picture."""
    every = max(1, int((np.count_nonzero(solid.level > 0) / 200_000) ** (1 / 3)))
    points = np.argwhere(solid.level[::every, ::every, ::every] > 0) * every
    points = solid.origin + solid.step * points
    points = points[solid.bounds(points).min(axis=1) > -solid.step]
    if len(points) == 0:
        points = (solid.low + solid.high)[None] / 2
    flat = points @ view.T
    low, high = flat.min(axis=0), flat.max(axis=0)
    pad = (0.7 * every + 0.5) * solid.step
    scale = ((high - low)[1:] + 2 * pad) / (np.array(size) - 4)
    return ((low + high) / 2) @ view, size, max(scale.max(), 1e-9)


def _to_pixels(points: np.ndarray, view: np.ndarray, camera: tuple) -> np.ndarray:
    centre, size, scale = camera
    return (points - centre) @ view[1:].T / scale + (np.array(size) - 1) / 2


def _hits(solid: Solid, segments: list[_Segment], view, camera, rows, columns) -> tuple:
    """Which rays hit (indices), at which points (mm), which segment each ray sees (0: none),
    the normals there, and each ray's depth in mm (nan: none)."""
    centre, size, scale = camera
    reach = np.linalg.norm(solid.high - solid.low)
    start = (centre - reach * view[0]
             + ((rows - (size[0] - 1) / 2) * scale)[:, None] * view[1]
             + ((columns - (size[1] - 1) / 2) * scale)[:, None] * view[2])
    depth = trace(solid, start, view[0])
    hit = np.flatnonzero(~np.isnan(depth))
    points = start[hit] + depth[hit, None] * view[0]
    normals = solid.normals(points)
    # Asked a little below the surface, where the segments are told apart more clearly.
    below = (points - 0.5 * solid.step * normals - solid.origin) / solid.step
    best, which = np.full(len(hit), -np.inf), np.zeros(len(hit), np.uint8)
    for segment in segments:
        at = below - segment.corner
        near = np.flatnonzero(((at > -1) & (at < segment.level.shape)).all(axis=1))
        level = map_coordinates(segment.level, at[near].T, order=1, mode="nearest",
                                prefilter=False)
        better = level > best[near]
        best[near[better]], which[near[better]] = level[better], segment.value
    value = np.zeros(len(start), np.uint8)
    value[hit] = which
    return hit, points, value, normals, depth


def _seen(solid: Solid, segments, colors, view, camera, rows, columns) -> tuple:
    """RGBA from 0 to 1 (n, 4), depth in mm (n,), segment (n,) of the rays at these pixels."""
    hit, points, value, normals, depth = _hits(solid, segments, view, camera, rows, columns)
    rgba = np.zeros((len(rows), 4))
    if len(hit) == 0:
        return rgba, depth, value
    longest = camera[2] * max(camera[1])
    strength, shine = light(solid, points, normals, view, 0.09 * longest)
    # What is further away fades a little: depth without a perspective.
    away = points @ view[0]
    fade = 0.13 * ((away - away.min()) / max(np.ptp(away), 0.5 * longest))[:, None]
    # Light adds up in linear intensities, not in those of the screen.
    base = np.asarray(colors, float)[np.maximum(value[hit].astype(int) - 1, 0)] ** 2.2
    bright = np.clip(base * strength[:, None] + 0.10 * shine[:, None], 0, 1)
    rgba[hit, :3] = (bright * (1 - fade) + 0.7 * fade) ** (1 / 2.2)
    rgba[hit, 3] = 1
    return rgba, depth, value


def _uneven(color, depth, value, size, step: float) -> np.ndarray:
    """bool (rows, columns): pixels that differ from a neighbour."""
    color, depth, value = color.reshape(*size, 4), depth.reshape(size), value.reshape(size)
    depth = np.nan_to_num(depth, nan=1e9)
    edge = np.zeros(size, bool)
    for axis in (0, 1):
        a = (slice(None),) * axis + (slice(1, None),)
        b = (slice(None),) * axis + (slice(None, -1),)
        jump = ((value[a] != value[b]) | (np.abs(depth[a] - depth[b]) > 4 * step)
                | (np.abs(color[a] - color[b]).max(axis=-1) > 0.07))
        edge[a] |= jump
        edge[b] |= jump
    return edge

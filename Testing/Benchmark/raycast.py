"""Rays through a smooth solid, in numpy: where each one first meets it, and how light falls there.

A ray jumps ahead by the distance to the nearest solid voxel (sphere tracing), so that a picture
costs a dozen look-ups per ray rather than a walk through the whole volume. All positions are
in mm and in array order (k, j, i).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

LIGHT = np.array([-0.62, -0.62, -0.48])  # towards the light: viewer's side, above, left
TOWARDS_VIEWER = np.array([-1.0, 0.0, 0.0])


@dataclass
class Solid:
    """A solid on an isotropic grid, bounded by the volume's faces and cut open at will.

    level: float32 (k, j, i), positive inside.  soft: the same, smoother, for the normals.
    origin: of the grid's first voxel, mm.  step: mm.  low, high: the volume's faces, mm.
    removed: None, or (corner, signs): of the box that is taken away, which reaches from the
    corner to infinity along +1 and -1, and through the whole volume along 0.
    """

    level: np.ndarray
    soft: np.ndarray
    origin: np.ndarray
    step: float
    low: np.ndarray
    high: np.ndarray
    removed: tuple[np.ndarray, np.ndarray] | None = None
    free: np.ndarray = field(init=False)  # float32, half resolution: mm to the nearest solid

    def __post_init__(self) -> None:
        shape = self.level.shape
        ends = [self.origin[a] + np.arange(shape[a]) * self.step for a in range(3)]
        filled = self.level > 0
        for a in range(3):
            inside = (ends[a] > self.low[a] - self.step) & (ends[a] < self.high[a] + self.step)
            filled &= inside.reshape([-1 if b == a else 1 for b in range(3)])
        if self.removed is not None:
            corner, signs = self.removed
            gone = [s * (e - c) > self.step if s else np.ones(len(e), bool)
                    for e, c, s in zip(ends, corner, signs, strict=True)]
            filled[np.ix_(*gone)] = False
        half = np.pad(filled, [(0, n % 2) for n in shape])
        half = half.reshape(half.shape[0] // 2, 2, half.shape[1] // 2, 2, -1, 2).any((1, 3, 5))
        self.free = (distance_transform_edt(~half, sampling=2 * self.step).astype(np.float32)
                     if half.any() else np.full(half.shape, 1e6, np.float32))

    def sample(self, values: np.ndarray, points: np.ndarray) -> np.ndarray:
        """`values` on the grid, at (n, 3) points."""
        return map_coordinates(values, ((points - self.origin) / self.step).T, order=1,
                               mode="nearest", prefilter=False)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """About how far (mm) the nearest solid is, at (n, 3) points."""
        at = (points - self.origin) / (2 * self.step) - 0.25
        return map_coordinates(self.free, at.T, order=1, mode="nearest", prefilter=False)

    def bounds(self, points: np.ndarray) -> np.ndarray:
        """(n, 4), mm: how far inside the volume's faces along each axis, and the cut's."""
        inside = np.minimum(points - self.low, self.high - points)
        if self.removed is None:
            return np.column_stack([inside, np.full(len(points), np.inf)])
        corner, signs = self.removed
        used = np.flatnonzero(signs)
        kept = -((points - corner) * signs)[:, used].min(axis=1)
        return np.column_stack([inside, kept])

    def inside(self, points: np.ndarray) -> np.ndarray:
        return (self.sample(self.level, points) > 0) & (self.bounds(points).min(axis=1) > 0)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit vectors (n, 3) out of the solid at points on its surface; flat on cut faces."""
        slope = np.empty_like(points)
        for a in range(3):
            ahead, behind = points.copy(), points.copy()
            ahead[:, a] += self.step
            behind[:, a] -= self.step
            slope[:, a] = self.sample(self.soft, behind) - self.sample(self.soft, ahead)
        slope /= np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9
        bounds = self.bounds(points)
        nearest = bounds.argmin(axis=1)
        flat = bounds[np.arange(len(points)), nearest] < 0.1 * self.step
        axis = np.minimum(nearest, 2)
        sign = np.where(points[np.arange(len(points)), axis]
                        < (self.low + self.high)[axis] / 2, -1.0, 1.0)
        if self.removed is not None:
            corner, signs = self.removed
            gap = np.where(signs == 0, np.inf, (points - corner) * signs)
            cut = flat & (nearest == 3)
            axis = np.where(cut, gap.argmin(axis=1), axis)
            sign = np.where(cut, signs[axis], sign)
        rows = np.flatnonzero(flat)
        slope[rows] = 0
        slope[rows, axis[rows]] = sign[rows]
        return slope


def trace(solid: Solid, start: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Where rays from (n, 3) points along the unit vector `away` first meet the solid.

    Returns float (n,): mm along the ray, nan where it meets nothing.
    """
    depth = np.full(len(start), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = (solid.low - start) / away, (solid.high - start) / away
    enter = np.nanmax(np.minimum(near, far), axis=1) + 1e-3 * solid.step
    leave = np.nanmin(np.maximum(near, far), axis=1)
    rays = np.flatnonzero(enter < leave)
    t, last, leave = enter[rays], enter[rays], leave[rays]
    found, brackets = [], []
    cell, slack, least = 2 * solid.step, 2 * np.sqrt(3) * solid.step, 0.6 * solid.step
    limit = np.array(solid.free.shape) - 1
    while len(rays):
        at = start[rays] + t[:, None] * away
        index = np.clip(((at - solid.origin) / cell + 0.25).astype(int), 0, limit)
        free = solid.free[index[:, 0], index[:, 1], index[:, 2]] - slack
        close = np.flatnonzero(free < least)
        hit = np.zeros(len(rays), bool)
        hit[close] = solid.inside(at[close])
        found.append(rays[hit])
        brackets.append(np.stack([last[hit], t[hit]]))
        last = t
        t = t + np.maximum(free, least)
        # A last look just before the ray leaves: it may graze a face of the volume.
        stay = ~hit & (last < leave)
        rays, last, t, leave = rays[stay], last[stay], t[stay], leave[stay]
    if not found:
        return depth
    rays, (low, high) = np.concatenate(found), np.concatenate(brackets, axis=1)
    for _ in range(7):
        middle = (low + high) / 2
        inside = solid.inside(start[rays] + middle[:, None] * away)
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    depth[rays] = high
    return depth


def light(solid: Solid, points: np.ndarray, normals: np.ndarray, view: np.ndarray,
          reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Strength of the light and of the shine at (n, 3) surface points, each float (n,).

    view: rows away, down, right.  reach: mm over which neighbours take light from each other.
    """
    towards = (LIGHT / np.linalg.norm(LIGHT)) @ view
    halfway = towards + TOWARDS_VIEWER @ view
    halfway /= np.linalg.norm(halfway)
    lambert = normals @ towards
    # Wrapped around the edge: what faces away from the light keeps some shape.
    diffuse = np.clip(0.75 * lambert + 0.25, 0, 1)
    shine = np.clip(normals @ halfway, 0, 1) ** 40 * (lambert > 0)
    # Hollows are darker: there the solid is nearer than one step out along the normal.
    hollow = np.zeros(len(points))
    for share, weight in ((0.2, 0.4), (0.5, 0.35), (1.0, 0.25)):
        out = share * reach
        hollow += weight * np.clip(1 - solid.distance(points + out * normals) / out, 0, 1)
    # Shadows with a soft rim: how narrowly the way to the light passes other parts.
    clear = np.ones(len(points))
    for way in np.geomspace(0.35, 4.0, 9) * reach:
        free = solid.distance(points + normals * 2 * solid.step + towards * way)
        clear = np.minimum(clear, np.clip(free / (0.22 * way), 0, 1))
    # A weak lamp at the viewer's keeps faces that turn from the main light readable.
    frontal = np.clip(-normals @ view[0], 0, 1)
    strength = (0.36 + 0.2 * frontal) * (1 - 0.85 * hollow) + 0.62 * diffuse * (
        1 - 0.5 * hollow) * (0.45 + 0.55 * clear)
    return strength, shine * clear * (1 - hollow)

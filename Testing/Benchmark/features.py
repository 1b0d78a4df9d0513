"""The classical peers' raw material: filter features as in ilastik, and voxel coordinates."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SCALES = (0.7, 1.6, 3.5)  # in units of the finest spacing


def filter_features(image: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """float32 (k, j, i, n): at each scale the Gaussian, its gradient's magnitude, the Laplacian
    and the Hessian's eigenvalues; and the image itself. image, spacing: along (k, j, i)."""
    image = image.astype(np.float32)
    units = np.asarray(spacing) / min(spacing)
    found = [image]
    for scale in SCALES:

        def derived(*order: int, sigma=scale / units) -> np.ndarray:
            return ndimage.gaussian_filter(image, sigma, order=order)

        found.append(derived(0, 0, 0))
        found.append(np.sqrt(sum(derived(*order) ** 2 for order in np.eye(3, dtype=int))))
        hessian = np.empty((*image.shape, 3, 3), np.float32)
        for a in range(3):
            for b in range(a, 3):
                order = [0, 0, 0]
                order[a] += 1
                order[b] += 1
                hessian[..., a, b] = hessian[..., b, a] = derived(*order)
        values = np.linalg.eigvalsh(hessian)
        found += [values.sum(axis=-1), *np.moveaxis(values, -1, 0)]
    return np.stack(found, axis=-1)


def coordinates(shape: tuple[int, int, int]) -> np.ndarray:
    """float32 (k, j, i, 3), from 0 to 1."""
    return np.stack(
        np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in shape), indexing="ij"),
        axis=-1,
    )

"""Augmentation of a batch of patches: each step is a few operations on all of them.

Random numbers are drawn on the host (`draws`). What follows never waits for the device: no value is
read back, and sizes do not depend on values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED
from ...annotation.geometry import Triple
from ..plan import Strength


def random_affines(
    strength: Strength, spacing: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """Matrices from patch offsets to volume offsets, both in voxels (k, j, i).

    The rotation and scaling act in mm, so that anisotropic voxels are not sheared.

    Args:
        strength: Of the augmentation.
        spacing: (n, 3) mm along k, j, i.
        uniform: (n, 3, 3) random numbers from 0 to 1: for angles, sizes and mirroring.

    Returns:
        float32 (n, 3, 3).
    """
    angle, size, mirror = uniform.unbind(dim=1)
    rotation = torch.eye(3).repeat(len(spacing), 1, 1)
    for axis in range(1 if strength.planar else 3):
        a, b = (n for n in range(3) if n != axis)
        # Turning a thick slice by a large angle would only sample the same few slices obliquely.
        thick = (spacing[:, a] / spacing[:, b]).maximum(spacing[:, b] / spacing[:, a]).double()
        theta = math.radians(strength.rotation) / thick * (2 * angle[:, axis] - 1).double()
        cosine, sine = theta.cos().float(), theta.sin().float()
        turn = torch.eye(3).repeat(len(spacing), 1, 1)
        turn[:, a, a] = turn[:, b, b] = cosine
        turn[:, a, b], turn[:, b, a] = -sine, sine
        rotation = rotation @ turn
    # One common factor and a smaller one per axis; patch and volume are interchangeable here.
    power = (2 * size[:, :1] - 1) + 0.3 * (2 * size - 1)
    # In float32 a power's last bit depends on how many are computed at once.
    scale = torch.tensor(1 + strength.scale).double().pow(power.double()).float()
    flip = torch.where((mirror < 0.5) & strength.flips, -1.0, 1.0)
    if strength.planar:
        scale[:, 0] = flip[:, 0] = 1.0
    in_mm = rotation * (scale * flip)[:, None]
    return (1 / spacing)[:, :, None] * in_mm * spacing[:, None]


def elastic_amounts(
    strength: Strength, spacing: torch.Tensor, shares: torch.Tensor | None
) -> torch.Tensor:
    """Sizes (n, 3), in voxels along k, j and i, of the displacements at control points.

    Args:
        strength: Of the augmentation.
        spacing: (n, 3) mm.
        shares: (n,) of the size, with `elastic_vary`.
    """
    finest = spacing.amin(dim=1, keepdim=True) / spacing
    amount = strength.elastic * (torch.ones_like(spacing) if strength.in_voxels else finest)
    if shares is not None:
        amount = amount * shares[:, None]
    if strength.planar:
        amount[:, 0] = 0.0
    return amount


def sample_coordinates(
    centres: torch.Tensor, affines: torch.Tensor, fields: torch.Tensor | None, patch: Triple
) -> torch.Tensor:
    """Volume coordinates (n, k, j, i, 3) in voxels of the voxels of patches.

    Args:
        centres: (n, 3), of the patches, in voxels of their volumes.
        affines: (n, 3, 3), see `random_affines`.
        fields: Displacements (n, 3, *patch) in voxels, or None.
        patch: Voxels, (k, j, i).
    """
    axes = [
        torch.arange(n, dtype=torch.float32, device=centres.device) - (n - 1) / 2 for n in patch
    ]
    columns = affines[:, None, None, None].unbind(dim=-1)
    # An affine map of a regular grid is a sum of one-dimensional terms: no (n, 3) product.
    grid = (
        axes[0][:, None, None, None] * columns[0]
        + axes[1][None, :, None, None] * columns[1]
        + axes[2][None, None, :, None] * columns[2]
    )
    grid = grid + centres[:, None, None, None]
    return grid if fields is None else grid + fields.movedim(1, -1)


def relative_coordinates(coordinates: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Coordinates (n, k, j, i, 3) from -1 to 1, the outer faces of the volumes' border voxels.

    Args:
        coordinates: (n, k, j, i, 3) in voxels.
        sizes: (n, 3), voxels of the volumes.
    """
    return (2 * coordinates + 1) / sizes[:, None, None, None] - 1


def resample_image(
    image: torch.Tensor, relative: torch.Tensor, mirror: bool = False
) -> torch.Tensor:
    """Trilinear samples (n, c, *patch) of an image (c, k, j, i) at `relative_coordinates`.

    Beyond the border the image is continued with its edge, or mirrored.
    """
    return F.grid_sample(
        image.expand(len(relative), *image.shape),
        relative.flip(-1),  # grid_sample counts x first
        mode="bilinear",
        padding_mode="reflection" if mirror else "border",
        align_corners=False,
    ).contiguous()


def label_places(coordinates: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Flat indices (n, k, j, i) of the nearest voxels in their volumes; -1 beyond the border.

    Args:
        coordinates: (n, k, j, i, 3) in voxels.
        sizes: int64 (n, 3), voxels of the volumes.
    """
    index, sizes = coordinates.round().long(), sizes[:, None, None, None]
    inside = ((index >= 0) & (index < sizes)).all(dim=-1)
    k, j, i = index.unbind(dim=-1)
    flat = (k * sizes[..., 1] + j) * sizes[..., 2] + i
    return flat.where(inside, -1)


def resample_labels(labels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Labels uint8 (n, k, j, i) of a volume (k, j, i) at `label_places`; beyond it unlabelled."""
    found = labels.flatten()[places.clamp_min(0)]
    return found.masked_fill(places < 0, UNLABELLED)


def vary_intensity(
    patches: torch.Tensor,
    factors: torch.Tensor,
    shifts: torch.Tensor,
    powers: tuple[torch.Tensor, torch.Tensor],
    noise: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Changes gamma, contrast and brightness of each channel of patches, in place; adds noise.

    Args:
        patches: (n, c, k, j, i); their channels are counted as n * c rows.
        factors: (n * c,).
        shifts: (n * c,).
        powers: The rows whose gamma changes, int64 (m,), and the powers (m,).
        noise: The rows that get noise, int64 (m,), and the noise (m, k, j, i).

    Returns:
        The patches.
    """
    rows = patches.view(-1, *patches.shape[2:]).flatten(1)
    chosen, power = powers
    if len(chosen):
        x = rows.index_select(0, chosen)
        low, high = torch.aminmax(x, dim=1, keepdim=True)
        reach = (high - low).clamp_min(1e-6)
        rows.index_copy_(0, chosen, ((x - low) / reach).pow(power[:, None]) * reach + low)
    rows.mul_(factors[:, None]).add_(shifts[:, None])
    if noise is not None:
        rows.index_add_(0, noise[0], noise[1].flatten(1))
    return patches


def normal_noise(seeds: list[int], patch: Triple, device: torch.device) -> torch.Tensor:
    """Normally distributed noise (n, *patch), the same for the same seeds on the same device.

    The processor draws each row from its own seed, at no more cost; a card draws all rows at once,
    from the first.
    """
    if device.type == "cpu":
        drawn = [
            torch.randn(patch, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        return torch.stack(drawn)
    generator = torch.Generator(device).manual_seed(seeds[0])
    return torch.randn((len(seeds), *patch), generator=generator, device=device)


QUANTILES = 65


def quantiles(image: torch.Tensor) -> torch.Tensor:
    """Equally spaced quantiles (c, QUANTILES) of an image (c, k, j, i), for `match_histogram`."""
    flat = image.flatten(1)
    # torch.quantile takes at most 2^24 values; a regular sample of them is as good.
    flat = flat[:, :: max(1, flat.shape[1] // 1_000_000)]
    return torch.quantile(flat, torch.linspace(0, 1, QUANTILES, device=image.device), dim=1).T


def match_histogram(
    patches: torch.Tensor, source: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Maps patches of volumes with quantiles `source` to the quantiles of other volumes.

    Piecewise linear in between (Milletari 2016, section 4.1).

    Args:
        patches: (n, c, k, j, i).
        source: (n, c, QUANTILES).
        target: (n, c, QUANTILES).
    """
    x = patches.flatten(0, 1).flatten(1).contiguous()
    a, b = source.flatten(0, 1).contiguous(), target.flatten(0, 1)
    above = torch.searchsorted(a, x).clamp(1, QUANTILES - 1)
    low = a.gather(1, above - 1)
    width = (a.gather(1, above) - low).clamp_min(1e-12)
    share = ((x - low) / width).clamp(0, 1)
    return torch.lerp(b.gather(1, above - 1), b.gather(1, above), share).view(patches.shape)

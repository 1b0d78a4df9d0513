"""Random patches: crop, affine and elastic deformation are one resampling on the device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...annotation.composition import UNLABELLED
from ..plan import Strength
from .deformation import bspline_field, control_cells, random_controls


def random_affine(
    strength: Strength, spacing: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Draws a matrix from patch offsets to volume offsets, both in voxels (k, j, i).

    The rotation and scaling act in mm, so that anisotropic voxels are not sheared.

    Args:
        strength: Of the augmentation.
        spacing: (3,) mm along k, j, i.
        generator: Of random numbers.

    Returns:
        float32 (3, 3) on the CPU.
    """
    angle, size, mirror = torch.rand((3, 3), generator=generator)
    rotation = torch.eye(3)
    for axis in range(1 if strength.planar else 3):
        a, b = (n for n in range(3) if n != axis)
        # Turning a thick slice by a large angle would only sample the same few slices obliquely.
        thick = float(spacing[[a, b]].max() / spacing[[a, b]].min())
        theta = math.radians(strength.rotation) / max(1.0, thick) * float(2 * angle[axis] - 1)
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = math.cos(theta)
        turn[a, b], turn[b, a] = -math.sin(theta), math.sin(theta)
        rotation = rotation @ turn
    # One common factor and a smaller one per axis; patch and volume are interchangeable here.
    scale = (1 + strength.scale) ** ((2 * size[0] - 1) + 0.3 * (2 * size - 1))
    flip = torch.where((mirror < 0.5) & strength.flips, -1.0, 1.0)
    if strength.planar:
        scale[0] = flip[0] = 1.0
    in_mm = rotation @ torch.diag(scale * flip)
    return torch.diag(1 / spacing) @ in_mm @ torch.diag(spacing)


def elastic_offsets(
    patch: tuple[int, int, int],
    strength: Strength,
    spacing: torch.Tensor,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> torch.Tensor | None:
    """Draws smooth displacements (k, j, i, 3) in voxels on the device; None if switched off."""
    if strength.elastic <= 0:
        return None
    finest = spacing.min() / spacing
    amount = strength.elastic * (torch.ones(3) if strength.in_voxels else finest)
    if strength.elastic_vary:
        amount = amount * torch.rand((), generator=generator)
    if strength.planar:
        amount[0] = 0.0
    cells = control_cells(patch, strength.elastic_grid)
    controls = random_controls(cells, strength.elastic_kind, amount, generator)
    return bspline_field(controls, patch, strength.elastic_grid, device)


def sample_coordinates(
    centre: torch.Tensor,
    affine: torch.Tensor,
    offsets: torch.Tensor | None,
    patch: tuple[int, int, int],
    device: torch.device,
) -> torch.Tensor:
    """Volume coordinates (k, j, i, 3) in voxels of a patch's voxels."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in patch]
    affine = affine.to(device)
    # An affine map of a regular grid is a sum of one-dimensional terms: no (n, 3) product.
    grid = (
        axes[0][:, None, None, None] * affine[:, 0]
        + axes[1][None, :, None, None] * affine[:, 1]
        + axes[2][None, None, :, None] * affine[:, 2]
    )
    grid = grid + centre.to(device)
    return grid if offsets is None else grid + offsets.to(device)


def resample_image(
    image: torch.Tensor, coordinates: torch.Tensor, mirror: bool = False
) -> torch.Tensor:
    """Trilinear samples (c, *patch) of an image (c, k, j, i).

    Beyond the border the image is continued with its edge, or mirrored.
    """
    size = torch.tensor(image.shape[1:], dtype=torch.float32, device=image.device)
    # grid_sample counts x first and puts -1 and 1 at the outer faces of the border voxels.
    grid = ((2 * coordinates + 1) / size - 1).flip(-1)
    return F.grid_sample(
        image[None],
        grid[None],
        mode="bilinear",
        padding_mode="reflection" if mirror else "border",
        align_corners=False,
    )[0]


def resample_labels(labels: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Nearest labels uint8 (*patch) of labels (k, j, i); beyond the border unlabelled."""
    index = coordinates.round().long()
    size = torch.tensor(labels.shape, device=labels.device)
    inside = ((index >= 0) & (index < size)).all(dim=-1)
    index = index.clamp_min(0).minimum(size - 1)
    flat = (index[..., 0] * labels.shape[1] + index[..., 1]) * labels.shape[2] + index[..., 2]
    found = labels.flatten()[flat.flatten()].view(flat.shape)
    return torch.where(inside, found, torch.full_like(found, UNLABELLED))


def vary_intensity(
    patch: torch.Tensor, strength: Strength, generator: torch.Generator
) -> torch.Tensor:
    """Random contrast, brightness, gamma and noise per channel of a patch (c, k, j, i)."""
    for channel in range(patch.shape[0]):
        contrast, brightness, gamma, noise = (2 * torch.rand(4, generator=generator) - 1).tolist()
        x = patch[channel]
        if strength.gamma and abs(gamma) > 0.5:  # half of the time
            low, high = torch.aminmax(x)
            reach = (high - low).clamp_min(1e-6)
            power = (1 + strength.gamma) ** (4 * (abs(gamma) - 0.75))
            x = ((x - low) / reach).pow(power) * reach + low
        x = x * (1 + strength.contrast) ** contrast + strength.brightness * brightness
        if strength.noise and noise > 0:
            seed = int(torch.randint(2**62, (), generator=generator))
            local = torch.Generator(device=x.device).manual_seed(seed)
            x = x + strength.noise * noise * torch.randn(x.shape, generator=local, device=x.device)
        patch[channel] = x
    return patch


QUANTILES = 65


def quantiles(image: torch.Tensor) -> torch.Tensor:
    """Equally spaced quantiles (c, QUANTILES) of an image (c, k, j, i), for `match_histogram`."""
    flat = image.flatten(1)
    # torch.quantile takes at most 2^24 values; a regular sample of them is as good.
    flat = flat[:, :: max(1, flat.shape[1] // 1_000_000)]
    return torch.quantile(flat, torch.linspace(0, 1, QUANTILES, device=image.device), dim=1).T


def match_histogram(
    patch: torch.Tensor, source: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Maps a patch (c, k, j, i) of a volume with quantiles `source` to those of another volume.

    Both (c, QUANTILES); piecewise linear in between (Milletari 2016, section 4.1).
    """
    out = torch.empty_like(patch)
    for channel, (a, b) in enumerate(zip(source, target, strict=True)):
        x = patch[channel].contiguous()
        above = torch.searchsorted(a.contiguous(), x).clamp(1, len(a) - 1)
        width = (a[above] - a[above - 1]).clamp_min(1e-12)
        share = ((x - a[above - 1]) / width).clamp(0, 1)
        out[channel] = torch.lerp(b[above - 1], b[above], share)
    return out

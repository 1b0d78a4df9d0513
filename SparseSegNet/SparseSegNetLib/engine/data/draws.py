"""The random numbers of a batch of patches, drawn on the host, and what they mean for the device.

They are drawn patch by patch from one generator on the CPU, so that a seed gives the same patches
on every device and a checkpoint resumes them; the arithmetic is then done for all patches at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ...annotation.geometry import Triple
from ..plan import Plan, Strength
from . import augmentation as aug
from .deformation import control_cells, random_controls
from .preprocessing import WorkingVolume

# A drawn voxel lands at most this share of half a patch away from the patch's centre, so that
# the network sees something of its surroundings.
JITTER = 0.75


@dataclass
class Draws:
    """Random numbers of patches, in the order in which they were drawn.

    Attributes:
        numbers: Of the volumes.
        voxels: (k, j, i) around which the patches lie.
        axes: The axis of the volume that each axis of the patch follows.
        affines: Uniform (3, 3), see `augmentation.random_affines`.
        shares: Of the displacements' size.
        controls: Displacements at the control points, of unit size.
        places: Uniform (3,), of the voxel in the patch.
        targets: Numbers of the volumes whose histogram is matched.
        intensities: Uniform (c, 4) from -1 to 1: contrast, brightness, gamma and noise.
        seeds: Of the noise of each channel; None where there is none.
    """

    numbers: list[int] = field(default_factory=list)
    voxels: list[Triple] = field(default_factory=list)
    axes: list[Triple] = field(default_factory=list)
    affines: list[torch.Tensor] = field(default_factory=list)
    shares: list[torch.Tensor] = field(default_factory=list)
    controls: list[torch.Tensor] = field(default_factory=list)
    places: list[torch.Tensor] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    intensities: list[torch.Tensor] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)

    def geometry(
        self, number: int, voxel: Triple, axes: Triple, plan: Plan, generator: torch.Generator
    ) -> None:
        """Draws where a patch lies and how it is deformed, see the attributes."""
        strength = plan.strength
        self.numbers.append(number)
        self.voxels.append(voxel)
        self.axes.append(axes)
        self.affines.append(torch.rand((3, 3), generator=generator))
        if strength.elastic > 0:
            if strength.elastic_vary:
                self.shares.append(torch.rand((), generator=generator))
            cells = control_cells(plan.patch, strength.elastic_grid)
            self.controls.append(random_controls(cells, strength.elastic_kind, generator))
        self.places.append(torch.rand(3, generator=generator))

    def intensity(self, channels: int, strength: Strength, generator: torch.Generator) -> None:
        """Draws how the intensities of the channels of a patch change."""
        for _ in range(channels):
            row = 2 * torch.rand(4, generator=generator) - 1
            self.intensities.append(row)
            noisy = strength.noise and float(row[3]) > 0
            self.seeds.append(int(torch.randint(2**62, (), generator=generator)) if noisy else None)


def placed(draws: Draws, volumes: Sequence[WorkingVolume], plan: Plan) -> dict[str, torch.Tensor]:
    """Places patches in their volumes, and says how they are deformed.

    Args:
        draws: Their random numbers.
        volumes: That they are drawn from.
        plan: The plan.

    Returns:
        On the CPU: 'centres' (n, 3) and 'affines' (n, 3, 3) in voxels; 'sizes' int64 (n, 3) of the
        volumes; with a deformation 'controls' (n, 3, ck, cj, ci) in voxels, and 'fixed' int64 (n,),
        flat index of the voxel of the patch that is not moved.
    """
    axes = torch.tensor(draws.axes)
    rows = torch.arange(len(axes))[:, None]
    sizes = torch.tensor([volumes[n].shape for n in draws.numbers])
    spacing = torch.stack([volumes[n].spacing for n in draws.numbers]).gather(1, axes)
    # The patch's axes may be the volume's in another order: the first lies across the slice.
    along = aug.random_affines(plan.strength, spacing, torch.stack(draws.affines))
    affines = torch.empty_like(along)
    affines[rows, axes] = along
    voxels = torch.tensor(draws.voxels, dtype=torch.float32)
    centres = _centres(voxels, affines, axes, sizes.float(), torch.stack(draws.places), plan)
    found = {"centres": centres, "affines": affines, "sizes": sizes}
    if not draws.controls:
        return found
    shares = torch.stack(draws.shares) if draws.shares else None
    amounts = aug.elastic_amounts(plan.strength, spacing, shares)
    moves = torch.stack(draws.controls) * amounts[:, :, None, None, None]
    controls = torch.empty_like(moves)
    controls[rows, axes] = moves
    # The drawn voxel stays where it was put, however strong the deformation.
    size = torch.tensor(plan.patch)
    at = _solved(affines, voxels - centres).double() + (size - 1) / 2
    k, j, i = at.round().long().clamp_min(0).minimum(size - 1).unbind(dim=1)
    fixed = (k * plan.patch[1] + j) * plan.patch[2] + i
    return found | {"controls": controls, "fixed": fixed}


def _centres(
    voxels: torch.Tensor,
    affines: torch.Tensor,
    axes: torch.Tensor,
    sizes: torch.Tensor,
    uniform: torch.Tensor,
    plan: Plan,
) -> torch.Tensor:
    """Centres (n, 3) of patches, in voxels of the volumes, so that the voxels lie inside."""
    half = torch.tensor([(n - 1) / 2 for n in plan.output])
    reach = half * JITTER
    if plan.strength.translation is not None:
        reach = reach.clamp_max(plan.strength.translation)
    offsets = (2 * uniform - 1) * reach
    centres = voxels - (affines @ offsets[:, :, None])[:, :, 0]
    # Prefer a patch that does not hang over the border, where there is nothing to learn from.
    low = torch.minimum(half[axes.argsort(dim=1)], (sizes - 1) / 2)
    inner = torch.maximum(torch.minimum(centres, sizes - 1 - low), low)
    offsets = _solved(affines, voxels - inner)
    inside = (offsets.abs() <= half * JITTER + 0.5).all(dim=1, keepdim=True)
    return torch.where(inside, inner, centres)


def _solved(matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(matrices, vectors[:, :, None])[:, :, 0]


def varied(draws: Draws, strength: Strength) -> dict[str, torch.Tensor]:
    """Changes of the intensities of patches, channel by channel, for `augmentation.vary_intensity`.

    Args:
        draws: Random numbers of the patches.
        strength: Of the augmentation.

    Returns:
        On the CPU, rows counting patches and channels: 'factors' and 'shifts' of each row;
        'changed' int64 and 'powers', the rows whose gamma changes; 'noisy' int64 and 'noise', the
        rows that get noise and its standard deviation.
    """
    contrast, brightness, gamma, noise = torch.stack(draws.intensities).double().unbind(dim=1)
    # Gamma changes half of the time.
    often = gamma.abs() > 0.5 if strength.gamma else torch.zeros_like(gamma, dtype=torch.bool)
    noisy = torch.tensor([seed is not None for seed in draws.seeds])
    changed = torch.nonzero(often)[:, 0]
    return {
        "factors": ((1 + strength.contrast) ** contrast).float(),
        "shifts": (strength.brightness * brightness).float(),
        "changed": changed,
        "powers": ((1 + strength.gamma) ** (4 * (gamma[changed].abs() - 0.75))).float(),
        "noisy": torch.nonzero(noisy)[:, 0],
        "noise": (strength.noise * noise[noisy]).float(),
    }

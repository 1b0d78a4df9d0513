"""Presets: the networks to choose from, their tiles and kernels.

Without torch, so that a wrong choice is refused before anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..annotation.geometry import Triple
from ..errors import InputError

LONGEST_SIDE = 1 << 14  # voxels


@dataclass(frozen=True)
class Preset:
    """A network with a published recipe, or `auto`.

    Attributes:
        name: The name to choose it by.
        title: Short description.
        source: The publication that describes it.
        tile: Input of the network, (k, j, i) voxels; None if it is made for the volume.
        multiple: A side of the tile is `offset` + a multiple of `multiple`.
        offset: See `multiple`.
        least: Smallest side of the tile.
        lost: Voxels by which the output is shorter along each side (valid convolutions).
        width: Channels of the first level.
        kernels: The kernel sizes to choose from, the published one first.
        batch_norm: It has a batch normalisation that can be left out.
        planar: It works on single slices: its tile has one voxel along k.
    """

    name: str
    title: str
    source: str
    tile: Triple | None
    multiple: int = 1
    offset: int = 0
    least: int = 1
    lost: int = 0
    width: int = 32
    kernels: tuple[int, ...] = (3,)
    batch_norm: bool = True
    planar: bool = False

    def check_tile(self, tile: Triple) -> None:
        """Raises InputError, which names the nearest tile, if the network cannot take this one."""
        if not all(1 <= n <= LONGEST_SIDE for n in tile):
            raise InputError(
                f"the network {self.name} cannot take a tile of {times(tile)[:80]} "
                f"voxels: give sides from 1 to {LONGEST_SIDE}."
            )
        nearest = tuple(
            self._nearest(n) if not (self.planar and axis == 0) else 1
            for axis, n in enumerate(tile)
        )
        if nearest != tuple(tile):
            rule = f"sides of at least {self.least} voxels" + (
                f" that leave {self.offset} when divided by {self.multiple}"
                if self.offset
                else f" that are multiples of {self.multiple}"
            )
            also = ", and 1 along the last axis" if self.planar else ""
            raise InputError(
                f"the network {self.name} cannot take a tile of {times(tile)} "
                f"voxels: it needs {rule}{also}. The nearest is {times(nearest)}."
            )

    def _nearest(self, n: int) -> int:
        steps = round((n - self.offset) / self.multiple)
        least = -(-(self.least - self.offset) // self.multiple)
        return self.offset + self.multiple * max(steps, least)


def times(triple: Sequence[int]) -> str:
    """Formats a (k, j, i) triple as people write it, along i, j and k: 132x132x116."""
    return "x".join(str(n) for n in reversed(triple))


PRESETS = {
    p.name: p
    for p in (
        Preset("auto", "residual U-Net that adapts to the volume", "SparseSegNet", None),
        # 132x132x116 voxels along x, y, z. The network would take 92, too, but then tiles cannot
        # follow each other in steps of its poolings (8 voxels), and seams would show.
        Preset(
            "unet3d",
            "3D U-Net, valid convolutions",
            "Çiçek et al. 2016, MICCAI",
            (116, 132, 132),
            multiple=8,
            offset=4,
            least=100,
            lost=88,
        ),
        Preset(
            "fcn3d",
            "3D FCN for multi-organ CT, same padding",
            "Roth et al. 2018",
            (64, 64, 64),
            multiple=8,
            least=16,
        ),
        Preset(
            "vnet",
            "V-Net, residual stages, strided convolutions",
            "Milletari et al. 2016, 3DV",
            (64, 128, 128),
            multiple=16,
            least=16,
            width=16,
            kernels=(5, 3),
            batch_norm=False,
        ),
        Preset(
            "unet2d",
            "2D U-Net on single slices, the baseline of the 3D U-Net paper",
            "Ronneberger et al. 2015 in the layout of Çiçek et al. 2016",
            (1, 188, 188),
            multiple=8,
            offset=4,
            least=100,
            lost=88,
            planar=True,
        ),
    )
}


def preset(name: str) -> Preset:
    """Preset of this name.

    Raises:
        InputError: There is none.
    """
    if name not in PRESETS:
        raise InputError(f"unknown network '{name}': choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]

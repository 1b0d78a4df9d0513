"""Dense prediction by tiles: overlapping and blended, or seamless with valid convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F

from ...annotation.geometry import Triple
from ...annotation.slices import AnnotatedSlice, array_axis
from ...runfolder.presets import times
from ..compute.boxes import halved
from ..compute.memory import retry_smaller
from ..data.preprocessing import WorkingVolume, grid_positions
from ..plan import Plan
from ..scoring.calibration import calibrated

Step = Callable[[float], None]


def tile_starts(size: int, tile: int, overlap: float, period: int = 0) -> list[int]:
    """First voxels of the tiles that cover an axis.

    Args:
        size: Voxels to cover.
        tile: Voxels of a tile.
        overlap: Share of a tile that it has in common with the next, at least.
        period: Tiles start at multiples of it only, and the last may reach beyond the volume. With
            the period of a network's poolings, valid convolutions give a voxel the same value in
            whatever tile it lies, so that tiles meet without a seam (Ronneberger 2015, figure 2).
    """
    if tile >= size:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    if period:
        step = step // period * period or step
    count = -(-(size - tile) // step) + 1
    if period:
        return [n * step for n in range(count)]
    return [round(n * (size - tile) / (count - 1)) for n in range(count)]


def plan_starts(plan: Plan, size: Sequence[int], tile: Sequence[int]) -> list[list[int]]:
    """`tile_starts` along k, j and i, as a plan's network needs them.

    Args:
        plan: The plan.
        size: Voxels to cover, (k, j, i).
        tile: Output of the network for a tile, (k, j, i).
    """
    periods = plan.divisor if any(plan.margin) else (0, 0, 0)
    return [tile_starts(n, t, plan.overlap, d) for n, t, d in zip(size, tile, periods, strict=True)]


def blending_weights(tile: Triple, device: torch.device) -> torch.Tensor:
    """A separable Gaussian bump (k, j, i), 1 in the middle, small but never 0 at the edge."""
    weights = torch.ones((), device=device)
    for n in tile:
        x = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) / (n / 8)
        weights = weights[..., None] * torch.exp(-0.5 * x**2)
    return weights.clamp_min(1e-3)  # as a whole, like MONAI's: tiles then give the same labels


class Predictor:
    """Applies a network to a working volume, tile by tile, as its plan says.

    Memory on the device is bounded by one tile's activations; the probabilities of the region
    are gathered in float32 on the CPU.

    Args:
        network: Gives logits.
        classes: Labels with background.
        plan: Of the training.
        smaller: Called with the new tile (k, j, i) when memory ran out.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        classes: int,
        plan: Plan,
        smaller: Callable[[Triple], None] = lambda tile: None,
    ):
        self.network, self.classes, self.plan, self.smaller = network, classes, plan, smaller

    def probabilities(
        self,
        volume: WorkingVolume,
        low: Sequence[int] = (0, 0, 0),
        high: Sequence[int] | None = None,
        step: Step | None = None,
    ) -> torch.Tensor:
        """Predicts class probabilities float32 (classes, k, j, i) of the box [low, high).

        Where memory runs out, it begins again with smaller tiles.

        Args:
            volume: The working volume.
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i); None for the end of the volume.
            step: Called before each tile with the share done, 0 to 1; it may raise to stop.
        """
        high = volume.shape if high is None else tuple(high)
        work = self._by_planes if self.plan.planar else self._tiled
        return self._recovering(work, volume, low, high, step)

    def _recovering(
        self, work: Callable[..., torch.Tensor], volume: WorkingVolume, *arguments
    ) -> torch.Tensor:
        def smaller() -> str | None:
            tile = None if any(self.plan.margin) else halved(self.plan.tile, self.plan.divisor)
            if tile is None:
                return None
            self.plan = replace(self.plan, tile=tile)
            self.smaller(tile)
            return f"tiles of {times(tile)} voxels"

        return retry_smaller(
            lambda: work(volume, *arguments),
            smaller,
            lambda said: None,
            volume.image.device,
            "predicting",
        )

    def slice_labels(self, volume: WorkingVolume, item: AnnotatedSlice) -> torch.Tensor:
        """Predicts the labels (two axes, in array order) of one slice."""
        return self.slice_probabilities(volume, item).argmax(dim=0)

    def slice_probabilities(self, volume: WorkingVolume, item: AnnotatedSlice) -> torch.Tensor:
        """Predicts class probabilities (classes, two axes) of one slice, from its surroundings too.

        A network that works on slices sees this slice alone, in its own plane.
        """
        axis = array_axis(item.axis)
        low, high = [0, 0, 0], list(volume.shape)
        depth = 1
        if not self.plan.planar and not any(self.plan.margin):
            # Padding would be all that the network saw beside a tile one voxel thick.
            depth = min(self.plan.patch[axis], volume.shape[axis])
        low[axis] = min(max(0, item.index - depth // 2), volume.shape[axis] - depth)
        high[axis] = low[axis] + depth
        if self.plan.planar:
            found = self._recovering(
                lambda v, *box: self._in_plane(v, axis, *box, None), volume, low, high
            )
        else:
            found = self._recovering(self._tiled, volume, low, high, None)
        return found.select(axis + 1, item.index - low[axis])

    def _by_planes(
        self, volume: WorkingVolume, low: Sequence[int], high: Sequence[int], step: Step | None
    ) -> torch.Tensor:
        """Slice by slice, averaged over the axes along which slices are annotated."""
        across = sorted({array_axis(s.axis) for s in volume.slices}) or [0, 1, 2]
        total = torch.zeros((self.classes, *(b - a for a, b in zip(low, high, strict=True))))
        for n, axis in enumerate(across):

            def part(share: float, n: int = n) -> None:
                if step:
                    step((n + share) / len(across))

            total += self._in_plane(volume, axis, low, high, part)
        return total / len(across)

    def _in_plane(
        self,
        volume: WorkingVolume,
        axis: int,
        low: Sequence[int],
        high: Sequence[int],
        step: Step | None,
    ) -> torch.Tensor:
        order = (axis, *(a for a in range(3) if a != axis))
        turned = replace(
            volume,
            image=volume.image.permute(0, *(a + 1 for a in order)),
            labels=volume.labels.permute(order),
        )
        found = self._tiled(turned, [low[a] for a in order], [high[a] for a in order], step)
        return found.permute(0, *(order.index(a) + 1 for a in range(3)))

    @torch.inference_mode()
    def _tiled(
        self, volume: WorkingVolume, low: Sequence[int], high: Sequence[int], step: Step | None
    ) -> torch.Tensor:
        plan = self.plan
        if any(plan.margin):
            # The network takes tiles of certain sizes only, and its statistics are the tile's.
            tile = tuple(t - 2 * m for t, m in zip(plan.tile, plan.margin, strict=True))
            # In step with the poolings of a prediction of the whole volume.
            outside = [a % d for a, d in zip(low, plan.divisor, strict=True)]
            if any(outside):
                low = [a - o for a, o in zip(low, outside, strict=True)]
                found = self._tiled(volume, low, high, step)
                return found[(slice(None), *(slice(o, None) for o in outside))]
        size = [b - a for a, b in zip(low, high, strict=True)]
        if not any(plan.margin):
            tile = tuple(
                min(t, max(p, -(-n // d) * d))
                for t, n, d, p in zip(
                    plan.tile,
                    size,
                    plan.divisor,
                    plan.patch if plan.mirror else plan.divisor,
                    strict=True,
                )
            )
        starts = list(product(*plan_starts(plan, size, tile)))
        if len(starts) == 1:
            if step:
                step(0.0)
            return self._tile(volume, low, tile)[:, : size[0], : size[1], : size[2]].cpu()
        weights = blending_weights(tile, volume.image.device)
        total = torch.zeros((self.classes, *size))
        norm = torch.zeros(size)
        for n, start in enumerate(starts):
            if step:
                step(n / len(starts))
            at = [a + s for a, s in zip(low, start, strict=True)]
            found = (self._tile(volume, at, tile) * weights).cpu()
            fit = [min(t, n - s) for t, n, s in zip(tile, size, start, strict=True)]
            inside = tuple(slice(0, f) for f in fit)
            box = tuple(slice(s, s + f) for s, f in zip(start, fit, strict=True))
            total[(slice(None), *box)] += found[(slice(None), *inside)]
            norm[box] += weights[inside].cpu()
        return total.div_(norm)

    def _tile(self, volume: WorkingVolume, start: Sequence[int], tile: Triple) -> torch.Tensor:
        """Probabilities (classes, *tile) of the box of that size at `start`."""
        plan, device = self.plan, volume.image.device
        pixels = volume.image
        indices = [
            torch.arange(s - m, s + t + m, device=device)
            for s, t, m in zip(start, tile, plan.margin, strict=True)
        ]
        for axis, index in enumerate(indices):
            first, last, n = int(start[axis]) - plan.margin[axis], len(index), volume.shape[axis]
            if first >= 0 and first + last <= n:
                pixels = pixels.narrow(axis + 1, first, last)
            else:
                pixels = pixels.index_select(axis + 1, within(index, n, plan.mirror))
        pixels = pixels[None]
        if plan.position:
            pixels = torch.cat((pixels, grid_positions(indices, volume.shape)[None]), dim=1)
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        dtype = getattr(torch, plan.dtype)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = self.network(pixels)
        return logits[0].float().softmax(dim=0)


def within(index: torch.Tensor, n: int, mirror: bool) -> torch.Tensor:
    """Brings indices into 0..n-1: mirrored at the volume's faces (Cicek 2016), or clamped."""
    if not mirror:
        return index.clamp(0, n - 1)
    index = index % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)


def finish(
    probabilities: torch.Tensor,
    shape: Triple,
    exponent: torch.Tensor | None = None,
    planes: int = 16,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes labels and uncertainty on the original grid, a few planes at a time.

    Args:
        probabilities: float32 (classes, k, j, i) on the working grid.
        shape: Original grid (k, j, i).
        exponent: float32 (k, j, i) on the working grid, calibrates the uncertainty; None leaves it
            as it is. Labels do not depend on it.
        planes: Planes at a time.

    Returns:
        Labels uint8, and uncertainty uint8 (255 where the two likeliest classes are equally
        likely, 0 where one is certain), both of `shape`.
    """
    coarse = tuple(probabilities.shape[1:])
    labels = torch.empty(shape, dtype=torch.uint8)
    uncertainty = torch.empty(shape, dtype=torch.uint8)
    for first in range(0, shape[0], planes):
        last = min(first + planes, shape[0])
        part = (
            _enlarge(probabilities, shape, first, last)
            if coarse != tuple(shape)
            else probabilities[:, first:last]
        )
        top = part.topk(2, dim=0)
        labels[first:last] = top.indices[0].to(torch.uint8)
        if exponent is not None:
            power = (
                _enlarge(exponent[None], shape, first, last)[0]
                if coarse != tuple(shape)
                else exponent[first:last]
            )
            top = calibrated(part, power).topk(2, dim=0)
        margin = (top.values[0] - top.values[1]).clamp(0, 1)
        uncertainty[first:last] = (255 * (1 - margin)).round().to(torch.uint8)
    return labels, uncertainty


def _enlarge(probabilities: torch.Tensor, shape: Triple, first: int, last: int) -> torch.Tensor:
    """Trilinear enlargement of the planes first..last-1 alone; keeps the centres' positions."""
    coarse = probabilities.shape[1]
    at = (torch.arange(first, last, dtype=torch.float32) + 0.5) * coarse / shape[0] - 0.5
    below = at.floor().clamp(0, coarse - 1).long()
    above = (below + 1).clamp_max(coarse - 1)
    share = (at - below).clamp(0, 1)[None, :, None, None]
    rows = probabilities[:, below] * (1 - share) + probabilities[:, above] * share
    return (
        F.interpolate(rows, size=shape[1:], mode="bilinear", align_corners=False)
        if tuple(rows.shape[2:]) != tuple(shape[1:])
        else rows
    )

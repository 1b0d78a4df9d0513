"""Dense prediction by tiles: overlapping and blended, or seamless with valid convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F

from ...annotation.geometry import Triple, triple
from ...annotation.slices import AnnotatedSlice, array_axis
from ...runfolder.presets import times
from ..compute.boxes import halved
from ..compute.memory import retry_smaller
from ..compute.number_formats import computing_in
from ..data.preprocessing import Part, WorkingVolume, grid_positions
from ..plan import Plan
from ..scoring.calibration import calibrated
from .tiling import blending_weights, plan_starts, within

Step = Callable[[float], None]
Box = tuple[Triple, Triple]  # first voxel and the one after the last, (k, j, i)


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

    def within_whole(
        self,
        volume: WorkingVolume,
        low: Sequence[int],
        high: Sequence[int],
        step: Step | None = None,
    ) -> torch.Tensor:
        """Predicts the box [low, high) as it is in the prediction of the whole volume.

        The tiles lie where they lie for the whole, so that the box has the same bits. The volume
        has to hold `reach` of it.

        Args:
            volume: The working volume, or a part of it.
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i).
            step: As for `probabilities`.
        """
        work = self._by_planes if self.plan.planar else self._tiled
        return work(volume, (0, 0, 0), volume.shape, step, (triple(low), triple(high)))

    def reach(self, shape: Triple, low: Sequence[int], high: Sequence[int]) -> Box:
        """The box of a volume of that shape (k, j, i) that `within_whole` looks at."""
        plan, first, last = self.plan, list(low), list(high)
        # Of slices along any axis, and of their tiles, each as the first of a tile's axes.
        for axis in range(3) if plan.planar else [0]:
            order = (axis, *(a for a in range(3) if a != axis))
            size = [shape[a] for a in order]
            tile = self._tile_for(size)
            for a, t, margin, starts in zip(
                order, tile, plan.margin, plan_starts(plan, size, tile), strict=True
            ):
                for start in starts:
                    if start < high[a] and start + t > low[a]:
                        seen = torch.arange(start - margin, start + t + margin)
                        seen = within(seen, shape[a], plan.mirror)
                        first[a] = min(first[a], int(seen.min()))
                        last[a] = max(last[a], int(seen.max()) + 1)
        return triple(first), triple(last)

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
        self,
        volume: WorkingVolume,
        low: Sequence[int],
        high: Sequence[int],
        step: Step | None,
        wanted: Box | None = None,
    ) -> torch.Tensor:
        """Slice by slice, averaged over the axes along which slices are annotated."""
        across = sorted({array_axis(s.axis) for s in volume.slices}) or [0, 1, 2]
        begin, end = wanted or (low, high)
        total = torch.zeros((self.classes, *(b - a for a, b in zip(begin, end, strict=True))))
        for n, axis in enumerate(across):

            def part(share: float, n: int = n) -> None:
                if step:
                    step((n + share) / len(across))

            total += self._in_plane(volume, axis, low, high, part, wanted)
        return total / len(across)

    def _in_plane(
        self,
        volume: WorkingVolume,
        axis: int,
        low: Sequence[int],
        high: Sequence[int],
        step: Step | None,
        wanted: Box | None = None,
    ) -> torch.Tensor:
        order = (axis, *(a for a in range(3) if a != axis))

        def moved(values: Sequence[int]) -> Triple:
            return triple(values[a] for a in order)

        part = volume.part
        turned = replace(
            volume,
            image=volume.image.permute(0, *(a + 1 for a in order)),
            labels=volume.labels.permute(order),
            part=None if part is None else Part(moved(part.first), moved(part.whole)),
        )
        box = None if wanted is None else (moved(wanted[0]), moved(wanted[1]))
        found = self._tiled(turned, moved(low), moved(high), step, box)
        return found.permute(0, *(order.index(a) + 1 for a in range(3)))

    @torch.inference_mode()
    def _tiled(
        self,
        volume: WorkingVolume,
        low: Sequence[int],
        high: Sequence[int],
        step: Step | None,
        wanted: Box | None = None,
    ) -> torch.Tensor:
        plan = self.plan
        if any(plan.margin) and wanted is None:
            # In step with the poolings of a prediction of the whole volume.
            outside = [a % d for a, d in zip(low, plan.divisor, strict=True)]
            if any(outside):
                low = [a - o for a, o in zip(low, outside, strict=True)]
                found = self._tiled(volume, low, high, step)
                return found[(slice(None), *(slice(o, None) for o in outside))]
        size = [b - a for a, b in zip(low, high, strict=True)]
        tile = self._tile_for(size)
        begin, end = wanted or (low, high)
        places = [
            [a + s for s in starts]
            for a, starts in zip(low, plan_starts(plan, size, tile), strict=True)
        ]
        alone = all(len(along) == 1 for along in places)
        work = list(
            product(
                *(
                    [s for s in along if s < b and s + t > a]
                    for along, t, a, b in zip(places, tile, begin, end, strict=True)
                )
            )
        )
        weights = blending_weights(tile, volume.image.device)
        total = torch.zeros((self.classes, *(b - a for a, b in zip(begin, end, strict=True))))
        norm = torch.zeros(total.shape[1:])
        for n, at in enumerate(work):
            if step:
                step(n / len(work))
            inside, box = [], []
            for s, t, a, b in zip(at, tile, begin, end, strict=True):
                first, last = max(s, a), min(s + t, b)
                inside.append(slice(first - s, last - s))
                box.append(slice(first - a, last - a))
            found = self._tile(volume, at, tile)
            if alone:  # nothing is blended
                return found[(slice(None), *inside)].cpu()
            found = (found * weights).cpu()
            total[(slice(None), *box)] += found[(slice(None), *inside)]
            norm[tuple(box)] += weights[tuple(inside)].cpu()
        return total.div_(norm)

    def _tile_for(self, size: Sequence[int]) -> Triple:
        """Output of the network for the tiles of a box of that size."""
        plan = self.plan
        if any(plan.margin):
            # The network takes tiles of certain sizes only, and its statistics are the tile's.
            return triple(t - 2 * m for t, m in zip(plan.tile, plan.margin, strict=True))
        least = plan.patch if plan.mirror else plan.divisor
        return triple(
            min(t, max(p, -(-n // d) * d))
            for t, n, d, p in zip(plan.tile, size, plan.divisor, least, strict=True)
        )

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
                pixels = pixels.narrow(axis + 1, first - volume.first[axis], last)
            else:
                at = within(index, n, plan.mirror) - volume.first[axis]
                pixels = pixels.index_select(axis + 1, at)
        pixels = pixels[None]
        if plan.position:
            pixels = torch.cat((pixels, grid_positions(indices, volume.shape)[None]), dim=1)
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        with computing_in(device, plan.dtype):
            logits = self.network(pixels)
        return logits[0].float().softmax(dim=0)


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

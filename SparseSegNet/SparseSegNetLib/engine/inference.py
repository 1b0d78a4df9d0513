"""Dense prediction by overlapping tiles with Gaussian blending."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .preprocess import WorkingVolume, position_channels

Triple = tuple[int, int, int]

OVERLAP = 0.25  # of a tile with its neighbour, at least


def tile_starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxels of tiles that cover `size` voxels and overlap by at least that share."""
    if tile >= size:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(size - tile) // step) + 1
    return [round(n * (size - tile) / (count - 1)) for n in range(count)]


def blending_weights(tile: Triple, device: torch.device) -> torch.Tensor:
    """A separable Gaussian bump (k, j, i), 1 in the middle, small but never 0 at the edge."""
    weights = torch.ones((), device=device)
    for n in tile:
        x = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) / (n / 8)
        weights = weights[..., None] * torch.exp(-0.5 * x**2).clamp_min(1e-3)
    return weights


class Predictor:
    """Applies a network to a working volume, tile by tile.

    tile: (k, j, i) voxels, multiples of `divisor`.  dtype: of the convolutions.
    Memory on the device is bounded by one tile's activations; the probabilities of the region
    are gathered in float32 on `gather` (the CPU unless told otherwise).
    """

    def __init__(self, network: torch.nn.Module, classes: int, tile: Triple, divisor: Triple,
                 position: bool, dtype: torch.dtype, overlap: float = OVERLAP):
        self.network, self.classes, self.position = network, classes, position
        self.tile, self.divisor, self.dtype, self.overlap = tile, divisor, dtype, overlap

    @torch.inference_mode()
    def probabilities(self, volume: WorkingVolume, low: Sequence[int] = (0, 0, 0),
                      high: Sequence[int] | None = None,
                      step: Callable[[float], None] | None = None) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i) of the box [low, high).

        step: called before each tile with the share done, 0 to 1; it may raise to break off.
        """
        high = volume.shape if high is None else tuple(high)
        size = [b - a for a, b in zip(low, high, strict=True)]
        tile = tuple(min(t, -(-n // d) * d)
                     for t, n, d in zip(self.tile, size, self.divisor, strict=True))
        starts = [(k, j, i) for k in tile_starts(size[0], tile[0], self.overlap)
                  for j in tile_starts(size[1], tile[1], self.overlap)
                  for i in tile_starts(size[2], tile[2], self.overlap)]
        if len(starts) == 1:
            if step:
                step(0.0)
            return self._tile(volume, low, tile)[:, :size[0], :size[1], :size[2]].cpu()
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
        """Probabilities (classes, *tile) of the tile at `start`; beyond the volume its edge."""
        device = volume.image.device
        stop = [min(s + t, n) for s, t, n in zip(start, tile, volume.shape, strict=True)]
        pixels = volume.image[(slice(None), *(slice(a, b)
                                              for a, b in zip(start, stop, strict=True)))][None]
        missing = [t - (b - a) for t, a, b in zip(tile, start, stop, strict=True)]
        if any(missing):
            pixels = F.pad(pixels, (0, missing[2], 0, missing[1], 0, missing[0]), "replicate")
        if self.position:
            axes = [torch.arange(s, s + t, dtype=torch.float32, device=device)
                    for s, t in zip(start, tile, strict=True)]
            at = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
            pixels = torch.cat((pixels, position_channels(at, volume.shape)[None]), dim=1)
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(pixels)
        return logits[0].float().softmax(dim=0)


def finish(probabilities: torch.Tensor, shape: Triple,
           planes: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and uncertainty on the original grid, a few planes at a time.

    probabilities: float32 (classes, k, j, i) on the working grid.  shape: original (k, j, i).
    Returns labels uint8 and uncertainty uint8 (255 where the two likeliest classes are equally
    likely, 0 where one is certain), both of `shape`.
    """
    coarse = tuple(probabilities.shape[1:])
    labels = torch.empty(shape, dtype=torch.uint8)
    uncertainty = torch.empty(shape, dtype=torch.uint8)
    for first in range(0, shape[0], planes):
        last = min(first + planes, shape[0])
        part = _enlarge(probabilities, shape, first, last) if coarse != tuple(shape) \
            else probabilities[:, first:last]
        top = part.topk(2, dim=0)
        labels[first:last] = top.indices[0].to(torch.uint8)
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
    return F.interpolate(rows, size=shape[1:], mode="bilinear", align_corners=False) \
        if tuple(rows.shape[2:]) != tuple(shape[1:]) else rows

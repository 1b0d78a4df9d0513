"""Labels of annotated slices propagated through the volume by registering neighbouring slices.

Demons (Thirion 1998, with symmetric forces) in two dimensions between neighbouring slices, all
pairs of an axis at once on the device. The fields depend on the image alone, so they are computed
once, and labels can be propagated along them for any choice of slices.

Errors add up from slice to slice. Therefore the image of the annotated slice is propagated along
with its labels, and what arrives from several slices counts by how alike the images are around a
voxel: locally weighted label fusion (Artaechevarria 2009, IEEE TMI 28, 1266).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ...annotation.slices import AnnotatedSlice, array_axis

SCALES = (4, 2, 1)
STEPS = (20, 20, 10)
SMOOTH = 1.5  # voxels of the current scale: standard deviation of the fields' smoothing
BATCH_PIXELS = 1_000_000
NEAR = 0.5
# Standard deviations of the image: where a patch differs by so much, labels count e times less.
ALIKE = 0.3
LEAST_LIKENESS = 1e-6
SMALLEST = 16  # pixels: no coarser than that


def _gaussian(fields: torch.Tensor) -> torch.Tensor:
    x = torch.arange(-4, 5, dtype=torch.float32, device=fields.device)
    kernel = torch.exp(-0.5 * (x / SMOOTH) ** 2)
    kernel = (kernel / kernel.sum()).repeat(fields.shape[1], 1)
    for form, pad in (
        (kernel[:, None, :, None], (0, 0, 4, 4)),
        (kernel[:, None, None, :], (4, 4, 0, 0)),
    ):
        fields = F.conv2d(F.pad(fields, pad, "replicate"), form, groups=fields.shape[1])
    return fields


def warp(images: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """Samples images (n, c, h, w) at x + field(x); fields (n, 2, h, w) in pixels along h, w."""
    height, width = fields.shape[2:]
    y = torch.arange(height, dtype=torch.float32, device=fields.device)[:, None] + fields[:, 0]
    x = torch.arange(width, dtype=torch.float32, device=fields.device) + fields[:, 1]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _enlarged(field: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A field on a finer grid over the same extent, in its pixels."""
    ratio = field.new_tensor([n / m for n, m in zip(size, field.shape[2:], strict=True)])
    field = F.interpolate(field, size=tuple(size), mode="bilinear", align_corners=False)
    return field * ratio[:, None, None]


def likeness(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Compares images (n, c, h, w) in patches of 3 x 3 pixels; (n, 1, h, w), 1 where equal."""
    differences = ((images - others) ** 2).mean(dim=1, keepdim=True)
    patches = F.avg_pool2d(F.pad(differences, (1, 1, 1, 1), "replicate"), 3, 1)
    return torch.exp(-patches / ALIKE**2).clamp_min(LEAST_LIKENESS)


def _slopes(images: torch.Tensor) -> list[torch.Tensor]:
    """Derivatives of images (n, c, h, w) along h and w; 0 along an axis of one pixel."""
    return [
        torch.gradient(images, dim=axis)[0] if images.shape[axis] > 1 else torch.zeros_like(images)
        for axis in (2, 3)
    ]


def register(fixed: torch.Tensor, moving: torch.Tensor, finest: int = 1) -> torch.Tensor:
    """Registers images by demons: moving(x + field(x)) becomes like fixed(x).

    Args:
        fixed: float32 (n, c, h, w).
        moving: float32 (n, c, h, w).
        finest: The finest of SCALES that is worked at.

    Returns:
        Fields (n, 2, h, w) in pixels along h, w.
    """
    field = None
    for scale, steps in zip(SCALES, STEPS, strict=True):
        if scale < finest or (scale > finest and min(fixed.shape[2:]) < SMALLEST * scale):
            continue
        # A plane may be thinner than the scale: along such an axis there is less to reduce.
        pooling = [min(scale, n) for n in fixed.shape[2:]]
        a, b = (F.avg_pool2d(t, pooling) if scale > 1 else t for t in (fixed, moving))
        if field is None:
            field = torch.zeros((len(a), 2, *a.shape[2:]), device=a.device)
        else:
            field = _enlarged(field, a.shape[2:])
        own = _slopes(a)
        for _ in range(steps):
            moved = warp(b, field)
            other = _slopes(moved)
            difference = a - moved
            slope = torch.stack([(p + q) / 2 for p, q in zip(own, other, strict=True)], dim=1)
            strength = (slope**2).sum(dim=1) + difference**2
            push = difference[:, None] * slope / strength.clamp_min(1e-3)[:, None]
            field = _gaussian(field + push.mean(dim=2))
    return _enlarged(field, fixed.shape[2:])


class Propagation:
    """Propagates labels of annotated slices through one volume.

    Args:
        image: float32 (c, k, j, i), normalised, on the device.
        spacing: mm along k, j, i.
        axes: Along which slices are annotated.
        finest: As in `register`.
        step: Called with the share done while the slices are registered; it may raise to stop.
    """

    def __init__(
        self,
        image: torch.Tensor,
        spacing: tuple[float, float, float],
        axes: Sequence[int] = (0, 1, 2),
        finest: int = 1,
        step: Callable[[float], None] = lambda share: None,
    ):
        self.shape, self.spacing, self._image = tuple(image.shape[1:]), spacing, image
        self._fields: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for number, axis in enumerate(axes):
            planes = image.movedim(axis + 1, 0)
            up, down = [], []
            size = max(1, BATCH_PIXELS // planes[0].numel())
            for first in range(0, len(planes) - 1, size):
                step((number + first / len(planes)) / len(axes))
                here = planes[first : min(first + size, len(planes) - 1)]
                following = planes[first + 1 : first + 1 + len(here)]
                up.append(register(following, here, finest))
                down.append(register(here, following, finest))
            empty = image.new_zeros((0, 2, *planes.shape[2:]))
            self._fields[axis] = (torch.cat(up or [empty]), torch.cat(down or [empty]))

    def propagate(
        self, labels: torch.Tensor, slices: list[AnnotatedSlice], classes: int
    ) -> torch.Tensor:
        """Class probabilities float32 (classes, k, j, i), propagated from the slices.

        Where labels of several slices arrive they are averaged with weights that fall with the
        distance and rise with the likeness of the images.

        Args:
            labels: uint8 (k, j, i), complete in the slices, on the image's device.
            slices: The complete ones.
            classes: Labels with background.
        """
        device = labels.device
        known = torch.where(labels < classes, labels, 0).long()
        total = torch.zeros((classes, *self.shape), device=device)
        weights = torch.zeros(self.shape, device=device)
        for axis, (up, down) in self._fields.items():
            at = sorted(s.index for s in slices if array_axis(s.axis) == axis)
            if not at:
                continue
            size = self.shape[axis]
            step = self.spacing[axis] / min(self.spacing)
            found, weight = total.movedim(axis + 1, 0), weights.movedim(axis, 0)
            planes = self._image.movedim(axis + 1, 0)
            drawn = [F.one_hot(known.select(axis, n), classes).movedim(-1, 0).float() for n in at]
            for n, plane in zip(at, drawn, strict=True):
                found[n] += plane * NEAR**-2
                weight[n] += NEAR**-2
            start = torch.cat((planes[at], torch.stack(drawn)), dim=1)
            ends = [*at[1:], size], [-1, *at[:-1]]
            for fields, sign, stops in ((up, 1, ends[0]), (down, -1, ends[1])):
                # Fields are composed, so that image and labels are interpolated once alone.
                whole, alive = fields.new_zeros((len(at), *fields.shape[1:])), list(range(len(at)))
                for distance in range(1, size):
                    keep = [
                        m
                        for m, a in enumerate(alive)
                        if (stops[a] - at[a] - sign * distance) * sign > 0
                    ]
                    if not keep:
                        break
                    alive = [alive[m] for m in keep]
                    places = [at[a] + sign * distance for a in alive]
                    last = fields[[p - 1 if sign > 0 else p for p in places]]
                    whole = last + warp(whole[keep], last)
                    arrived, here = warp(start[alive], whole), planes[places]
                    share = likeness(arrived[:, : len(self._image)], here)
                    share *= (distance * step + NEAR) ** -2
                    found[places] += arrived[:, len(self._image) :] * share
                    weight[places] += share[:, 0]
        return total / weights.clamp_min(1e-12)

"""The plan of the network `auto`, made from the data's fingerprint."""

from __future__ import annotations

from dataclasses import replace

from ...annotation.geometry import Triple
from ..compute.boxes import box_within, round_up
from ..plan import Fingerprint, Plan

# An axis counts as thick, and is neither pooled nor convolved across, while its spacing is at
# least this many times the finest one (nnU-Net's rule, Isensee 2021, uses 2 for pooling).
THICK = 2.0
SMALLEST_FEATURE = 4  # voxels along an axis at the coarsest level
MOST_LEVELS = 5
# Voxels per patch and patches per step: on few cores many small patches teach more per second
# than few large ones (docs/lab/ablation.md).
BATCHES = {"cpu": (16**3, 32), "cuda": (48**3, 12), "mps": (32**3, 8)}
TILE_VOXELS = 128**3  # per tile of the prediction


def make_plan(
    fingerprint: Fingerprint,
    device: str = "cpu",
    width: int = 16,
    shape: Triple | None = None,
    patches: tuple[int, int] | None = None,
) -> Plan:
    """Makes a plan before anything was measured.

    Args:
        fingerprint: Of the first annotated volume.
        device: Its type, such as 'cpu'.
        width: Channels at the finest level.
        shape: The working grid (k, j, i), else the volume's.
        patches: Voxels of a patch and patches per step, else those usual on the device.
    """
    shape = shape or fingerprint.shape
    patch_voxels, batch = patches or BATCHES[device]
    spacing = fingerprint.spacing_on(shape)
    patch = box_within(shape, spacing, patch_voxels)
    strides, kernels = levels(patch, spacing)
    # What priors and shallow model say is scored out of fold; only a fold that is not dear is
    # held out from the network too.
    share = (
        held_out_share(fingerprint.slices)
        if not fingerprint.priors or fingerprint.slices >= 5
        else 0.0
    )
    plan = Plan(
        shape,
        spacing,
        patch,
        patch,
        strides,
        kernels,
        width,
        batch,
        held_out_share=share,
        priors=fingerprint.priors,
    )
    return replace(
        plan,
        patch=round_up(patch, plan.divisor),
        tile=round_up(box_within(shape, spacing, TILE_VOXELS), plan.divisor),
    )


def levels(patch: Triple, spacing: tuple[float, ...]) -> tuple[tuple, tuple]:
    """Strides between levels and kernel size per level for a patch (k, j, i)."""
    size, mm = list(patch), list(spacing)
    strides, kernels = [], [_kernel(size, mm)]
    while len(kernels) < MOST_LEVELS:
        able = [n // 2 >= SMALLEST_FEATURE for n in size]
        if not any(able):
            break
        finest = min(s for s, a in zip(mm, able, strict=True) if a)
        stride = [2 if a and s < THICK * finest else 1 for s, a in zip(mm, able, strict=True)]
        size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
        mm = [a * s for a, s in zip(mm, stride, strict=True)]
        strides.append(tuple(stride))
        kernels.append(_kernel(size, mm))
    return tuple(strides), tuple(kernels)


def _kernel(size: list[int], mm: list[float]) -> Triple:
    finest = min(mm)
    return tuple(1 if n < 2 or s >= THICK * finest else 3 for n, s in zip(size, mm, strict=True))


def held_out_share(slices: int) -> float:
    """Share of the training time during which slices can be held out for a validation score.

    With three or four slices every one is dear, so the score is only taken early; with fewer
    there is none.
    """
    return 0.0 if slices < 3 else 0.35 if slices < 5 else 0.6

"""The form of a plan in a file, which may be damaged or a stranger's."""

from __future__ import annotations

from ...runfolder.forms import ValidationError, choice, flag, number, record, rows, whole
from ...runfolder.presets import PRESETS
from ..compute.losses import LOSSES

LARGEST_TILE = 512**3  # voxels
SIZES = rows(whole(1, 1 << 20), 3, 3)
PLAN = record(
    {
        "shape": SIZES,
        "patch": SIZES,
        "tile": SIZES,
        "batch": whole(1, 1 << 16),
        "spacing": rows(number(1e-12), 3, 3),
        "width": whole(1, 1 << 12),
        "strides": rows(SIZES, 0, 16),
        "kernels": rows(SIZES, 1, 17),
    },
    {
        "network": choice(*PRESETS),
        "loss": choice(*LOSSES),
        "dtype": choice("bfloat16", "float16", "float32"),
        "optimiser": choice("adamw", "adam", "sgd"),
        "norm": choice("batch", "tile", "none"),
        "margin": rows(whole(0, 1 << 12), 3, 3),
        "overlap": number(0, 0.9),
        "position": flag(),
        "priors": flag(),
        "mirror": flag(),
    },
)


def check_plan(plan: dict, where: str = "plan") -> None:
    """Checks a plan as JSON.

    Raises:
        ValidationError: It has another form.
    """
    PLAN(plan, where)
    if len(plan["kernels"]) != len(plan["strides"]) + 1:
        raise ValidationError(f"{where}.kernels", "one more than strides", len(plan["kernels"]))
    margin = plan.get("margin", (0, 0, 0))
    if any(2 * m >= min(n, t) for m, n, t in zip(margin, plan["patch"], plan["tile"], strict=True)):
        raise ValidationError(f"{where}.margin", "less than half of patch and tile", margin)

"""The table of scores in `report.png`."""

from __future__ import annotations

INK, FAINT = "#22262b", "#8a929b"


def draw_table(box, names, colors, scores: dict | None) -> None:
    """IoU and Dice per segment on the voxels that were not annotated."""
    box.axis("off")
    box.set_xlim(0, 1)
    box.set_ylim(1, 0)
    box.set_title("on voxels not annotated" if scores else "segments", fontsize=10, pad=6)
    lines = min(len(names), 14)
    step = min(0.115, 0.8 / max(lines + 2, 1))
    size = 10 if step > 0.08 else 8
    if scores:
        for x, head in ((0.8, "IoU"), (1.0, "Dice")):
            box.text(x, 0.04, head, ha="right", va="center", color=FAINT, fontsize=size)
    for n, (name, color) in enumerate(list(zip(names, colors, strict=True))[:lines]):
        y = 0.04 + (n + 1) * step
        box.plot([0.0, 0.05], [y, y], color=color, lw=5, solid_capstyle="butt")
        box.text(0.08, y, shortened(name, 22), va="center", fontsize=size)
        if scores:
            _numbers(box, y, scores.get(name, {}), size)
    if scores and len(names) > 1:
        y = 0.04 + (lines + 1.3) * step
        box.plot([0, 1], [y - 0.62 * step] * 2, color=FAINT, lw=0.8)
        box.text(0.08, y, "mean", va="center", fontsize=size, fontweight="bold")
        average = {k: mean_score([s.get(k) for s in scores.values()]) for k in ("iou", "dice")}
        _numbers(box, y, average, size, "bold")


def _numbers(box, y, row: dict, size: float, weight: str = "normal") -> None:
    for x, key in ((0.8, "iou"), (1.0, "dice")):
        value = row.get(key)
        box.text(
            x,
            y,
            "-" if value is None else f"{value:.3f}",
            ha="right",
            va="center",
            fontsize=size,
            fontweight=weight,
        )


def mean_score(values) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"

"""The reliability diagram of a report: how often the likeliest class is right."""

from __future__ import annotations

from report_table import FAINT, INK

BEFORE, AFTER = "#c2703d", "#1a7f5a"
FEWEST = 20  # voxels of a bin that is shown


def draw_reliability(box, score: dict | None) -> None:
    """Draw the diagrams before and after calibration; score: of the run, see runfolder.score."""
    # The axis' own label would lie on that of the diagram beside it.
    box.set_title("share that is right, out of fold", fontsize=10, pad=6)
    for side in ("top", "right"):
        box.spines[side].set_visible(False)
    box.set_xlim(0.3, 1)
    box.set_ylim(0.3, 1.02)
    box.set_aspect("equal")
    box.set_xlabel("probability of the likeliest class")
    if score is None:
        box.text(0.65, 0.66, "no score", ha="center", color=FAINT)
        return
    box.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (3, 3)))
    for name, color, mark in (("before", BEFORE, "s"), ("after", AFTER, "o")):
        found = score["reliability"][name]
        points = [
            (c, a)
            for n, c, a in zip(found["voxels"], found["confidence"], found["accuracy"], strict=True)
            if n >= FEWEST
        ]
        if points:
            label = f"{name}: error {found['error']:.3f}"
            box.plot(
                *zip(*points, strict=True), color=color, marker=mark, ms=4, lw=1.6, label=label
            )
    # Short enough to lie beside the curves, whose lower ends are on the left.
    about = {"frameon": False, "fontsize": 8, "labelcolor": INK, "handlelength": 1.4}
    box.legend(loc="lower right", title="calibration", title_fontsize=8, **about)

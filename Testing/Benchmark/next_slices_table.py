"""Tables of `next_slices.py`: IoU by number of slices, slices that are needed, per strategy."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

REFERENCE = "even"  # whose last IoU the number of slices that are needed refers to


def table(rows: list[dict], share: float) -> str:
    """Markdown; means over the cases and seeds that all strategies have at that number of slices.

    Args:
        rows: As `next_slices.rounds` gives them.
        share: Of the IoU that even spacing reaches in the end.
    """
    found: dict[str, dict[tuple, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    effort: dict[str, dict[tuple, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        run = row["case"], row["seed"]
        found[row["strategy"]][run][row["count"]] = row["mean_iou"]
        effort[row["strategy"]][run][row["count"]] = row["contour"]
    strategies = list(found)
    counts = sorted({row["count"] for row in rows})
    lines = ["| slices | " + " | ".join(strategies) + " | runs |"]
    lines.append("|---" * (len(strategies) + 2) + "|")
    for count in counts:
        both = _shared(found, strategies, count)
        if both:
            cells = [f"{np.mean([found[s][run][count] for run in both]):.3f}" for s in strategies]
            lines.append(f"| {count} | " + " | ".join(cells) + f" | {len(both)} |")
    return "\n".join([*lines, "", *_needed(found, effort, strategies, share)])


def _shared(found: dict, strategies: list[str], count: int) -> list[tuple]:
    """Runs that all strategies have at a number of slices."""
    runs = [{run for run, by in found[s].items() if count in by} for s in strategies]
    return sorted(set.intersection(*runs)) if runs else []


def _needed(found: dict, effort: dict, strategies: list[str], share: float) -> list[str]:
    """Slices, and contours in thousands of edges, until the share is reached, per case and mean.

    Where it is never reached one slice more than the last counts, which '>' says.
    """
    if REFERENCE not in found:
        return []
    lines = [
        f"Slices (thousands of edges of contour) until {100 * share:g} % of the last IoU of "
        f"{REFERENCE}:",
        "",
        "| case | " + " | ".join(strategies) + " |",
        "|---" * (len(strategies) + 1) + "|",
    ]
    every: dict[str, list[float]] = defaultdict(list)
    by_case: dict[str, dict[str, list[tuple[float, float, bool]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run, reference in found[REFERENCE].items():
        if any(run not in found[s] for s in strategies):
            continue
        wanted = share * reference[max(reference)]
        for strategy in strategies:
            iou = found[strategy][run]
            good = [count for count in sorted(iou) if iou[count] >= wanted]
            needed = good[0] if good else max(iou) + 1
            drawn = effort[strategy][run][min(needed, max(iou))] / 1000
            by_case[run[0]][strategy].append((needed, drawn, bool(good)))
            every[strategy].append(needed)
    for case, own in by_case.items():
        cells = []
        for strategy in strategies:
            needed, drawn, good = zip(*own[strategy], strict=True)
            mark = "" if all(good) else ">"
            cells.append(f"{mark}{np.mean(needed):.1f} ({np.mean(drawn):.1f})")
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    means = [f"{np.mean(every[s]):.1f}" if every[s] else "-" for s in strategies]
    return [*lines, "| **mean** | " + " | ".join(means) + " |"]

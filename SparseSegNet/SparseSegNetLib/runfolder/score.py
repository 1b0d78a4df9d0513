"""The expected score of a run's result, as both processes read and write it, and as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..annotation.geometry import Geometry
from ..suggestion.anatomy import axis_words
from .forms import Form, choice, flag, number, optional, record, rows, whole

# From here on the border is where it would be drawn; more slices would change little.
AS_DRAWN = 0.95
WORTH = 0.01  # IoU: less is not worth drawing slices for
LAST = 3  # newly drawn slices that are named
CURVE = 5  # numbers of slices whose scores are named

SHARE = optional(number(0, 1))


def score_form(segments: int) -> Form:
    """Form of the score of a run with so many segments."""
    numbers = rows(SHARE, segments, segments)
    place = {"axis": choice("i", "j", "k"), "index": whole(0)}
    segment = record(
        {
            "slices": whole(0),
            "iou": SHARE,
            "low": SHARE,
            "high": SHARE,
            "dice": SHARE,
            "near": SHARE,
            "folds": SHARE,
            "plug_in": SHARE,
            "near_folds": SHARE,
            "near_plug_in": SHARE,
            "uncovered": number(0, 1),
        }
    )
    counts = rows(whole(0))
    shares = rows(number(0, 1))
    diagram = record(
        {"voxels": counts, "confidence": shares, "accuracy": shares, "error": number(0, 1)}
    )
    return record(
        {
            "slices": whole(0),
            "segments": rows(segment, segments, segments),
            "calibration": record({"level": number(), "slope": number(), "middle": number()}),
            "reliability": record({"before": diagram, "after": diagram}),
            "gains": rows(
                record({"axis": choice("i", "j", "k"), "slices": whole(1), "iou": number(-1, 1)})
            ),
            "drawn": rows(record(place)),
            "new_slices": rows(record({**place, "iou": numbers, "prefilled": flag()})),
            "history": rows(record({"slices": whole(0), "iou": numbers})),
        }
    )


def score_lines(score: dict | None, names: Sequence[str], geometry: Geometry) -> list[str]:
    """The score as sentences for the user.

    Args:
        score: As `Outputs.read_score` gives it.
        names: Of the segments.
        geometry: The volume's grid, by which slices are called axial, coronal or sagittal.

    Returns:
        The expected IoU of the segments; what stands out; how it grew with the slices; what more
        are likely worth; how the last new ones were predicted. Nothing without a score.
    """
    if score is None:
        return []
    found = [_segments(score, names)]
    exact = _exact(score, names)
    if exact:
        found.append(
            f"Nearly all of the border of {', '.join(exact)} is expected within one voxel: about "
            "as exact as it can be drawn."
        )
    far = [
        f"{100 * one['uncovered']:.0f} % of {name}"
        for name, one in zip(names, score["segments"], strict=True)
        if one["uncovered"] >= 0.1 and one["iou"] is not None
    ]
    if far:
        found.append(
            f"{', '.join(far)} lie farther from your slices than anything that could be checked."
        )
    if curve := _history(score["history"]):
        found.append(curve)
    if gain := worth(score, names, geometry):
        found.append(gain)
    if score["new_slices"]:
        found.append(_new_slices(score["new_slices"]))
    return found


def _segments(score: dict, names: Sequence[str]) -> str:
    parts = []
    for name, one in zip(names, score["segments"], strict=True):
        if one["iou"] is not None:
            parts.append(f"{name} {one['iou']:.2f} ({one['low']:.2f} to {one['high']:.2f})")
        elif one["slices"] == 0:
            parts.append(f"{name}: not drawn yet")
        elif one["slices"] == 1:
            parts.append(f"{name}: draw it in one more slice")
        else:
            parts.append(f"{name}: its slices lie too near to each other to be checked")
    return "; ".join(parts)


def _exact(score: dict, names: Sequence[str]) -> list[str]:
    """The segments whose border is expected where it would be drawn."""
    return [
        name
        for name, one in zip(names, score["segments"], strict=True)
        if one["near"] is not None and one["near"] >= AS_DRAWN and one["iou"] is not None
    ]


def worth(score: dict | None, names: Sequence[str], geometry: Geometry) -> str:
    """The likely worth of more slices, as a sentence; '' where it is unknown.

    Args:
        score: As for `score_lines`.
        names: Of the segments.
        geometry: The volume's grid.
    """
    if score is None:
        return ""
    exact = _exact(score, names) == list(names)
    words = axis_words(geometry)
    if not score["gains"] or any(one["slices"] < 2 for one in score["segments"]):
        return ""
    best = max(score["gains"], key=lambda gain: gain["iou"])
    if exact or best["iou"] < WORTH:
        return "More slices are likely to change little: enough is drawn."
    number = {1: "one", 2: "two", 3: "three"}.get(best["slices"], str(best["slices"]))
    return (
        f"{number.capitalize()} more {words[best['axis']].plane} slices are likely to raise the "
        f"mean IoU by {best['iou']:.2f}."
    )


def _history(history: Sequence[dict]) -> str:
    """The volume's own learning curve, of the segments that have a score all along."""
    last = history[-CURVE:]
    rows = [one["iou"] for one in last]
    always = [all(v is not None for v in column) for column in zip(*rows, strict=True)]
    if len(last) < 2 or not any(always):
        return ""
    parts = []
    for one in last:
        known = [v for v, whole in zip(one["iou"], always, strict=True) if whole]
        parts.append(f"{sum(known) / len(known):.2f} with {one['slices']}")
    return f"So far: expected mean IoU {', '.join(parts)} slices."


def _new_slices(slices: Sequence[dict]) -> str:
    last = slices[-LAST:]
    parts = []
    for one in last:
        known = [v for v in one["iou"] if v is not None]
        mean = f"{sum(known) / len(known):.2f}" if known else "nothing there"
        parts.append(mean + (" (began from the prediction)" if one["prefilled"] else ""))
    what = "Your last slice" if len(last) == 1 else f"Your last {len(last)} slices"
    return f"{what}, as predicted before you drew: {', '.join(parts)}."

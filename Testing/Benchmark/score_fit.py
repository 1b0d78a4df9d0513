"""The fit of `score_intervals.py`: best estimates and quantiles, each case judged by the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SparseSegNetLib.engine.scoring.interval import best_line, interval_between, logit

SLICES = (3, 5, 8, 13)
QUANTILES = (0.1, 0.9)
RIDGE = 1.0  # holds the weights to those of the mean of both estimates
LEAST = 0.1  # logits, of an end of an interval
FEWEST = 20  # residuals of a quantile; else those of all numbers of slices


@dataclass
class Fit:
    """Fitted constants, see engine/scoring/interval_table.py."""

    intercept: float
    weights: tuple[float, float]
    low: tuple[float, ...]
    high: tuple[float, ...]
    near_intercept: float
    near_weights: tuple[float, float]
    decay: float


def _line(pairs: np.ndarray, truth: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Intercept and weights, not negative, of logits."""
    best = None
    for used in ((0, 1), (1,), (0,)):
        columns = np.column_stack((np.ones(len(pairs)), pairs[:, used]))
        start = np.array([0.0, *([0.5, 0.5] if len(used) == 2 else [1.0])])
        hold = np.diag([0.0, *[RIDGE] * len(used)])
        found = start + np.linalg.solve(
            columns.T @ columns + hold, columns.T @ (truth - columns @ start)
        )
        if (found[1:] >= 0).all():
            weights = [0.0, 0.0]
            for place, value in zip(used, found[1:], strict=True):
                weights[place] = float(value)
            best = float(found[0]), (weights[0], weights[1])
            break
    assert best is not None
    return best


def _logits(rows: list[dict], *names: str) -> np.ndarray:
    return np.array([[logit(row[name]) for name in names] for row in rows])


def fit(rows: list[dict]) -> Fit:
    """Fits all constants on rows of `score_intervals.measured`.

    Quantiles are of residuals of the same rows, and so too narrow for other cases: both are widened
    until they hold the share that they should of cases that were left out.
    """
    plain = [row for row in rows if not row["beside"]]
    found = _quantiles(plain)
    held = []
    for case in {row["case"] for row in plain}:
        known = _quantiles([row for row in plain if row["case"] != case])
        for row in (r for r in plain if r["case"] == case):
            place = SLICES.index(row["slices"])
            held.append((_residual(row, known), known[2][place], known[3][place]))
    # How much wider each of them would have to be to hold its residual.
    wider = [value / (high if value > 0 else low) for value, low, high in held]
    scale = max(1.0, float(np.quantile(wider, QUANTILES[1] - QUANTILES[0])))
    intercept, weights, low, high = found
    bordered = [r for r in plain if None not in (r["near_folds"], r["near_plug_in"])]
    borders = _logits(bordered, "near_folds", "near_plug_in")
    near = _line(borders, _logits(bordered, "true_near")[:, 0])
    return Fit(
        intercept,
        weights,
        tuple(scale * v for v in low),
        tuple(scale * v for v in high),
        *near,
        _decay(plain),
    )


def _quantiles(rows: list[dict]) -> tuple[float, tuple[float, float], list[float], list[float]]:
    """Intercept, weights, and the quantiles of the residuals for each number of slices."""
    truth, pairs = _logits(rows, "true")[:, 0], _logits(rows, "folds", "plug_in")
    intercept, weights = _line(pairs, truth)
    residuals = truth - (intercept + pairs @ np.array(weights))
    slices = np.array([row["slices"] for row in rows])
    low, high = [], []
    for count in SLICES:
        own = residuals[slices == count]
        own = own if len(own) >= FEWEST else residuals
        # Each end on its own side, or the interval would not hold its estimate.
        low.append(min(-LEAST, float(np.quantile(own, QUANTILES[0]))))
        high.append(max(LEAST, float(np.quantile(own, QUANTILES[1]))))
    # More slices do not make an estimate worse, whatever a few residuals say.
    low = np.minimum.accumulate(low[::-1])[::-1].tolist()
    high = np.maximum.accumulate(high[::-1])[::-1].tolist()
    return intercept, weights, low, high


def _residual(row: dict, known: tuple) -> float:
    intercept, weights, *_ = known
    pair = (logit(row["folds"]), logit(row["plug_in"]))
    return logit(row["true"]) - intercept - sum(w * v for w, v in zip(weights, pair, strict=True))


def _decay(rows: list[dict]) -> float:
    """Exponent of the mean learning curve: 1 - IoU by the number of slices."""
    keys = {(r["case"], r["segment"]) for r in rows}
    full = [
        key
        for key in keys
        if {r["slices"] for r in rows if (r["case"], r["segment"]) == key} >= set(SLICES)
    ]
    lost = [
        np.mean(
            [1 - r["true"] for r in rows if r["slices"] == n and (r["case"], r["segment"]) in full]
        )
        for n in SLICES
    ]
    return float(-np.polyfit(np.log(SLICES), np.log(lost), 1)[0])


def report(rows: list[dict]) -> str:
    """Markdown: bias, mean absolute error, coverage, each case by a fit of the others."""
    judged = []
    for case in sorted({row["case"] for row in rows}):
        known = fit([row for row in rows if row["case"] != case])
        for row in rows:
            if row["case"] == case:
                pair = row["folds"], row["plug_in"]
                best = best_line(*pair, known.intercept, known.weights)
                ends = interval_between(best, row["slices"], SLICES, (known.low, known.high))
                judged.append({**row, "best": best, "ends": ends})
    lines = [
        "| slices | rows | true IoU | pooled | folds | plug-in | best | inside 80 % | width |",
        "|---" * 9 + "|",
    ]
    for beside in (0, 1):
        for count in SLICES:
            own = [r for r in judged if r["slices"] == count and bool(r["beside"]) == beside]
            if own:
                lines.append(_row(f"{count}{' + corrections' if beside else ''}", own))
    every = [r for r in judged if not r["beside"]]
    lines += ["", f"Decay of 1 - IoU: slices to the power of -{fit(rows).decay:.2f}."]
    before, after = (np.mean([r[k] for r in every]) for k in ("error_before", "error_after"))
    return "\n".join([*lines, f"Expected calibration error {before:.3f}, calibrated {after:.3f}."])


def _row(name: str, own: list[dict]) -> str:
    truth = np.array([r["true"] for r in own])
    cells = []
    for key in ("pooled", "folds", "plug_in", "best"):
        away = np.array([r[key] for r in own]) - truth
        cells.append(f"{away.mean():+.3f} / {np.abs(away).mean():.3f}")
    inside = np.mean([r["ends"][0] <= r["true"] <= r["ends"][1] for r in own])
    width = np.mean([r["ends"][1] - r["ends"][0] for r in own])
    parts = [name, str(len(own)), f"{truth.mean():.3f}", *cells, f"{inside:.2f}", f"{width:.2f}"]
    return f"| {' | '.join(parts)} |"


def table_file(found: Fit) -> str:
    """The text of interval_table.py."""

    def numbers(values: tuple[float, ...]) -> str:
        return f"({', '.join(f'{v:.3f}' for v in values)})"

    return f'''"""Residuals of estimated IoUs; made by Testing/Benchmark/score_intervals.py."""

# Of the logits of the two estimates: from the folds, and from calibrated probabilities.
INTERCEPT = {found.intercept:.3f}
WEIGHTS = {numbers(found.weights)}
# Numbers of annotated slices, and the 10 % and 90 % quantiles of the residuals in logits.
SLICES = {SLICES}
LOW = {numbers(found.low)}
HIGH = {numbers(found.high)}
# 1 - IoU falls with the number of slices to the power of minus this.
DECAY = {found.decay:.2f}
# As INTERCEPT and WEIGHTS, for the share of the border within one voxel.
NEAR_INTERCEPT = {found.near_intercept:.3f}
NEAR_WEIGHTS = {numbers(found.near_weights)}
'''

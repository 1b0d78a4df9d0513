"""`report.png`: one picture of a case, its annotation, its result, its scores and its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter, zoom

from report_reliability import draw_reliability
from report_table import FAINT, INK, draw_table, shortened
from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import array_axis
from surface import render_surface

PLANES = {"k": "xy", "j": "xz", "i": "yz"}
MARK = "#ff3b6b"  # annotated planes: a colour that no default segment has
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
}


def write_report(
    path: Path | str,
    *,
    image: np.ndarray,
    labels: np.ndarray,
    sparse: np.ndarray,
    slices: Sequence,
    names: Sequence[str],
    colors: Sequence,
    spacing: Sequence[float],
    truth: np.ndarray | None = None,
    directions: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    history: Sequence[dict] = (),
    scores: dict | None = None,
    expected: dict | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draw the report.

    image, labels (result), sparse (255 = unlabelled), truth: (k, j, i).  slices: the annotated
    ones.  colors: RGB per segment.  spacing: mm along i, j, k.  directions: LPS, as in Geometry;
    views are turned as radiologists expect them (superior and anterior up, patient's left on the
    right).  history: the run's metrics (seconds, loss, phase, held_out_dice).  scores: per
    segment name, iou and dice.  expected: the run's expected score.
    """
    matrix = np.reshape(directions, (3, 3))[:, ::-1]  # columns now in array order (k, j, i)
    main = np.abs(matrix).argmax(axis=0)  # 0 left, 1 posterior, 2 superior
    flip = tuple(a for a in range(3) if matrix[main[a], a] < 0)
    image, labels, sparse = (np.flip(x, flip) for x in (image, labels, sparse))
    truth = None if truth is None else np.flip(truth, flip)
    turned = [_Turned(s, array_axis(s.axis) in flip, image.shape) for s in slices]
    upward = [axis == 2 for axis in main]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(15, 11.6), dpi=110, facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.025, 0.975, title, fontsize=16, fontweight="bold", va="center")
        figure.text(0.025, 0.948, subtitle, fontsize=10.5, color=FAINT, va="center")
        window = np.percentile(image, (1, 99.7))
        upper = figure.add_gridspec(
            1,
            2,
            left=0.025,
            right=0.985,
            top=0.905,
            bottom=0.335,
            width_ratios=[3, 1.15],
            wspace=0.05,
        )
        _slice_rows(
            figure, upper[0], image, labels, truth, turned, colors, spacing, window, upward, flip
        )
        _surface(figure.add_subplot(upper[1]), labels, spacing, colors)
        lower = figure.add_gridspec(
            1,
            4,
            left=0.025,
            right=0.985,
            top=0.285,
            bottom=0.055,
            width_ratios=[0.95, 1.4, 0.8, 1.2],
            wspace=0.32,
        )
        _annotated(
            figure.add_subplot(lower[0]), image, sparse, turned, colors, spacing, window, upward
        )
        _curves(figure.add_subplot(lower[1]), history)
        draw_reliability(figure.add_subplot(lower[2]), expected)
        draw_table(figure.add_subplot(lower[3]), names, colors, scores)
        handles = [
            Line2D([], [], color=c, lw=2.5, label=shortened(n, 26))
            for n, c in zip(names, colors, strict=True)
        ]
        if slices:
            handles.append(
                Line2D([], [], color=MARK, lw=1.4, ls=(0, (4, 3)), label="annotated slice")
            )
        figure.legend(
            handles=handles,
            loc="upper right",
            bbox_to_anchor=(0.985, 0.985),
            ncols=min(6, -(-len(handles) // 2)) if len(handles) > 4 else len(handles),
            frameon=False,
            fontsize=9.5,
            handlelength=1.8,
            columnspacing=1.6,
        )
        figure.savefig(path)


class _Turned:
    """An annotated slice in the turned arrays, which remembers the index it is known by."""

    def __init__(self, item, flipped: bool, shape):
        self.axis, self.original = item.axis, item.index
        self.index = shape[array_axis(item.axis)] - 1 - item.index if flipped else item.index

    def selector(self) -> tuple:
        return (slice(None),) * array_axis(self.axis) + (self.index,)


def choose_slice(labels: np.ndarray, axis: str, annotated: set[int]) -> int:
    """The index along `axis` that shows most of the object and was not annotated; between equals
    the one furthest from annotated slices."""
    along = array_axis(axis)
    found = np.count_nonzero(labels, axis=tuple(a for a in range(3) if a != along)).astype(float)
    kinds = sum(
        (labels == v).any(axis=tuple(a for a in range(3) if a != along)).astype(float)
        for v in np.unique(labels[labels > 0])
    )
    score = (found / max(found.max(), 1)) * (1 + kinds)
    index = np.arange(len(score))
    # The middle of the object says more than its rim.
    hit = np.flatnonzero(found)
    if len(hit):
        score = score * (1.2 - np.abs(2 * (index - hit[0]) / max(1, np.ptp(hit)) - 1).clip(0, 1))
    if annotated:
        distance = np.abs(index[:, None] - np.array(sorted(annotated))[None]).min(axis=1)
        score = score * np.minimum(distance / 3, 1.0)
        if len(annotated) == len(score):
            score = found
        else:
            score[sorted(annotated)] = -1
    return int(score.argmax())


def _slice_rows(
    figure, cell, image, labels, truth, slices, colors, spacing, window, upward, flip
) -> None:
    """Three orthogonal slices: result above, truth (or the plain image) below."""
    shown = labels if truth is None else np.maximum(labels, truth)
    mm = spacing[::-1]
    planes = {axis: tuple(a for a in range(3) if a != array_axis(axis)) for axis in "kji"}
    extents = {
        axis: (image.shape[c] * mm[c], image.shape[r] * mm[r]) for axis, (r, c) in planes.items()
    }
    # Columns as wide as the views need at one height; extreme shapes are kept from taking all.
    widths = [min(max(w / h, 0.6), 1.8) for w, h in extents.values()]
    cells = cell.subgridspec(2, 3, width_ratios=widths, wspace=0.06, hspace=0.12)
    for n, (axis, (rows, columns)) in enumerate(planes.items()):
        index = choose_slice(shown, axis, {s.index for s in slices if s.axis == axis})
        number = image.shape[array_axis(axis)] - 1 - index if array_axis(axis) in flip else index
        for m, (source, what) in enumerate(((labels, "result"), (truth, "ground truth"))):
            box = figure.add_subplot(cells[m, n])
            _picture(box, image, array_axis(axis), index, extents[axis], window)
            if source is not None:
                _contours(box, np.take(source, index, array_axis(axis)), colors, extents[axis])
            if m == 0:
                _marks(box, slices, rows, columns, image.shape, extents[axis])
            name = what if source is not None else "image"
            box.set_title(f"{name}, {PLANES[axis]} plane {axis} = {number}", fontsize=10, pad=4)
            if upward[rows]:
                box.invert_yaxis()


def _picture(box, image, along, index, extent, window) -> None:
    box.imshow(
        np.take(image, index, along),
        cmap="gray",
        vmin=window[0],
        vmax=max(window[1], window[0] + 1e-9),
        extent=(0, extent[0], extent[1], 0),
        interpolation="bilinear",
        aspect="equal",
    )
    box.set_xticks([])
    box.set_yticks([])
    for side in box.spines.values():
        side.set_visible(False)
    box.set_xlim(0, extent[0])
    box.set_ylim(extent[1], 0)


def _contours(box, plane: np.ndarray, colors, extent) -> None:
    """Outlines at the masks' level, on an enlarged, slightly smoothed mask."""
    factor = max(1, int(np.ceil(300 / max(plane.shape))))
    width = 1.5 if max(plane.shape) <= 300 else 0.8
    for value, color in enumerate(colors, start=1):
        mask = plane == value
        if not mask.any() or min(plane.shape) < 2:
            continue
        # Padded by its edge: an object cut by the border has no outline there.
        fine = zoom(
            np.pad(mask.astype(np.float32), 1, mode="edge"),
            factor,
            order=1,
            grid_mode=True,
            mode="nearest",
        )
        fine = gaussian_filter(fine, 0.45 * factor)
        step = [n / p for n, p in zip((extent[1], extent[0]), plane.shape, strict=True)]
        y = (np.arange(fine.shape[0]) + 0.5) / factor * step[0] - step[0]
        x = (np.arange(fine.shape[1]) + 0.5) / factor * step[1] - step[1]
        box.contour(x, y, fine, [0.5], colors=[color], linewidths=width)


def _marks(box, slices, rows: int, columns: int, shape, extent) -> None:
    """Dashed lines where annotated planes cross the view."""
    for item in slices:
        along = array_axis(item.axis)
        style = {"color": MARK, "lw": 1.0, "ls": (0, (4, 3)), "alpha": 0.85}
        if along == columns:
            box.axvline((item.index + 0.5) / shape[columns] * extent[0], **style)
        elif along == rows:
            box.axhline((item.index + 0.5) / shape[rows] * extent[1], **style)


def _annotated(box, image, sparse, slices, colors, spacing, window, upward) -> None:
    """One of the slices that the user drew, filled with what was drawn."""
    candidates = [s for s in slices if (sparse[s.selector()] != UNLABELLED).any()]
    if not candidates:
        box.axis("off")
        box.text(0.5, 0.5, "no annotated slice", ha="center", color=FAINT)
        return
    item = max(
        candidates,
        key=lambda s: np.count_nonzero(
            (sparse[s.selector()] > 0) & (sparse[s.selector()] != UNLABELLED)
        ),
    )
    along = array_axis(item.axis)
    rows, columns = (a for a in range(3) if a != along)
    mm = spacing[::-1]
    extent = (image.shape[columns] * mm[columns], image.shape[rows] * mm[rows])
    _picture(box, image, along, item.index, extent, window)
    plane = np.take(sparse, item.index, along)
    tint = np.zeros((*plane.shape, 4))
    for value, color in enumerate(colors, start=1):
        tint[plane == value] = (*color, 0.45)
    box.imshow(tint, extent=(0, extent[0], extent[1], 0), interpolation="nearest")
    _contours(box, plane, colors, extent)
    for side in box.spines.values():
        side.set(visible=True, color=MARK, linewidth=1.6)
    box.set_title(
        f"one of {len(slices)} annotated slices ({item.axis} = {item.original})", fontsize=10, pad=6
    )
    if upward[rows]:
        box.invert_yaxis()


def _curves(box, history: Sequence[dict]) -> None:
    """Loss (left axis) and held-out Dice (right axis) over seconds."""
    rows = [
        h
        for h in history
        if h.get("loss") is not None
        and h.get("seconds") is not None
        and h.get("phase") != "predicting"
    ]
    box.set_title("training", fontsize=10, pad=6)
    for side in ("top", "right"):
        box.spines[side].set_visible(False)
    if len(rows) < 2:
        box.set_xticks([])
        box.set_yticks([])
        box.text(0.5, 0.5, "no training curve", ha="center", color=FAINT, transform=box.transAxes)
        return
    seconds = [h["seconds"] for h in rows]
    box.plot(seconds, [h["loss"] for h in rows], color="#5b6672", lw=1.6)
    box.set_xlabel("seconds")
    box.set_ylabel("loss (grey)", color="#5b6672")
    box.set_ylim(0, None)
    box.set_xlim(0, max(seconds) * 1.02)
    switch = next((h["seconds"] for h in rows if h.get("phase") == "all slices"), None)
    scored = [
        (h["seconds"], h["held_out_dice"]) for h in history if h.get("held_out_dice") is not None
    ]
    if not scored:
        box.text(
            0.97,
            0.93,
            "no slice held out: no score",
            ha="right",
            color=FAINT,
            transform=box.transAxes,
        )
        return
    other = box.twinx()
    other.spines["top"].set_visible(False)
    other.plot(*zip(*scored, strict=True), color="#1a7f5a", lw=2, marker="o", ms=4)
    other.set_ylim(0, 1)
    other.set_ylabel("held-out Dice (green)", color="#1a7f5a")
    if switch is not None and switch > scored[0][0]:
        box.axvline(switch, color=FAINT, lw=1, ls=":")
        late = switch > 0.75 * max(seconds)  # no room on the right
        box.text(
            switch + (-0.01 if late else 0.01) * max(seconds),
            0.03,
            "from here on\nall slices",
            color=FAINT,
            fontsize=8.5,
            ha="right" if late else "left",
            va="bottom",
            transform=box.get_xaxis_transform(),
        )


def _surface(box, labels, spacing, colors) -> None:
    box.imshow(render_surface(labels, spacing, colors))
    box.set_title("result in 3D", fontsize=10, pad=6)
    box.axis("off")

"""The report picture: any kind of case, and views that were not annotated."""

import matplotlib.image
import numpy as np
import pytest

from report import choose_slice, write_report
from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from surface import render_surface

CASES = {
    "small": ((16, 17, 18), (1.0, 1.0, 1.0), 2),
    "thick slices": ((6, 60, 70), (0.5, 0.5, 5.0), 1),
    "one slice": ((1, 40, 40), (1.0, 1.0, 5.0), 1),
    "many segments": ((20, 24, 28), (1.0, 2.0, 1.0), 13),
}


def picture_of(path):
    return matplotlib.image.imread(path)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("full", [True, False])
def test_any_case_gives_a_picture(tmp_path, name, full):
    shape, spacing, count = CASES[name]
    rng = np.random.default_rng(0)
    truth = rng.integers(0, count + 1, shape).astype(np.uint8)
    slices = [AnnotatedSlice("k", 0), AnnotatedSlice("i", 3)] if full else []
    names = [f"A rather long name of a segment, number {n}" for n in range(count)]
    extra = {}
    if full:
        extra = {
            "truth": truth,
            "scores": {n: {"iou": 0.5, "dice": None} for n in names},
            "history": [{"seconds": s, "loss": 1.0 / s, "phase": "held out"} for s in range(1, 9)]
            + [{"seconds": 4.0, "held_out_dice": 0.7, "loss": 0.2}],
        }
    path = tmp_path / "report.png"
    write_report(
        path,
        image=rng.normal(size=shape),
        labels=truth if full else truth * 0,
        sparse=restrict_to_slices(truth, slices),
        slices=slices,
        names=names,
        colors=[(0.5, 0.2, 0.9)] * count,
        spacing=spacing,
        directions=(0, 0, 1, -1, 0, 0, 0, 1, 0),
        title="T",
        subtitle="S",
        **extra,
    )
    found = picture_of(path)
    assert found.shape[0] > 900 and found.shape[1] > 1200
    assert found[..., :3].std() > 0.05, "an empty page"
    assert path.stat().st_size < 2_500_000


def test_views_avoid_annotated_slices():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[4:16, 4:16, 4:16] = 1
    for annotated in ({10}, {9, 10}, set(range(0, 20, 2))):
        for axis in "ijk":
            assert choose_slice(labels, axis, annotated) not in annotated
    assert 4 <= choose_slice(labels, "k", {10}) < 16
    assert choose_slice(labels[:1], "k", {0}) == 0, "there is no other"


def ball(shape, radius_mm, spacing_kji):
    grid = np.indices(shape)
    return (
        sum(((x - (n - 1) / 2) * s) ** 2 for x, n, s in zip(grid, shape, spacing_kji, strict=True))
        <= radius_mm**2
    ).astype(np.uint8)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0)])
def test_a_ball_is_round_whatever_the_voxels(spacing):
    shape = tuple(round(50 / s) for s in spacing[::-1])
    found = render_surface(ball(shape, 20, spacing[::-1]), spacing, [(0.2, 0.4, 0.9)])
    rows, columns = np.nonzero(found[..., 3] > 0.5)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.06)
    middle = found[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]
    assert middle[2] > middle[1] > middle[0] and middle[3] == 1


def test_an_enclosed_segment_is_made_visible():
    outer = ball((50, 50, 50), 22, (1, 1, 1))
    labels = outer + ball((50, 50, 50), 12, (1, 1, 1))
    colors = [(1, 0, 0), (0, 0, 1)]
    closed = render_surface(labels, (1, 1, 1), colors, cut=False)
    opened = render_surface(labels, (1, 1, 1), colors)

    def blue(picture):
        return ((picture[..., 2] > 0.3) & (picture[..., 0] < 0.3) & (picture[..., 3] > 0.5)).sum()

    assert blue(closed) == 0 and blue(opened) > 500


def test_nothing_to_show():
    assert render_surface(np.zeros((5, 5, 5), np.uint8), (1, 1, 1), []).shape[2] == 4
    assert (restrict_to_slices(np.zeros((3, 3, 3), np.uint8), []) == UNLABELLED).all()

"""What there is time for: folds, models that leave folds out, steps and width of the last ones."""

import pytest

torch = pytest.importorskip("torch")

from test_priors import ellipsoid, working

from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.stacking import fold_models, shallow_time, stack_time
from SparseSegNetLib.engine.stacking.fold_models import FoldModels, settings_in_time
from SparseSegNetLib.engine.stacking.stack_time import FOLLOWING, StackTime
from SparseSegNetLib.engine.stacking.voxel_classifier import (
    FEW_STEPS,
    FEWEST_STEPS,
    HIDDEN,
    WIDE_FROM,
    WIDE_HIDDEN,
    ClassifierFitter,
)


@pytest.mark.parametrize(
    ("seconds", "pace", "looking", "few", "expected"),
    [
        (10, (2, 3, 4), 1, 400, (3, True, 400)),
        (10, (4, 5, 9), 1, 400, (2, True, 400)),
        (10, (4, 5, 9), 2, 400, (3, False, 400)),  # not of the whole volume, but weighed well
        (10, (4, 7, 20), 3, 400, (2, False, 400)),
        (10, (24, 91, 92), 3, 400, (1, False, 200)),  # weighed in any case, by fewer steps
        (10, (90, 91, 92), 3, 400, (1, False, FEWEST_STEPS)),  # with fewer it is no use
        (10, (2, 3, 4), 1, 80, (3, True, 80)),
        (0, (1, 1.5, 2), 1, 400, (3, False, 400)),  # of 15 s without a look: no network
    ],
)
def test_what_there_is_time_for(seconds, pace, looking, few, expected):
    """pace: seconds of 400 steps with one, two, three models besides that with all folds."""
    pace = [p / FEW_STEPS for p in pace]
    assert settings_in_time(seconds, 15.0, pace, looking, few) == expected
    later = settings_in_time(seconds - 100, -85.0, pace, looking, few)
    assert later == (1, False, min(FEWEST_STEPS, few))


@pytest.mark.parametrize(
    ("seconds", "rows", "expected"),
    [
        (100.0, WIDE_FROM, (200, WIDE_HIDDEN)),
        (100.0, WIDE_FROM - 1, (200, HIDDEN)),  # too little to learn from for so many units
        (30.0, WIDE_FROM, (150, WIDE_HIDDEN)),  # 15 s of 30 in steps of 0.08 s, the share 0.8
        (20.0, WIDE_FROM, (200, HIDDEN)),  # so few steps of a wide one would not pay
        (7.0, WIDE_FROM, (40, HIDDEN)),
        (-9.0, WIDE_FROM, (10, HIDDEN)),  # as many as those have that leave folds out
    ],
)
def test_the_rest_of_the_time_is_for_what_predicts(seconds, rows, expected, monkeypatch):
    """A step takes 0.02 s, or 0.08 s with the wider layers; the prediction 6 s or 15 s."""
    monkeypatch.setattr(fold_models.time, "monotonic", lambda: 1000.0)

    class Fitter:
        steps, hidden = 200, WIDE_HIDDEN if rows >= WIDE_FROM else HIDDEN

        def seconds_per_step(self, models, hidden=HIDDEN):
            assert models == 2
            return 0.02 if hidden == HIDDEN else 0.08

    models = FoldModels.__new__(FoldModels)
    models._fitter = Fitter()
    models._fitted = lambda outs, steps, hidden=HIDDEN: [(steps, hidden)]
    models.seconds_to_predict = lambda tried, inputs: {WIDE_HIDDEN: 15.0}[tried[1]]
    assert models._fitted_on_all(1000.0 + seconds, 10, 6.0, None) == expected


@pytest.mark.parametrize(
    ("once", "after", "most"),
    [
        (0.5, None, 9),  # with time enough that of shallow models is not even estimated
        (0.79, None, 6),
        (1.0, 2.5, 4),  # of 8 s one has passed
        (1.0, 5.0, 2),
        (1.0, 5.5, 0),
        (3.0, 0.0, 2),
        (3.6, None, 0),  # two folds' priors alone would take longer than the 7 s that are left
    ],
)
def test_how_many_folds_there_is_time_for(once, after, most, monkeypatch):
    now = [50.0]
    monkeypatch.setattr(stack_time.time, "monotonic", lambda: now[0])
    time_ = StackTime(0.0, 10.0)
    time_.previewed(lambda: now.__setitem__(0, 50.4))
    assert time_.alone == pytest.approx(10.0 - 0.4 * FOLLOWING) == 8.0
    now[0] = 51.0
    assert time_.folds(once, lambda: after) == most


def test_without_a_limit_all_slices_are_folds():
    assert StackTime(None, None).folds(9.0, lambda: 1e6) is None


def test_the_shallow_models_time_is_measured_on_a_part(monkeypatch):
    """Features of 8 of 24 planes, the fewest steps, and 2 predictions of 2 of 24 planes."""
    truth = ellipsoid((24, 28, 30))
    volume = working(truth, spread_slices((1, 1, 1), truth.shape, truth > 0))
    seen = []
    monkeypatch.setattr(shallow_time, "seconds_for_planes", lambda work, n, *_, **__: 3.0)

    def taken(action, device):
        (classes, planes, *_), _ = action().shape, seen.append(1)
        assert (classes, planes) == (3, 2)
        return 0.5

    monkeypatch.setattr(shallow_time, "seconds_taken", taken)
    monkeypatch.setattr(ClassifierFitter, "seconds_per_step", lambda fitter, models: 0.01 * models)
    found = shallow_time.seconds_for_shallow_models(volume, (1.0, 1.0, 1.0), 3, "float32", 4, 2)
    assert seen == [1] and found == pytest.approx(3.0 + FEWEST_STEPS * 0.04 + 2 * 0.5 * 24 / 2)


def test_what_predicts_is_as_wide_as_its_voxels_allow():
    def layers(rows):
        fitter = ClassifierFitter([torch.zeros(rows, 2)], [torch.zeros(rows).byte()], 2)
        return fitter.fit([[0]], 0, hidden=fitter.hidden)[0].layers

    for rows, hidden in ((WIDE_FROM - 1, HIDDEN), (WIDE_FROM, WIDE_HIDDEN)):
        assert [tuple(w.shape) for w, _ in layers(rows)] == [
            (2, hidden),
            (hidden, hidden),
            (hidden, 2),
        ]

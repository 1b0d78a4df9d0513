"""Honest scores: near slices, distances as in the volume, calibration, borders, gains."""

import numpy as np
import pytest
import torch
from test_priors import ellipsoid, working

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.scoring import gain, interval
from SparseSegNetLib.engine.scoring.calibration import Calibration, calibrated, reliability
from SparseSegNetLib.engine.scoring.fold_rates import BINS, FoldRates
from SparseSegNetLib.engine.scoring.new_slices import score_new_slices
from SparseSegNetLib.engine.scoring.plug_in import expected_overlap
from SparseSegNetLib.engine.scoring.plug_in_border import expected_near_share
from SparseSegNetLib.engine.scoring.scoring import Scoring
from SparseSegNetLib.engine.stacking import stacker as stacking
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.folds import make_folds, shown_in
from SparseSegNetLib.engine.stacking.near_slices import group_near_slices
from SparseSegNetLib.engine.stacking.out_of_fold import OutOfFold

SHAPE = (30, 36, 40)


def along(axis, *indices):
    return [AnnotatedSlice(axis, n) for n in indices]


def pool(probabilities, truth, distance=None, fold=None):
    """Out-of-fold predictions (classes, n) without a volume around them."""
    truth = torch.as_tensor(truth, dtype=torch.uint8)
    return OutOfFold(
        torch.arange(len(truth)),
        torch.as_tensor(probabilities).half(),
        truth,
        torch.zeros(len(truth)).half() if distance is None else torch.as_tensor(distance).half(),
        torch.zeros(len(truth), dtype=torch.uint8) if fold is None else torch.as_tensor(fold),
        [],
        [2] * len(probabilities),
        2,
    )


class TestNearSlices:
    def test_a_correction_beside_an_old_slice_is_held_out_with_it(self):
        slices = along("k", 10, 13, 25, 40) + along("i", 13)
        groups = group_near_slices(slices, {"i": 40, "j": 40, "k": 40})
        assert groups == [along("i", 13), along("k", 10, 13), along("k", 25), along("k", 40)]

    def test_evenly_spaced_ones_stay_apart(self):
        slices = along("k", 4, 12, 20, 28, 36)
        assert len(group_near_slices(slices, {"k": 40})) == 5

    def test_where_all_lie_together_the_object_is_the_measure(self):
        assert group_near_slices(along("j", 20, 22, 24), {"j": 60}) == [along("j", 20, 22, 24)]
        # A user who draws in the middle half has drawn separate slices all the same.
        assert len(group_near_slices(along("j", 20, 32), {"j": 60})) == 2

    def test_no_chain_joins_far_ones(self):
        groups = group_near_slices(along("k", *range(10, 22, 2)), {"k": 40})
        assert len(groups) > 1
        assert all(group[-1].index - group[0].index < 40 / 7 for group in groups)

    def test_folds_keep_them_together(self):
        slices = along("k", 8, 9, 20) + along("j", 12, 24) + along("i", 20)
        volume = working(ellipsoid(SHAPE), slices)
        for fold in make_folds(volume.labels, volume, slices):
            assert len({8, 9} & {s.index for s in fold.slices if s.axis == "k"}) != 1

    def test_unless_they_alone_show_a_class(self):
        slices = along("k", 8, 10) + along("j", 12, 24) + along("i", 20)
        truth = ellipsoid(SHAPE)
        truth[truth == 2] = 1
        truth[8:11, 10:14, 10:14] = 2
        truth[:, 12] = np.where(truth[:, 12] == 2, 1, truth[:, 12])
        volume = working(truth, slices)
        shown, drawn = shown_in(volume.labels, volume, slices, 3)
        assert shown[2] == 2 and drawn == len(slices)
        folds = make_folds(volume.labels, volume, slices)
        holding = [fold for fold in folds if {s.index for s in fold.slices} & {8, 10}]
        assert len(holding) == 2


class TestFoldRates:
    def rates(self):
        """Of class 1 all is right near a slice, and half of it far away."""
        found = np.zeros((2, BINS))
        right, invented, lost = found.copy(), found.copy(), found.copy()
        right[1, 5], right[1, 30] = 100, 100
        invented[1, 30] = 100
        lost[1, 30] = 100
        return FoldRates(right, invented, lost, right / 2, right)

    def test_judged_distances_count_as_often_as_they_are_predicted(self):
        rates = self.rates()
        near, far = np.zeros(BINS), np.zeros(BINS)
        near[5], far[30] = 1000, 1000
        assert rates.overlap(1, near)[0] == 1
        assert rates.overlap(1, far)[0] == pytest.approx(1 / 3)
        # 1000 right ones near; far away 500 right, 500 invented and 500 lost.
        assert rates.overlap(1, near + far)[0] == pytest.approx(1500 / 2500)
        assert rates.overlap(1, near + far)[1] == pytest.approx(3000 / 4000)

    def test_what_no_judged_voxel_stands_for_is_told(self):
        beyond = np.zeros(BINS)
        beyond[5], beyond[60] = 30, 10
        assert self.rates().uncovered(1, beyond) == 0.25
        assert self.rates().overlap(1, beyond)[0] < 1  # as the farthest that were judged

    def test_a_class_that_is_never_found(self):
        rates = self.rates()
        rates.right[1] = rates.invented[1] = 0
        assert rates.overlap(1, np.ones(BINS)) == (0.0, 0.0)
        rates.lost[1] = 0
        assert rates.overlap(1, np.ones(BINS)) is None
        assert rates.near_share(0, np.ones(BINS)) is None


class TestCalibration:
    def overconfident(self, count=4000):
        """Says 0.95, and is right in 0.75 of the cases near a slice, in 0.55 far away."""
        random = np.random.default_rng(0)
        distance = np.where(random.random(count) < 0.5, 0.5, 3.0)
        right = random.random(count) < np.where(distance < 1, 0.75, 0.55)
        guess = random.integers(0, 2, count)
        chance = np.where(guess == 1, 0.95, 0.05)
        truth = np.where(right, guess, 1 - guess)
        fold = torch.as_tensor(random.integers(0, 4, count).astype(np.uint8))
        return pool(np.stack((1 - chance, chance)), truth, distance, fold), distance

    def test_it_says_how_often_it_is_right(self):
        found, distance = self.overconfident()
        calibration = Calibration.fit(found)
        after = calibrated(found.probabilities, calibration.exponent(found.distance)).max(dim=0)
        assert float(after.values[distance < 1].mean()) == pytest.approx(0.75, abs=0.04)
        assert float(after.values[distance > 1].mean()) == pytest.approx(0.55, abs=0.04)
        assert torch.equal(after.indices, found.probabilities.float().argmax(dim=0))

    def test_reliability_before_and_after(self):
        before, after = reliability(self.overconfident()[0])
        assert before.error > 0.2
        assert after.error < 0.05
        assert sum(before.voxels) == sum(after.voxels) == 4000

    def test_too_few_voxels_change_nothing(self):
        found = pool([[0.1, 0.8], [0.9, 0.2]], [1, 0])
        assert Calibration.fit(found) == Calibration()
        assert torch.equal(Calibration().exponent(torch.rand(5)), torch.ones(5))


class TestPlugIn:
    def test_certain_probabilities_expect_everything(self):
        chance = torch.zeros(3, 4, 5, 6)
        chance[0] = 1
        chance[:, 1:3] = torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]
        every = torch.ones(4, 5, 6, dtype=torch.bool)
        found = expected_overlap(chance, torch.ones(4, 5, 6), every)
        assert found[0][0] == pytest.approx(1, abs=0.001) and found[1] is None

    def test_it_is_what_happens_on_the_mean(self):
        random = torch.Generator().manual_seed(0)
        chance = torch.rand((12, 20, 20), generator=random)
        both = torch.stack((1 - chance, chance))
        every = torch.ones(chance.shape, dtype=torch.bool)
        (expected,) = expected_overlap(both, torch.ones(chance.shape), every)
        ious = []
        for _ in range(20):
            truth = torch.rand(chance.shape, generator=random) < chance
            ious.append(float((truth & (chance > 0.5)).sum() / (truth | (chance > 0.5)).sum()))
        assert expected[0] == pytest.approx(np.mean(ious), abs=0.01)

    def test_a_sharp_border_is_near_and_a_flat_one_is_not(self):
        at = torch.arange(20.0)
        places = torch.tensor([[9, j, i] for j in range(4, 8) for i in range(4, 8)])

        def share(row):
            chance = row[:, None, None].expand(20, 12, 12)
            both = torch.stack((1 - chance, chance))
            return expected_near_share(both, torch.ones(20, 12, 12), 1, places)

        assert share((at <= 9).float()) > 0.99
        assert share(0.5 + (9.5 - at) / 40) < 0.15
        assert (
            expected_near_share(torch.ones(2, 2, 2, 2), torch.ones(2, 2, 2), 1, places[:0]) is None
        )


class TestScoring:
    @pytest.fixture(autouse=True)
    def fewer_steps(self, monkeypatch):
        monkeypatch.setattr(voxel_classifier, "STEPS", (20, 60))

    def test_a_volume(self):
        slices = along("k", 8, 20) + along("j", 12, 24) + along("i", 14, 26)
        truth = ellipsoid(SHAPE)
        volume = working(truth, slices)
        maker = stacking.PriorMaker(volume, 3, 0.0)
        stack = stacking.Stacker(maker).stack(volume.labels, volume.slices)
        found = stack.out_of_fold
        # Nothing is judged twice, and no voxel that a slice of another fold shares.
        assert len(found.at.unique()) == len(found.at)
        assert (volume.labels.view(-1)[found.at] == found.truth).all()
        crossing = volume.labels[8, 12, :] != UNLABELLED
        assert crossing.all()
        scoring = Scoring.of(found, volume.labels)
        assert scoring.slices == 6
        chance = stacking.prior_of(stack.target, 3)
        distance = stacking.log_distance_to_annotation(volume.labels, slices, volume, maker.spacing)
        scores = scoring.score(chance, volume.labels, distance)
        left = volume.labels.numpy() == UNLABELLED
        guess = chance.argmax(dim=0).numpy()
        for value, score in enumerate(scores, start=1):
            both = ((guess == value) & (truth == value) & left).sum()
            iou = both / (((guess == value) | (truth == value)) & left).sum()
            assert score.low < score.iou < score.high
            assert score.iou == pytest.approx(iou, abs=0.1)
            assert score.slices == 6
            assert 0.5 < score.near <= 1
        assert all(score is not None for score in stack.scores)

    def test_a_class_in_one_slice_gets_no_number(self):
        slices = along("k", 8, 20) + along("j", 12, 24)
        truth = ellipsoid(SHAPE)
        truth[truth == 2] = 1
        truth[20, 15:19, 15:25] = 2
        volume = working(truth, slices)
        stack = stacking.Stacker(stacking.PriorMaker(volume, 3, 0.0)).stack(
            volume.labels, volume.slices
        )
        assert stack.scores[1]["iou"] is None and stack.scores[0]["iou"] > 0.5
        scoring = Scoring.of(stack.out_of_fold, volume.labels)
        scores = scoring.score(
            stacking.prior_of(stack.target, 3), volume.labels, torch.ones(SHAPE).half()
        )
        assert scores[1].iou is None and scores[1].slices == 1
        assert scores[0].iou is not None


class TestInterval:
    def test_more_slices_narrow_it(self):
        widths = [np.diff(interval.interval(0.8, n))[0] for n in (3, 5, 8, 13)]
        assert widths == sorted(widths, reverse=True)
        assert interval.interval(0.8, 1) == interval.interval(0.8, 3)
        assert interval.interval(0.8, 50) == interval.interval(0.8, 13)
        low, high = interval.interval(0.8, 6)
        assert interval.interval(0.8, 5)[0] <= low <= interval.interval(0.8, 8)[0] < 0.8 < high

    def test_ends(self):
        assert 0 < interval.best_estimate(0.0, 0.0) < 0.1
        assert 0.9 < interval.best_estimate(1.0, 1.0) < 1


class TestGains:
    def test_the_direction_without_slices_gains_most(self):
        predicted = torch.zeros(SHAPE, dtype=torch.uint8)
        predicted[5:25, 5:30, 5:35] = 1
        labels = torch.full(SHAPE, UNLABELLED, dtype=torch.uint8)
        slices = along("k", 8, 15, 22) + along("j", 10, 17, 25)
        history = [{"slices": 6, "iou": [0.8, None]}]
        found = gain.expected_gains(predicted, labels, slices, (1.0, 1.0, 1.0), history)
        best = max(found, key=lambda one: one["iou"])
        assert best["axis"] == "i"
        assert best["iou"] == pytest.approx(0.2 * (1 - (6 / 8) ** gain.DECAY), abs=1e-3)
        assert gain.expected_gains(predicted * 0, labels, slices, (1, 1, 1), history) == []

    def test_the_volumes_own_growth_counts(self):
        flat = [{"slices": 3, "iou": [0.8]}, {"slices": 12, "iou": [0.8]}]
        steep = [{"slices": 3, "iou": [0.6]}, {"slices": 12, "iou": [0.95]}]
        assert gain.decay([]) == gain.decay(flat[:1]) == pytest.approx(gain.DECAY)
        assert gain.decay(flat) < gain.DECAY < gain.decay(steep)


class TestNewSlices:
    def test_what_was_predicted_before_it_was_drawn(self):
        truth = ellipsoid(SHAPE)
        before = np.full(SHAPE, UNLABELLED, np.uint8)
        before[8] = truth[8]
        now = before.copy()
        now[20], now[:, 12] = truth[20], truth[:, 12]
        now[25, :10] = truth[25, :10]  # in part
        predicted = truth.copy()
        predicted[:, 12] = 0
        slices = along("k", 8, 20, 25) + along("j", 12)
        found = score_new_slices(predicted, before, now, slices, [("k", 8)], 2)
        assert [(one["axis"], one["index"]) for one in found] == [("k", 20), ("j", 12)]
        # Where the two new slices cross each is judged once by either.
        assert found[0]["iou"][0] > 0.9 and found[1]["iou"] == [0, 0]

    def test_nothing_new(self):
        truth = ellipsoid(SHAPE)
        assert score_new_slices(truth, truth, truth, along("k", 8), [("k", 8)], 2) == []


def test_labels_do_not_depend_on_the_calibration():
    from SparseSegNetLib.engine.prediction.inference import finish

    chance = torch.rand((3, 6, 7, 8), generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    power = torch.full((6, 7, 8), 0.5)
    for shape in ((6, 7, 8), (9, 14, 11)):
        labels, plain = finish(chance, shape)
        same, unsure = finish(chance, shape, power)
        assert torch.equal(labels, same)
        assert float(unsure.float().mean()) > float(plain.float().mean())

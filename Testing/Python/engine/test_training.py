"""The engine learns a small case from sparse slices, repeatably, and scores itself honestly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.engine.compute import metrics
from SparseSegNetLib.engine.compute.schedules import schedule
from SparseSegNetLib.engine.data.preprocessing import Normalisation, WorkingVolume, working_volume
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.stopping import Stopped
from SparseSegNetLib.engine.training.held_out import hold_out
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.run_input import RunInput


def nested_balls(shape=(32, 36, 40), seed=0):
    """image (1, k, j, i) and dense truth: a shell (1) around a core (2) in background."""
    k, j, i = np.indices(shape)
    radius = np.sqrt(
        sum(((x - (n - 1) / 2) / (0.4 * n)) ** 2 for x, n in zip((k, j, i), shape, strict=True))
    )
    truth = np.where(radius < 0.5, 2, np.where(radius < 1, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 0.25, shape)
    return (np.array([0.0, 1.0, 0.4])[truth] + noise).astype(np.float32)[None], truth


def grid_of(labels):
    return Geometry(
        tuple(reversed(labels.shape)),
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),
        (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
    )


def trainer_for(image, truth, counts=(2, 2, 2), width=4, held_out=False, seed=0):
    slices = spread_slices(counts, truth.shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    plan = make_plan(Fingerprint.of(labels, (1, 1, 1), 1, 3, len(slices)), width=width)
    plan = replace(plan, batch=4, patch=(16, 16, 16), priors=False)  # the network alone
    vol = working_volume(
        RunInput(image, labels, grid_of(labels), slices),
        labels.shape,
        Normalisation.measure(image),
        torch.device("cpu"),
    )
    split = hold_out(vol, seed) if held_out else None
    return Trainer(plan, [vol], 3, split, seed), labels


def test_learns_from_slices_what_lies_between_them():
    image, truth = nested_balls()
    trainer, labels = trainer_for(image, truth, (3, 3, 3), width=8)
    trainer.train(by_steps(150))
    predicted = trainer.predictor().probabilities(trainer.target).argmax(0).numpy()
    rows = metrics.overlap(predicted, truth, 2, labels == UNLABELLED)
    assert min(row["iou"] for row in rows) > 0.75


def test_same_seed_and_steps_give_the_same_bits():
    image, truth = nested_balls((20, 22, 24))
    weights = []
    for _ in range(2):
        trainer, _ = trainer_for(image, truth, seed=5)
        trainer.train(by_steps(4))
        weights.append(trainer.average.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    other, _ = trainer_for(image, truth, seed=6)
    other.train(by_steps(4))
    assert any(
        not torch.equal(weights[0][name], t) for name, t in other.average.state_dict().items()
    )


def test_changing_the_image_labels_at_unlabelled_voxels_is_impossible_to_notice():
    """Training sees the label array only: truth beyond the slices is not in it."""
    image, truth = nested_balls((20, 22, 24))
    _, labels = trainer_for(image, truth)
    assert (labels != UNLABELLED).mean() < 0.4
    assert set(np.unique(labels)) == {0, 1, 2, UNLABELLED}


def test_held_out_slices_are_not_trained_on_until_the_last_stretch():
    image, truth = nested_balls()
    trainer, _ = trainer_for(image, truth, (3, 3, 2), held_out=True)
    mask = torch.from_numpy(trainer.split.mask)
    seen = []

    def report(record):
        labels = trainer.sampler.labels[0]
        seen.append((record.phase, bool((labels[mask] != UNLABELLED).any()), record.held_out))

    trainer.train(by_steps(20), report=report)
    phases = [phase for phase, *_ in seen]
    assert phases[0] == "held out" and phases[-1] == "all slices"
    # The labels change right after the last report of the first phase.
    assert not any(trained for phase, trained, _ in seen[: phases.index("all slices") - 1])
    assert all(trained for phase, trained, _ in seen if phase == "all slices")
    scores = [rows for *_, rows in seen if rows is not None]
    assert len(scores) >= 4 and all(len(rows) == 2 for rows in scores)


def test_stopping_keeps_the_best_scored_weights():
    image, truth = nested_balls((20, 22, 24))
    trainer, _ = trainer_for(image, truth, (3, 3, 2), held_out=True)
    scores = []

    def report(record):
        if record.held_out is not None:
            scores.append(metrics.mean(row["dice"] for row in record.held_out) or 0.0)
        if len(scores) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        trainer.train(by_steps(400), report=report)
    trainer.use_best()
    again = metrics.mean(row["dice"] for row in trainer.score_held_out()) or 0.0
    assert again == pytest.approx(max(scores), abs=1e-6)


def test_a_step_that_is_not_finite_is_recovered_from():
    image, truth = nested_balls((20, 22, 24))
    trainer, _ = trainer_for(image, truth)
    trainer.train(by_steps(3))
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    trainer.train(by_steps(12))
    assert trainer.rate < 1
    assert all(p.isfinite().all() for p in trainer.average.parameters())
    assert all(p.isfinite().all() for p in trainer.network.parameters())


def test_schedule_warms_up_and_ends_low():
    values = [schedule(x / 100) for x in range(101)]
    assert max(values) == pytest.approx(1, abs=0.01) and values.index(max(values)) <= 6
    assert values[0] < 0.2 and values[-1] == pytest.approx(0.01)
    assert values[10:] == sorted(values[10:], reverse=True)


class TestHoldOut:
    def labels(self, counts):
        _, truth = nested_balls()
        slices = spread_slices(counts, truth.shape, truth > 0)
        return restrict_to_slices(truth, slices), slices

    def hold_out(self, labels, slices, seed):
        return hold_out(
            WorkingVolume(
                torch.zeros(1, *labels.shape),
                torch.from_numpy(labels),
                torch.ones(3),
                labels.shape,
                slices,
            ),
            seed,
        )

    @pytest.mark.parametrize(
        ("counts", "number"), [((1, 1, 1), 1), ((2, 2, 1), 1), ((3, 3, 2), 2), ((5, 5, 3), 3)]
    )
    def test_some_slices_one_per_axis(self, counts, number):
        labels, slices = self.labels(counts)
        split = self.hold_out(labels, slices, seed=1)
        assert len(split.slices) == number == len({s.axis for s in split.slices})
        assert (split.training[split.mask] == UNLABELLED).all()
        assert (split.training[~split.mask] == labels[~split.mask]).all()
        others = [s for s in slices if s not in split.slices]
        for item in others:
            assert not split.mask[item.selector()].any(), "shared voxels stay in training"

    def test_never_takes_the_last_voxels_of_a_class(self):
        labels, slices = self.labels((2, 2, 1))
        rare = next(s for s in slices if s.axis == "k")
        only = labels.copy()
        only[only == 2] = 1
        alone = np.zeros(labels.shape, bool)
        alone[rare.selector()] = True
        for other in slices:
            if other != rare:
                alone[other.selector()] = False
        only[alone & (labels == 2)] = 2
        for seed in range(10):
            split = self.hold_out(only, slices, seed)
            assert rare not in split.slices and (split.training == 2).any()

    def test_too_few_slices(self):
        labels, slices = self.labels((1, 1, 0))
        split = self.hold_out(labels, slices, 0)
        assert not split.whole, "no slice: that would be half of the annotation"


class TestMetrics:
    def test_overlap_by_hand(self):
        prediction = np.array([1, 1, 1, 0, 2, 0])
        truth = np.array([1, 1, 0, 1, 0, 0])
        rows = metrics.overlap(prediction, truth, 3)
        assert rows[0] == {"iou": 2 / 4, "dice": 4 / 6, "voxels": 3}
        assert rows[1] == {"iou": 0.0, "dice": 0.0, "voxels": 0}
        assert rows[2] == {"iou": None, "dice": None, "voxels": 0}

    def test_only_masked_voxels_count(self):
        rows = metrics.overlap(
            np.array([1, 1, 0]), np.array([1, 0, 1]), 1, np.array([True, False, False])
        )
        assert rows[0]["iou"] == 1.0

    def test_mean_leaves_out_what_is_not_there(self):
        assert metrics.mean([0.5, None, 1.0]) == 0.75
        assert metrics.mean([None]) is None

"""Folds from slices, from parts of slices and from scribbles: near labels are held out together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_priors import ellipsoid, working

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.slices import AnnotatedSlice, array_axis
from SparseSegNetLib.engine.data.preprocessing import Normalisation, working_volume
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.stacking import fold_weights, voxel_classifier
from SparseSegNetLib.engine.stacking import stacker as stacking
from SparseSegNetLib.engine.stacking.ensemble import fit_ensemble_weights, weighted_mean
from SparseSegNetLib.engine.stacking.fold_weights import FoldWeights
from SparseSegNetLib.engine.stacking.folds import complete_slices, labels_of, make_folds, planes_of
from SparseSegNetLib.engine.training.held_out import hold_out, hold_out_fold
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (30, 36, 40)


@pytest.fixture(autouse=True)
def fewer_steps(monkeypatch):
    """Of the shallow models: how well they learn is not what is looked at here."""
    monkeypatch.setattr(voxel_classifier, "STEPS", (20, 60))


def stacked(volume):
    """Without registration, which takes most of the time."""
    return stacking.Stacker(stacking.PriorMaker(volume, 3, 0.0)).stack(volume.labels, volume.slices)


def drawn(where, slices=(), noise=0.1):
    """The ellipsoid, labelled in the slices' planes and where `where` (k, j, i) is true."""
    truth = ellipsoid(SHAPE)
    volume = working(truth, list(slices), noise)
    labels = torch.where(torch.from_numpy(where), torch.from_numpy(truth), volume.labels)
    return truth, replace(volume, labels=labels)


def half_slices():
    """Three slices of which the left half is labelled."""
    where = np.zeros(SHAPE, bool)
    for index in (9, 15, 21):
        where[index, :, :20] = True
    return where, [AnnotatedSlice("k", n) for n in (9, 15, 21)]


def box():
    """One box in a corner that shows all classes, and no slice."""
    where = np.zeros(SHAPE, bool)
    where[8:20, 4:18, 4:20] = True
    return where, [AnnotatedSlice("k", n) for n in range(8, 20)]


def scribbles():
    """One stroke per class."""
    where = np.zeros(SHAPE, bool)
    where[15, 17:19, 12:28] = True  # the core
    where[6:24, 18, 9] = True  # the shell
    where[2, 2, 2:38] = True  # background
    return where, []


KINDS = {"half slices": half_slices, "box": box, "scribbles": scribbles}


@pytest.mark.parametrize("kind", KINDS)
def test_any_annotation_is_divided(kind):
    where, slices = KINDS[kind]()
    truth, volume = drawn(where)
    volume.slices = slices
    assert complete_slices(volume.labels, slices) == []
    folds = make_folds(volume.labels, volume, [])
    assert 2 <= len(folds) <= 6 and not any(fold.slices for fold in folds)
    times = sum((labels_of([f], volume.labels, volume) != UNLABELLED).int() for f in folds)
    assert torch.equal(times, (volume.labels != UNLABELLED).int()), "each label is in one fold"
    for value in np.unique(truth[where]):
        shown = sum(bool((labels_of([f], volume.labels, volume) == value).any()) for f in folds)
        assert shown >= 2, "what one fold holds out the others can teach"
    again = make_folds(volume.labels, volume, [])
    assert all(
        np.array_equal(np.concatenate(a.parts), np.concatenate(b.parts))
        for a, b in zip(folds, again, strict=True)
    )


def test_parts_of_slices_stay_together():
    where, slices = half_slices()
    _, volume = drawn(where)
    volume.slices = slices
    for fold in make_folds(volume.labels, volume, []):
        for part in fold.parts:
            assert len(np.unique(np.unravel_index(part, SHAPE)[0])) == 1, "of one slice"


def test_slices_are_dealt_out_as_ever_and_scribbles_go_with_one_fold():
    slices = spread_slices((4, 4, 4), SHAPE)
    where = np.zeros(SHAPE, bool)
    _, volume = drawn(where, slices)
    folds = make_folds(volume.labels, volume, slices)
    assert sorted(s for f in folds for s in f.slices) == slices
    assert all(len(f.slices) == 3 and {s.axis for s in f.slices} == set("ijk") for f in folds)
    where[1, 2, 6:14] = True  # crosses no slice
    _, volume = drawn(where, slices)
    with_part = make_folds(volume.labels, volume, slices)
    assert [f.slices for f in with_part] == [f.slices for f in folds]
    assert sum(len(f.parts) for f in with_part) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_folds_labels_reach_nothing_that_it_is_taught_with(kind, monkeypatch):
    """Other labels in a fold leave its priors as they are; and something is learnt out of fold."""
    where, slices = KINDS[kind]()
    _, volume = drawn(where)
    volume.slices = slices
    stack = stacked(volume)
    assert len(stack.folds) >= 2 and stack.missing == ""
    if kind == "scribbles":
        assert stack.scores is None, "strokes are right where they lie in a poor result, too"
    else:
        assert np.mean([r["iou"] or 0 for r in stack.scores]) > 0.3
    folds = make_folds(volume.labels, volume, [])
    monkeypatch.setattr(stacking, "make_folds", lambda *a: folds)
    held = labels_of(folds[:1], volume.labels, volume) != UNLABELLED
    other = torch.where(held & (volume.labels == 1), 2, volume.labels).to(torch.uint8)
    other = torch.where(held & (volume.labels == 2), 0, other).to(torch.uint8)
    assert bool((other != volume.labels).any())
    priors = stacking.PriorMaker(volume, 3, 0.0)
    before, after = (
        stacking.Stacker(priors)._folds(labels, [], None)[0] for labels in (volume.labels, other)
    )
    assert torch.equal(before.priors, after.priors) and torch.equal(before.distance, after.distance)
    assert (before.known & held).any() and not (before.known & ~held).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_out_of_fold(kind):
    where, slices = KINDS[kind]()
    _, volume = drawn(where)
    volume.slices = slices
    stack = stacked(volume)
    labels = volume.labels.numpy()
    split = hold_out_fold(stack.folds, labels, 0)
    if kind == "scribbles":
        assert split is None
        trainer = Trainer(
            replace(make_plan(Fingerprint.of(labels, (1, 1, 1), 1, 3, 5), width=4), batch=2),
            [volume],
            3,
            None,
            0,
            stack,
        )
        trainer.train(by_steps(2))
        assert trainer.steps == 2 and len(trainer.training_set.training_volumes()) == len(
            stack.folds
        )
        return
    assert not split.whole and split.scored.any()
    assert (split.scored <= split.mask).all() and (split.training[split.mask] == UNLABELLED).all()
    fingerprint = Fingerprint.of(labels, (1, 1, 1), 1, 3, 5)
    trainer = Trainer(
        replace(make_plan(fingerprint, width=4), batch=2, held_out_share=0.5),
        [volume],
        3,
        split,
        0,
        stack,
    )
    assert (
        trainer.training_set.holding_out
        and len(trainer.training_set.training_volumes()) == len(stack.folds) - 1
    )
    scores = []
    trainer.train(by_steps(4), lambda report: scores.append(report.held_out))
    assert any(scores) and trainer.steps == 4


@pytest.mark.parametrize("factor", [2, 3, 4, 2.5])
@pytest.mark.parametrize("axis", range(3))
def test_on_a_finer_grid_all_planes_of_a_slice_are_held_out_together(axis, factor):
    truth = ellipsoid((14, 16, 18))
    slices = [
        AnnotatedSlice(a, n)
        for a, ns in (("k", (3, 7, 10)), ("j", (4, 8, 12)), ("i", (6, 11, 14)))
        for n in ns
    ]
    slices.sort()  # as the working volume has them
    shape = tuple(round(n * factor) if a == axis else n for a, n in enumerate(truth.shape))
    image = truth[None].astype(np.float32)
    item = RunInput(
        image,
        restrict_to_slices(truth, slices),
        Geometry(truth.shape[::-1], (1.0, 1.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        slices,
    )
    volume = working_volume(item, shape, Normalisation.measure(image), torch.device("cpu"))
    # Where each voxel of the working grid comes from on the image's.
    source = [np.arange(n) * full // n for n, full in zip(shape, truth.shape, strict=True)]

    def held_by(item):
        along = array_axis(item.axis)
        full = slices[volume.slices.index(item)].index
        assert full in source[along]
        found = np.zeros(shape, bool)
        np.moveaxis(found, along, 0)[source[along] == full] = True
        return found

    for item in volume.slices:
        mine = np.zeros(shape, bool)
        mine[planes_of(item, volume)] = True
        assert (mine == held_by(item)).all()
    folds = make_folds(volume.labels, volume, complete_slices(volume.labels, volume.slices))
    assert sum(len(f.slices) for f in folds) == len(slices) and not any(f.parts for f in folds)
    for fold in folds:
        taught = labels_of([f for f in folds if f is not fold], volume.labels, volume)
        crossing = np.logical_or.reduce(
            [held_by(s) for f in folds if f is not fold for s in f.slices]
        )
        for item in fold.slices:
            assert (taught.numpy()[held_by(item) & ~crossing] == UNLABELLED).all()
    split = hold_out(volume, 0)
    for item in split.slices:
        others = np.logical_or.reduce([held_by(s) for s in volume.slices if s != item])
        assert (split.training[held_by(item) & ~others] == UNLABELLED).all()
        assert (split.mask[held_by(item) & ~others]).all()
    inside = np.zeros(shape, bool)
    for item in split.slices:
        inside[item.selector()] = True
    assert not split.scored[~inside].any()


def test_the_published_networks_hold_out_parts_where_there_are_no_slices():
    where, slices = box()
    _, volume = drawn(where)
    volume.slices = slices
    split = hold_out(volume, 0)
    assert not split.whole and split.scored.any()
    assert set(np.unique(split.training)) == set(np.unique(volume.labels.numpy()))
    assert split.names() == hold_out(volume, 0).names()
    where, _ = scribbles()
    _, volume = drawn(where)
    assert hold_out(volume, 0) is None, "strokes alone are not scored"


def test_weights_are_scored_on_voxels_that_they_were_not_fitted_on(monkeypatch):
    """Predictors that know nothing: weights fitted on few voxels look better there than they are,
    on the other folds' they do not."""
    fitted, crossed = [], []
    monkeypatch.setattr(fold_weights, "SHRINKAGE", 1.0)
    fitter = FoldWeights(torch.zeros(12))
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        rows = [torch.rand((12, 2, 15), generator=generator) for _ in range(4)]
        rows = [r / r.sum(dim=1, keepdim=True) for r in rows]
        truths = [torch.randint(0, 2, (15,), generator=generator).to(torch.uint8) for _ in range(4)]
        own = fit_ensemble_weights(torch.cat(rows, dim=2), torch.cat(truths))
        for r, t, w in zip(rows, truths, fitter.of_other_folds(rows, truths), strict=True):
            fitted.append(float((weighted_mean(r, own).argmax(dim=0) == t).float().mean()))
            crossed.append(float((weighted_mean(r, w).argmax(dim=0) == t).float().mean()))
    error = np.std(crossed) / np.sqrt(len(crossed))
    assert np.mean(fitted) > 0.5 + 5 * error
    assert abs(np.mean(crossed) - 0.5) < 3 * error


def test_the_stack_reports_the_score_of_weights_from_other_folds(monkeypatch):
    """Weights that are given to each fold decide its score, not those of the result."""
    _, volume = drawn(np.zeros(SHAPE, bool), spread_slices((1, 1, 1), SHAPE))
    monkeypatch.setattr(fold_weights, "SHRINKAGE", 1.0)
    honest = stacked(volume)
    # The interpolation alone, which is far off with slices this few.
    monkeypatch.setattr(
        FoldWeights,
        "of_other_folds",
        lambda self, rows, truths: [torch.eye(rows[0].shape[0])[0] for _ in rows],
    )
    other = stacked(volume)
    assert torch.equal(honest.target.image, other.target.image), "the result is as it was"
    dice = [np.mean([row["dice"] or 0 for row in stack.scores]) for stack in (honest, other)]
    assert dice[0] > dice[1] + 0.05


def test_the_networks_share_is_scored_on_other_voxels_than_it_was_fitted_on(monkeypatch):
    """The network is right in one half of the held-out voxels alone, its prior in the other."""
    truth, volume = drawn(np.zeros(SHAPE, bool), spread_slices((2, 2, 2), SHAPE))
    stack = stacked(volume)
    split = hold_out_fold(stack.folds, volume.labels.numpy(), 0)
    plan = replace(
        make_plan(Fingerprint.of(volume.labels.numpy(), (1, 1, 1), 1, 3, 6), width=4),
        batch=2,
        held_out_share=0.5,
    )
    trainer = Trainer(plan, [volume], 3, split, 0, stack)
    seen = []
    share = trainer.training_set.fit_share

    def watched(rows, known):
        seen.append(len(known))
        return share(rows, known)

    monkeypatch.setattr(trainer.training_set, "fit_share", watched)
    scores = trainer.score_held_out()
    whole = int(split.scored.sum())
    assert seen == [whole, whole - whole // 2, whole // 2], "all for the result, halves for scores"
    assert len(scores) == 2 and sum(row["voxels"] for row in scores) == int(
        (truth[split.scored] > 0).sum()
    )

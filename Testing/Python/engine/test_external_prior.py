"""An external prior: a good one helps, a useless one costs nothing, and what it does not know it
does not vote against."""

import numpy as np
import pytest
import torch
from phantom import iou
from test_one_slice import drawn, volume_of

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.orientation import Turn
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.data.external_prior import ExternalPrior
from SparseSegNetLib.engine.data.inputs import Inputs
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.external_prior import (
    SHRINKAGE,
    UNJUDGED,
    beside,
    external_weights,
)
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (14, 16, 18)
FEW = [AnnotatedSlice("k", 7), AnnotatedSlice("j", 8), AnnotatedSlice("i", 9)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(voxel_classifier, "STEPS", (20, 60))


def probabilities(labels, classes=3):
    return torch.stack([torch.from_numpy(labels == n) for n in range(classes)]).half()


def blurred(slices):
    """The phantom's truth, and its volume in so much noise that the image tells little."""
    image, truth, _ = drawn(slices[0], shape=SHAPE)
    noise = np.random.default_rng(1).normal(0, 120, truth.shape)
    return truth, volume_of(image + noise, restrict_to_slices(truth, slices), slices)


def stacked(volume, external=None, known=(1, 2), **options):
    if external is not None and not isinstance(external, list):
        external = [ExternalPrior.everywhere(external, known)]
    stacker = Stacker(PriorMaker(volume, 3), external=external or (), **options)
    return stacker.stack(volume.labels, volume.slices)


def labels_of(stack):
    return prior_of(stack.target, 3).argmax(dim=0).numpy()


@pytest.mark.parametrize("slices", [FEW, FEW[:1]], ids=["three slices", "one slice"])
def test_a_good_one_helps_and_noise_costs_nothing(slices):
    truth, volume = blurred(slices)
    annotated = volume.labels.numpy() != UNLABELLED
    without = stacked(volume)
    noise = np.random.default_rng(0).integers(0, 3, truth.shape)
    same = stacked(volume, probabilities(noise))
    assert torch.equal(same.target.image, without.target.image)
    assert all(
        torch.equal(a.image, b.image) for a, b in zip(same.folds, without.folds, strict=True)
    )
    helped = stacked(volume, probabilities(truth))
    before, after = (iou(labels_of(stack), truth, annotated) for stack in (without, helped))
    assert after > before + 0.02
    if without.scores is not None:
        dice = [np.mean([row["dice"] for row in stack.scores]) for stack in (without, helped)]
        assert dice[1] > dice[0] + 0.02, "the score of what is held out says so too"


def test_a_class_that_it_does_not_know():
    """It is not voted against: where the prior says background, the others decide."""
    truth, volume = blurred(FEW)
    annotated = volume.labels.numpy() != UNLABELLED
    lacking = probabilities(np.where(truth == 2, 0, truth))
    without, said, known = (
        labels_of(stacked(volume, external, (1,) if number == 1 else (1, 2)))
        for number, external in enumerate((None, lacking, lacking))
    )

    def core(found):
        rest = ~annotated
        both = (found == 2) & (truth == 2) & rest
        return both.sum() / (((found == 2) | (truth == 2)) & rest).sum()

    assert core(said) > core(without), "its shell tells where the core ends"
    assert core(said) > core(known) + 0.05


def test_background_is_divided_as_the_others_say():
    own = torch.tensor([[1.0, 0.4], [0.0, 0.6], [0.0, 0.0]]).view(3, 1, 1, 2).half()
    others = torch.tensor([[0.2, 0.5], [0.4, 0.5], [0.4, 0.0]]).view(3, 1, 1, 2)
    found = beside(ExternalPrior.everywhere(own, (1,)), others)[0, :, 0, 0].float()
    # 2 of 3 parts of the first voxel's background belong to class 2, none of the second's.
    expected = torch.tensor([[1 / 3, 0.4], [0.0, 0.6], [2 / 3, 0.0]])
    assert torch.allclose(found, expected, atol=1e-3)
    assert torch.equal(beside(ExternalPrior.everywhere(own, (1, 2)), others)[0], own)
    # Of the first voxel it knows nothing, of the second that class 1 is there or is not.
    told = torch.tensor([[False, True], [False, False]]).view(2, 1, 1, 2)
    found = beside(ExternalPrior(own, told), others)[0, :, 0, 0].float()
    assert torch.allclose(found, torch.tensor([[0.0, 0.4], [0.0, 0.6], [0.0, 0.0]]), atol=1e-3)


def test_without_folds_it_has_a_fixed_weight():
    truth, volume = blurred(FEW)
    shown = []
    for external in (None, probabilities(truth)):
        stack = stacked(volume, external, seconds=0.0, preview=shown.append)
        assert stack.missing == "time"
    right = [p.gather(0, torch.from_numpy(truth).long()[None])[0].mean() for p in shown]
    assert right[0] + 0.01 < right[1] < right[0] + UNJUDGED


def test_one_fold_that_does_not_support_it_is_enough():
    """What helps in one slice and harms in another is not to be trusted elsewhere."""
    generator = torch.Generator().manual_seed(0)
    truths = [torch.randint(0, 2, (500,), generator=generator).to(torch.uint8) for _ in range(2)]
    right = [torch.nn.functional.one_hot(t.long(), 2).T.float() for t in truths]
    ensemble = [0.6 * r + 0.4 * (1 - r) for r in right]
    weights = torch.ones(1)
    good = [torch.stack((e, r)) for e, r in zip(ensemble, right, strict=True)]
    mixed = [good[0], torch.stack((ensemble[1], 1 - right[1]))]
    (share,) = external_weights(good, truths, weights).tolist()
    assert share > 0.9 * SHRINKAGE
    assert external_weights(mixed, truths, weights).tolist() == [0]
    nothing = external_weights([g[:, :, :0] for g in good], [t[:0] for t in truths], weights)
    assert torch.allclose(nothing, torch.tensor([UNJUDGED]))


def test_a_fold_judges_by_what_is_covered_of_it():
    generator = torch.Generator().manual_seed(0)
    truths = [torch.randint(0, 2, (500,), generator=generator).to(torch.uint8) for _ in range(2)]
    right = [torch.nn.functional.one_hot(t.long(), 2).T.float() for t in truths]
    good = [torch.stack((0.6 * r + 0.4 * (1 - r), r)) for r in right]
    weights = torch.ones(1)

    def covering(rows, first):
        found = rows.clone()
        found[1, :, first:] = 0
        return found

    whole = external_weights(good, truths, weights)
    part = external_weights([covering(g, 250) for g in good], truths, weights)
    assert torch.allclose(part, whole, atol=0.02)
    # Background alone, or nothing, tells nothing of a fold; the other one judges.
    order = truths[1].argsort()
    rows, truth = good[1][:, :, order], truths[1][order]
    for covered in (0, 100):
        found = external_weights([good[0], covering(rows, covered)], [truths[0], truth], weights)
        assert torch.allclose(found, external_weights(good[:1], truths[:1], weights))
        alone = external_weights([covering(rows, covered)], [truth], weights)
        assert torch.allclose(alone, torch.tensor([UNJUDGED]))


def test_two_have_weights_of_their_own():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (600,), generator=generator).to(torch.uint8)
    right = torch.nn.functional.one_hot(truth.long(), 2).T.float()
    noise = right[:, torch.randperm(600, generator=generator)]
    ensemble, weights = 0.6 * right + 0.4 * (1 - right), torch.ones(1)
    good, bad = external_weights([torch.stack((ensemble, right, noise))], [truth], weights)
    assert good > 0.9 * SHRINKAGE and bad == 0
    # The same twice shares one weight.
    twice = external_weights([torch.stack((ensemble, right, right))], [truth], weights)
    assert torch.allclose(twice, good / 2, atol=0.02)
    # Each right where it says something: they cover different halves, and no more than both count.
    first, second = right.clone(), right.clone()
    first[:, 300:], second[:, :300] = 0, 0
    apart = external_weights([torch.stack((ensemble, first, second))], [truth], weights)
    assert torch.allclose(apart, torch.full((2,), SHRINKAGE / 2), atol=0.03)
    assert apart.sum() <= SHRINKAGE + 1e-6


def test_outside_of_its_box_it_has_no_share():
    truth, volume = blurred(FEW)
    annotated = volume.labels.numpy() != UNLABELLED
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[2:12, :, :11] = True
    prior = ExternalPrior(
        probabilities(np.where(inside.numpy(), truth, 0)), inside.expand(2, *SHAPE)
    )
    assert prior.partial
    without, helped = stacked(volume), stacked(volume, [prior])
    far = torch.zeros_like(inside)
    far[:, :, 15:] = True  # beyond what is diffused across the border of the box
    before, after = (prior_of(stack.target, 3) for stack in (without, helped))
    assert torch.allclose(before[:, far], after[:, far], atol=2e-3)
    # Where the likeliest class has just 0.99, rounding decides whether it is looked at.
    differs = (without.disagreement[far] - helped.disagreement[far]).abs() > 2e-3
    assert differs.float().mean() < 0.01
    scores = [iou(labels_of(s), truth, annotated | ~inside.numpy()) for s in (without, helped)]
    assert scores[1] > scores[0] + 0.02


def test_a_model_and_another_tool_together():
    """Noise beside a good one changes nothing."""
    truth, volume = blurred(FEW)
    noise = np.random.default_rng(0).integers(0, 3, truth.shape)
    both = [ExternalPrior.everywhere(probabilities(found), (1, 2)) for found in (noise, truth)]
    alone, together = (prior_of(stacked(volume, some).target, 3) for some in (both[1:], both))
    assert (alone - together).abs().max() < 0.05


def test_from_the_run_folder_on_a_coarser_working_grid(tmp_path):
    image, truth, labels = drawn(FEW[0], shape=SHAPE)
    prior = np.stack([255 * (truth == 2)]).astype(np.uint8)
    given = volume_input(image, labels, prior, (2,))
    segments = [Segment.numbered(n, n - 1) for n in (1, 2)]
    folder = RunFolder.create(tmp_path / "run", [given], segments, Options())
    inputs = Inputs(RunFolder.open(folder.path))
    given = inputs.external(0, truth.shape, CPU)
    found = given.probabilities
    assert given.known.flatten().tolist() == [False, True] and found.dtype == torch.float16
    assert torch.equal(found, probabilities(np.where(truth == 2, 2, 0))) and not given.partial
    half = tuple(n // 2 for n in truth.shape)
    coarse = inputs.external(0, half, CPU).probabilities
    blocks = (truth == 2).reshape(half[0], 2, half[1], 2, half[2], 2).mean(axis=(1, 3, 5))
    assert np.abs(coarse[2].float().numpy() - blocks).max() < 2e-3
    assert torch.allclose(coarse.float().sum(dim=0), torch.ones(half), atol=2e-3)
    turned = Inputs(RunFolder.open(folder.path), "RAS")
    assert not turned.turns[0].identity
    back = turned.external(0, truth.shape, CPU).probabilities.numpy()
    assert np.array_equal(Turn.between("LPS", "RAS").back(back), found.numpy())


def test_a_part_from_the_run_folder(tmp_path):
    """On a coarser grid a voxel has the mean of what is known of it."""
    image, truth, labels = drawn(FEW[0], shape=SHAPE)
    known = np.zeros((1, *SHAPE), np.uint8)
    known[:, 3:10, :, 2:15] = 1
    prior = 255 * (truth == 2).astype(np.uint8)[None] * known
    given = volume_input(image, labels, prior, (2,), known)
    segments = [Segment.numbered(n, n - 1) for n in (1, 2)]
    folder = RunFolder.create(tmp_path / "run", [given], segments, Options())
    inputs = Inputs(RunFolder.open(folder.path))
    found = inputs.external(0, SHAPE, CPU)
    assert found.partial and not found.known[0].any()
    assert np.array_equal(found.known[1], known[0] != 0)
    assert torch.equal(found.probabilities, probabilities(np.where(prior[0] > 0, 2, 0)))
    half = tuple(n // 2 for n in SHAPE)
    coarse = inputs.external(0, half, CPU)

    def blocks(array):
        return array.reshape(half[0], 2, half[1], 2, half[2], 2).mean(axis=(1, 3, 5))

    share = blocks(known[0].astype(float))
    assert np.array_equal(coarse.known[1], share > 0.5)
    wanted = np.where(share > 0.5, blocks(prior[0] / 255) / share.clip(0.5), 0)
    assert np.abs(coarse.probabilities[2].float().numpy() - wanted).max() < 2e-3
    turned = Inputs(RunFolder.open(folder.path), "RAS").external(0, SHAPE, CPU)
    assert np.array_equal(Turn.between("LPS", "RAS").back(turned.known[1].numpy()), known[0] != 0)


def test_a_run_without_one(tmp_path):
    image, _, labels = drawn(FEW[0], shape=SHAPE)
    given = volume_input(image, labels, None, ())
    segments = [Segment.numbered(n, n - 1) for n in (1, 2)]
    folder = RunFolder.create(tmp_path / "run", [given], segments, Options())
    assert not (folder.path / "inputs" / "1" / "prior.npy").exists()
    assert Inputs(folder).external(0, labels.shape, CPU) is None


def volume_input(image, labels, prior, classes, known=None):
    from test_training import grid_of

    return RunInput(
        image[None],
        labels,
        grid_of(labels),
        FEW[:1],
        ["1"],
        prior=prior,
        prior_classes=classes,
        prior_known=known,
    )

"""Annotation in one slice: it is segmented from, nothing is scored, and more slices are advised."""

import numpy as np
import pytest
import torch
from phantom import iou, nested
from test_robustness import densified
from test_training import grid_of

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice, array_axis
from SparseSegNetLib.engine.data.one_slice import advice, only_slice
from SparseSegNetLib.engine.data.preprocessing import Normalisation, labels_on, working_volume
from SparseSegNetLib.engine.priors.maker import PRIOR_NAMES, PriorMaker
from SparseSegNetLib.engine.stacking import filters
from SparseSegNetLib.engine.stacking.folds import labels_of, make_folds
from SparseSegNetLib.engine.stacking.in_slice import in_slice_weights, with_propagated
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (22, 26, 30)
MIDDLE = [AnnotatedSlice("k", 11), AnnotatedSlice("j", 13), AnnotatedSlice("i", 15)]
SAID = "one annotated slice is very little"
NAMES = [*PRIOR_NAMES, "with priors", "without priors"]

pytestmark = pytest.mark.usefixtures("small_training")


def whole(plane):
    return plane


def box(plane):
    """All but a margin, which leaves the slice incomplete."""
    kept = np.full_like(plane, UNLABELLED)
    kept[2:-2, 3:-3] = plane[2:-2, 3:-3]
    return kept


def strokes(plane):
    """A few voxels of a row in each class."""
    kept = np.full_like(plane, UNLABELLED)
    for value in (0, 1, 2):
        row = int(np.argmax((plane == value).sum(axis=1)))
        at = np.flatnonzero(plane[row] == value)
        kept[row, at[:: max(1, len(at) // 10)]] = value
    return kept


def drawn(item, kind=whole, shape=SHAPE):
    """Image, truth and labels of the nested phantom, annotated in one slice."""
    image, truth = nested(shape)
    labels = np.full_like(truth, UNLABELLED)
    labels[item.selector()] = kind(truth[item.selector()])
    return image, truth, labels


def volume_of(image, labels, slices, shape=None):
    image = image[None].astype(np.float32)
    given = RunInput(image, labels, grid_of(labels), slices)
    shape = labels.shape if shape is None else shape
    return working_volume(given, shape, Normalisation.measure(image), torch.device("cpu"))


class TestOnlySlice:
    @pytest.mark.parametrize("item", MIDDLE, ids=str)
    @pytest.mark.parametrize("kind", [whole, box])
    def test_whole_or_in_part(self, item, kind):
        assert only_slice(drawn(item, kind)[2]) == item

    @pytest.mark.parametrize("item", MIDDLE, ids=str)
    @pytest.mark.parametrize(("factor", "there"), [(0.5, 0), (1.5, 1), (3, 1)])
    def test_on_another_grid(self, item, factor, there):
        labels = drawn(item)[2]
        working = labels_on(labels, tuple(round(factor * n) for n in SHAPE))
        found = only_slice(working, SHAPE)
        assert found.axis == item.axis
        if there:
            assert found == item

    def test_two_slices_are_not_one(self):
        truth = nested(SHAPE)[1]
        for other in (AnnotatedSlice("k", 12), MIDDLE[1]):
            assert only_slice(restrict_to_slices(truth, [MIDDLE[0], other])) is None
        labels = drawn(MIDDLE[0])[2]
        labels[3, 4, 5] = 0
        assert only_slice(labels) is None

    def test_nor_is_what_a_flat_volume_has(self):
        labels = np.full((1, 9, 9), UNLABELLED, np.uint8)
        labels[0, 2:5, 3:7] = 1
        assert only_slice(labels) is None
        labels[0, 3:5] = UNLABELLED  # one row of it
        assert only_slice(labels) == AnnotatedSlice("j", 2)


class TestAdvice:
    @pytest.mark.parametrize("item", MIDDLE, ids=str)
    def test_the_slices_cross_the_structure(self, item):
        truth = np.zeros(SHAPE, np.uint8)
        truth[4:18, 3:7, 2:9] = 1  # in two pieces, with nothing in the middle between them
        truth[4:18, 18:23, 14:27] = 2
        index = {"k": 6, "j": 20, "i": 16}[item.axis]
        labels = restrict_to_slices(truth, [AnnotatedSlice(item.axis, index)])
        text = advice(labels, only_slice(labels))
        said = {
            "k": "draw two more across it (for example j:19 and i:17)",
            "j": "draw two more across it (for example k:11 and i:20)",
            "i": "draw two more across it (for example k:11 and j:20)",
        }[item.axis]
        assert text == f"{SAID}: {said}."
        for axis, place in (word.split(":") for word in text[:-2].split() if word[1] == ":"):
            plane = labels.take(int(place), array_axis(axis))
            assert ((plane > 0) & (plane != UNLABELLED)).any()

    def test_a_flat_volume_has_slices_along_one_axis_left(self):
        labels = np.full((1, 9, 9), UNLABELLED, np.uint8)
        labels[0, 2] = [0, 0, 0, 1, 1, 1, 0, 0, 0]
        assert advice(labels, only_slice(labels)) == (
            f"{SAID}: draw one more across it (for example i:4)."
        )


class TestFolds:
    @pytest.mark.parametrize("kind", [whole, box, strokes])
    def test_each_class_is_in_several_parts(self, kind):
        image, _truth, labels = drawn(MIDDLE[1], kind)
        volume = volume_of(image, labels, [MIDDLE[1]])
        complete = [MIDDLE[1]] if kind is whole else []
        folds = make_folds(volume.labels, volume, complete)
        held = [labels_of([fold], volume.labels, volume).numpy() for fold in folds]
        assert len(folds) >= 2 and not any(fold.slices for fold in folds)
        assert (sum((h != UNLABELLED).astype(int) for h in held) == (labels != UNLABELLED)).all()
        for value in (0, 1, 2):
            assert sum((h == value).any() for h in held) >= 2


class TestWeights:
    default = torch.tensor([0.0, 0.12, 0.08, 0.28, 0.32, 0.2])

    def rows(self, right):
        """Predictors that are right in so large a share of the voxels."""
        random = torch.Generator().manual_seed(0)
        truth = torch.randint(0, 2, (3000,), generator=random)
        found = []
        for share in right:
            wrong = torch.rand(3000, generator=random) > share
            found.append(0.9 * torch.eye(2)[truth ^ wrong.long()].T + 0.05)
        return torch.stack(found), truth.to(torch.uint8)

    def test_what_is_of_no_use_does_not_come_back(self):
        weights = in_slice_weights(*self.rows((0.99, 0.99, 0.3, 0.3, 0.95, 0.3)), self.default)
        assert weights.sum() == pytest.approx(1)
        assert weights[4] > 0.9, "not half way to the default weight of 0.32"
        assert weights[:2].tolist() == [0, 0], "no slice was held out to judge these by"

    def test_what_nothing_can_be_said_of_has_its_usual_weight(self):
        rows, truth = self.rows((0.5,) * 6)
        weights = in_slice_weights(rows[:, :, :0], truth[:0], self.default)
        assert with_propagated(weights, self.default).tolist() == pytest.approx(
            self.default.tolist()
        )

    def test_propagated_labels_are_trusted_as_the_other_priors_are(self):
        weights = torch.tensor([0.0, 0.0, 0.05, 0.1, 0.5, 0.35])
        assert with_propagated(weights, self.default)[1] == pytest.approx(0.05 / 1.05)
        without = self.default * torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
        assert with_propagated(weights, without)[1] == 0, "nothing was registered"


class TestStack:
    @pytest.mark.parametrize("item", MIDDLE, ids=str)
    def test_where_intensities_tell_the_segments_apart(self, item):
        image, truth, labels = drawn(item)
        volume = volume_of(image, labels, [item])
        stacker = Stacker(PriorMaker(volume, 3))
        stack = stacker.stack(volume.labels, volume.slices)
        found = prior_of(stack.target, 3)
        assert torch.allclose(found.sum(dim=0), torch.ones(()), atol=1e-3)
        assert iou(found.argmax(dim=0).numpy(), truth, labels != UNLABELLED) > 0.9
        assert stack.in_slice and len(stack.folds) >= 2
        assert stack.scores is None, "parts of a slice tell nothing of the volume"
        assert len(stacker.features) == filters.count(1), "a position teaches nothing across it"

    @pytest.mark.parametrize(("kind", "least"), [(box, 0.9), (strokes, 0.8)])
    def test_slices_drawn_in_part(self, kind, least):
        image, truth, labels = drawn(MIDDLE[0], kind)
        volume = volume_of(image, labels, [MIDDLE[0]])
        stack = Stacker(PriorMaker(volume, 3)).stack(volume.labels, volume.slices)
        found = prior_of(stack.target, 3).argmax(dim=0).numpy()
        assert iou(found, truth, labels != UNLABELLED) > least
        assert stack.in_slice and stack.scores is None

    def test_on_a_finer_grid(self):
        image, truth, labels = drawn(MIDDLE[0])
        shape = (2 * SHAPE[0], *SHAPE[1:])
        volume = volume_of(image, labels, [MIDDLE[0]], shape)
        stack = Stacker(PriorMaker(volume, 3, 0.0)).stack(volume.labels, volume.slices)
        found = prior_of(stack.target, 3).argmax(dim=0).numpy()[::2]
        assert iou(found, truth, labels != UNLABELLED) > 0.9
        assert stack.in_slice and stack.scores is None


class TestRun:
    def warnings(self, events):
        return [event["text"] for event in events if event["event"] == "warning"]

    @pytest.mark.parametrize(
        ("counts", "across"), [((0, 0, 1), "j:13 and i:15"), ((1, 0, 0), "k:11 and j:13")]
    )
    def test_a_good_result_without_a_score_and_with_advice(self, tmp_path, counts, across):
        image, truth = nested(SHAPE)
        result, events = densified(tmp_path / "run", image, truth, counts)
        assert iou(result, truth) > 0.9
        assert events[-1]["step"] == 6, "the network was trained, too"
        assert events[-1]["held_out"] is None and events[-1]["held_out_slices"] == []
        said = [text for text in self.warnings(events) if SAID in text]
        assert said == [f"{SAID}: draw two more across it (for example {across})."]
        assert any(text.startswith("no score of the result") for text in self.warnings(events))

    def test_no_time_for_a_network_is_not_why_there_is_no_score(self, tmp_path):
        image, truth = nested(SHAPE)
        _, events = densified(tmp_path / "run", image, truth, (0, 1, 0), max_steps=0, time_budget=5)
        (why,) = (text for text in self.warnings(events) if "no score" in text)
        assert "too little time" not in why

    def test_published_networks_advise_the_same(self, tmp_path):
        image, truth = nested((12, 26, 30))
        _, events = densified(
            tmp_path / "run",
            image,
            truth,
            (0, 0, 1),
            network="unet2d",
            tile=(188, 188, 1),
            width=2,
            max_steps=1,
        )
        assert any(SAID in text for text in self.warnings(events))

    def test_two_slices_are_scored_and_not_warned_of(self, tmp_path):
        image, truth = nested(SHAPE)
        _, events = densified(tmp_path / "run", image, truth, (0, 1, 1))
        assert not any(SAID in text for text in self.warnings(events))
        assert any(event.get("held_out") for event in events)

"""Training sets of several volumes: propagated labels, held-out volumes, unknown classes."""

import numpy as np
import pytest
import torch
from phantom import nested

from SparseSegNetLib.annotation.composition import restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.engine.compute.losses import auto_loss, masked_cross_entropy, merge_unknown
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.stacking.ensemble import split_background
from SparseSegNetLib.engine.training import volume_set
from SparseSegNetLib.engine.training.volume_set import (
    NEW_SHARE,
    Propagated,
    UnseenVoxels,
    VolumeSet,
    held_volume,
    propagated_labels,
    split_of,
)

SHAPE = (16, 18, 20)


def volume(seed, counts=(1, 1, 1), keep=(0, 1, 2)):
    """A phantom annotated in some slices, in which classes that are not kept were not drawn."""
    image, truth = nested(SHAPE, seed)
    slices = spread_slices(counts, SHAPE, truth > 0)
    labels = restrict_to_slices(np.where(np.isin(truth, keep), truth, 0).astype(np.uint8), slices)
    image = torch.from_numpy(((image - image.mean()) / image.std()).astype(np.float32))[None]
    return WorkingVolume(image, torch.from_numpy(labels), torch.ones(3), SHAPE, slices)


def ensemble(sure=1.0):
    """Class probabilities of the phantom, as sure as that."""
    truth = torch.from_numpy(nested(SHAPE)[1]).long()
    one_hot = torch.nn.functional.one_hot(truth, 3).movedim(-1, 0).float()
    return sure * one_hot + (1 - sure) / 3


@pytest.fixture(autouse=True)
def two_are_enough(monkeypatch):
    """One of two volumes may be held out."""
    monkeypatch.setattr(volume_set, "FEWEST_VOLUMES", 2)


class TestUnknown:
    logits = torch.randn(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))

    def test_its_probability_is_the_backgrounds(self):
        unknown = torch.tensor([[False, True, False, True], [False] * 4])
        found = merge_unknown(self.logits, unknown).softmax(dim=1)
        before = self.logits.softmax(dim=1)
        assert torch.allclose(found[0, 0], before[0, [0, 1, 3]].sum(dim=0), atol=1e-5)
        assert torch.allclose(found[0, 2], before[0, 2], atol=1e-5)
        assert not found[0, [1, 3]].any()
        assert torch.allclose(found[1], before[1], atol=1e-5)
        assert merge_unknown(self.logits, None) is self.logits

    def test_rows_of_several_models(self):
        rows = torch.randn(5, 7, 4)
        unknown = torch.zeros(5, 7, 4, dtype=torch.bool)
        unknown[:, :3, 2] = True
        found = merge_unknown(rows, unknown).softmax(dim=2)
        before = rows.softmax(dim=2)
        assert torch.allclose(found[:, :3, 0], before[:, :3, [0, 2]].sum(dim=2), atol=1e-5)
        assert torch.allclose(found[:, 3:], before[:, 3:], atol=1e-5)

    @pytest.mark.parametrize("loss", [masked_cross_entropy, auto_loss])
    def test_background_teaches_nothing_against_it(self, loss):
        """Where background is labelled it does not matter how likely it is against the unknown."""
        labels = torch.zeros(2, 3, 3, 3, dtype=torch.long)
        labels[:, 0] = 2
        unknown = torch.tensor([[False, True, False, False]] * 2)
        logits = self.logits.clone()
        moved = logits.clone()
        both = logits[:, [0, 1]].logsumexp(dim=1)
        moved[:, 0], moved[:, 1] = both - 3.0, torch.log(both.exp() - (both - 3.0).exp())
        values = [float(loss(merge_unknown(x, unknown), labels)) for x in (logits, moved)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
        plain = [float(loss(x, labels)) for x in (logits, moved)]
        assert plain[0] != pytest.approx(plain[1], rel=1e-2), "without it, it would"

    def test_an_ensemble_without_it_divides_its_background(self):
        own = torch.tensor([[0.8], [0.0], [0.2]])
        model = torch.tensor([[0.3], [0.6], [0.1]])
        found = split_background(own, model, torch.tensor([[True], [False]]))
        assert torch.allclose(found[:, 0], torch.tensor([0.8 / 3, 1.6 / 3, 0.2]))


class TestPropagated:
    def test_only_sure_labels_and_never_over_drawn_ones(self):
        drawn = volume(0).labels.clone()
        drawn[8, 9, 10] = 2 - drawn[8, 9, 10] % 2  # drawn otherwise than the ensemble says
        found = propagated_labels(ensemble(0.9), drawn)
        known = drawn != 255
        assert torch.equal(found[known], drawn[known])
        assert torch.equal(found[~known], torch.from_numpy(nested(SHAPE)[1])[~known])
        assert (propagated_labels(ensemble(0.5), drawn) == 255).sum() == (~known).sum()


class TestHeldOut:
    def test_the_others_show_all_classes(self):
        rare = volume(0)  # the only one with class 2
        others = [volume(n, keep=(0, 1)) for n in (1, 2)]
        assert all(held_volume([rare, *others], seed) != 0 for seed in range(8))
        assert held_volume([rare], 0) is None
        assert held_volume([rare, others[0]], 0) == 1

    def test_of_few_volumes_none(self, monkeypatch):
        monkeypatch.undo()
        volumes = [volume(n) for n in range(4)]
        assert held_volume(volumes[:3], 0) is None and held_volume(volumes, 0) is not None

    def test_strokes_alone_are_not_scored(self):
        strokes = volume(0)
        strokes.slices = []
        strokes.labels = torch.full_like(strokes.labels, 255)
        strokes.labels[3, 3, 3:9] = 1
        assert split_of(strokes) is None

    def test_it_trains_on_the_others_until_the_end(self):
        volumes = [volume(n) for n in range(3)]
        found = VolumeSet(volumes, [Propagated(ensemble()) for _ in volumes], 0, True)
        assert found.holding_out and len(found.training_volumes()) == 2
        assert found.scored not in found.training_volumes()
        assert torch.equal(found.truth, volumes[found.held].labels), "drawn, not propagated"
        found.holding_out = False
        assert len(found.training_volumes()) == 3
        assert all((v.labels != 255).all() for v in found.volumes)

    def test_the_prior_of_its_slices_is_that_of_a_model_without_it(self):
        volumes = [volume(n) for n in range(2)]
        item = volumes[0].slices[0]
        places = torch.nonzero((volumes[0].labels != 255).flatten())[:, 0][::2]
        truth = ensemble().flatten(1)[:, places]
        own = [Propagated(ensemble(), UnseenVoxels(places, truth)) for _ in volumes]
        found = VolumeSet(volumes, own, 0, True)
        prior = found.scored_prior(3, item)
        scored = torch.from_numpy(found.split.scored[item.selector()])
        assert scored.any() and torch.equal(
            prior.argmax(dim=0)[scored].to(torch.uint8), found.truth[item.selector()][scored]
        )
        assert not prior[:, ~scored].any(), "nothing is known of other voxels"

    def test_a_useless_network_has_no_weight(self):
        found = VolumeSet([volume(0)], [Propagated(ensemble())], 0, False)
        known = torch.randint(3, (500,), generator=torch.Generator().manual_seed(0)).byte()
        right = torch.nn.functional.one_hot(known.long(), 3).T.float()
        wrong = torch.full((3, 500), 1 / 3)
        assert found.fit_share(torch.stack((right, wrong)), known) == 0
        assert found.fit_share(torch.stack((wrong, right)), known) > 0.8
        assert found.fit_share(torch.zeros(2, 3, 0), known[:0]) == NEW_SHARE


class TestChanges:
    def test_newly_drawn_voxels_win_over_propagated_ones(self):
        volumes = [volume(n) for n in range(2)]
        found = VolumeSet(volumes, [Propagated(ensemble()) for _ in volumes], 0, False)
        labels = volumes[1].labels.clone()
        labels[0] = 2
        news = found.change(1, labels, [*volumes[1].slices, AnnotatedSlice("k", 0)])
        assert news[0].all() and not news[1:].any()
        assert (found.volumes[1].labels[0] == 2).all()
        assert found.prior_for(found.volumes[1], 3) is not None

    def test_a_volume_more(self):
        found = VolumeSet([volume(0)], [Propagated(ensemble())], 0, False)
        found.add(volume(1))
        assert len(found.training_volumes()) == 2
        assert found.prior_for(found.volumes[1], 3) is None
        found.change(1, torch.ones(SHAPE, dtype=torch.uint8), [])
        assert (found.volumes[1].labels == 1).all()

    def test_everything_moves(self):
        volumes = [volume(n) for n in range(2)]
        found = VolumeSet(volumes, [Propagated(ensemble()) for _ in volumes], 0, True)
        found.move(torch.device("meta"))
        assert all(v.labels.device.type == "meta" for v in [*found.volumes, found.split.fold])
        assert all(labels.device.type == "meta" for labels in found.drawn)

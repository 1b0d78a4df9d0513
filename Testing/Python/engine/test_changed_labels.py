"""A training that is broken off, moved or given other labels goes on from where it was."""

from dataclasses import replace

import pytest
import torch
from test_training import grid_of, nested_balls, trainer_for

from SparseSegNetLib.annotation.composition import UNLABELLED, restrict_to_slices
from SparseSegNetLib.annotation.even_spacing import spread_slices
from SparseSegNetLib.engine.data.preprocessing import Normalisation, working_volume
from SparseSegNetLib.engine.interaction.clock import Clock
from SparseSegNetLib.engine.interaction.commands import Commands
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.engine.training.checkpoint import load_state, save_state
from SparseSegNetLib.engine.training.held_out import hold_out_fold
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.training.training_state import restore, state_of
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (20, 22, 24)

pytestmark = pytest.mark.usefixtures("small_training")


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def stacked_trainer(held=False, counts=(2, 2, 2)):
    image, truth = nested_balls(SHAPE)
    slices = spread_slices(counts, truth.shape, truth > 0)
    labels = restrict_to_slices(truth, slices)
    volume = working_volume(
        RunInput(image, labels, grid_of(labels), slices),
        labels.shape,
        Normalisation.measure(image),
        torch.device("cpu"),
    )
    stack = Stacker(PriorMaker(volume, 3)).stack(volume.labels, volume.slices)
    stack = replace(stack, out_of_fold=None)  # as the engine does once the score is made
    plan = make_plan(Fingerprint.of(labels, (1, 1, 1), 1, 3, len(slices)), width=4)
    plan = replace(plan, batch=4, held_out_share=0.6 if held else 0.0)
    split = hold_out_fold(stack.folds, labels, 0) if held else None
    return Trainer(plan, [volume], 3, split, 0, stack), truth


class TestCheckpoint:
    def paths(self, folder):
        return folder / "state.safetensors", folder / "state-previous.safetensors"

    def test_to_the_bit_as_if_nothing_had_happened(self, tmp_path):
        image, truth = nested_balls(SHAPE)
        whole, _ = trainer_for(image, truth, (3, 3, 2), held_out=True)
        whole.train(by_steps(16))
        first, _ = trainer_for(image, truth, (3, 3, 2), held_out=True)

        class Broken(Exception):
            pass

        def broken(report):
            if report.step == 7:
                raise Broken

        with pytest.raises(Broken):
            first.train(by_steps(16), broken)
        save_state(self.paths(tmp_path), *state_of(first))
        second, _ = trainer_for(image, truth, (3, 3, 2), held_out=True)
        tensors, about = load_state(self.paths(tmp_path))
        restore(second, tensors, about)
        assert (
            second.steps == 7
            and second.training_set.holding_out
            and same(first.network, second.network)
        )
        second.train(by_steps(16))
        assert same(whole.network, second.network) and same(whole.average, second.average)
        assert list(whole.losses) == list(second.losses)

    def test_two_generations(self, tmp_path):
        paths = self.paths(tmp_path)
        assert load_state(paths) is None
        for number in range(3):
            save_state(paths, {"a": torch.full((2,), float(number))}, {"steps": number})
        assert load_state(paths)[1]["steps"] == 2
        paths[0].write_bytes(paths[0].read_bytes()[:-3])
        tensors, about = load_state(paths)
        assert about["steps"] == 1 and tensors["a"].tolist() == [1.0, 1.0]
        paths[0].unlink()
        assert load_state(paths)[1]["steps"] == 1
        paths[1].write_bytes(b"")
        assert load_state(paths) is None

    def test_of_another_network(self):
        image, truth = nested_balls(SHAPE)
        one, _ = trainer_for(image, truth, width=4)
        other, _ = trainer_for(image, truth, width=8)
        with pytest.raises(ValueError, match="does not fit"):
            restore(other, *state_of(one))

    def test_slices_that_were_seen_are_not_held_out_again(self):
        one, _ = stacked_trainer(held=True)
        one.train(by_steps(4), lambda report: None)
        tensors, about = state_of(one)
        other, _ = stacked_trainer(held=True)
        about["held_slices"] = ["k:1"]
        restore(other, tensors, about)
        assert not other.training_set.holding_out and other.split is None


class TestChangedLabels:
    def test_what_is_new_is_taught_with_a_prior_that_has_not_seen_it(self):
        trainer, truth = stacked_trainer()
        before = trainer.target
        labels = before.labels.clone()
        new = labels[15] == UNLABELLED
        labels[15] = torch.from_numpy(truth[15])
        trainer.change_labels(0, labels, [*before.slices])
        fresh = trainer.training_set.fresh
        assert (fresh.labels[15][new] == labels[15][new]).all()
        assert (fresh.labels[15][~new] == UNLABELLED).all()
        assert (fresh.labels[:15] == UNLABELLED).all()
        assert fresh.image is before.image, "the volume is not copied"
        assert trainer.training_set.training_volumes()[-1] is fresh
        more = labels.clone()
        more[3, 3, 3] = 0
        trainer.change_labels(0, more, [*before.slices])
        assert (
            len(trainer.training_set.training_volumes())
            == len(trainer.training_set.stack.folds) + 1
        )
        assert int((trainer.training_set.fresh.labels != UNLABELLED).sum()) == int(new.sum()) + 1

    def test_what_is_taken_away_or_corrected_reaches_every_fold(self):
        trainer, _ = stacked_trainer(held=True)
        labels = trainer.target.labels.clone()
        item = trainer.split.slices[0]
        plane = labels[item.selector()]
        plane[:] = torch.where(plane == 1, 2, plane)
        plane[0] = UNLABELLED
        trainer.change_labels(0, labels, trainer.target.slices)
        held = trainer.training_set.scored
        assert (
            held in trainer.training_set.stack.folds
            and held not in trainer.training_set.training_volumes()
        )
        known = held.labels != UNLABELLED
        assert (held.labels[known] == labels[known]).all()
        assert not (trainer.split.mask & (labels == UNLABELLED).numpy()).any()
        assert trainer.training_set.fresh is None
        assert trainer.score_held_out()
        trainer.train(by_steps(3))

    def test_new_voxels_are_drawn_more_often_for_a_while(self):
        image, truth = nested_balls(SHAPE)
        trainer, labels = trainer_for(image, truth, (1, 1, 1))
        changed = torch.from_numpy(labels).clone()
        changed[2, 2, 2:5] = 0
        trainer.change_labels(0, changed, [])
        sampler = trainer.sampler
        tables = [sampler._index_to_draw_from() for _ in range(2000)]
        assert tables[0] is not None
        chosen = [t is sampler._favourites for t in tables]
        assert 400 < sum(chosen[:1000]) < 600 and not any(chosen[1000:])
        assert [len(c) for c in sampler._favourites[0]] == [3]
        trainer.change_labels(0, changed, [])
        assert not any(sampler._favourites)
        assert len(sampler.batch(1)) == 3

    def test_other_priors_end_what_was_held_out(self, monkeypatch):
        # How well they learn does not matter.
        monkeypatch.setattr(voxel_classifier, "STEPS", (100, 100))
        trainer, truth = stacked_trainer(held=True)
        labels = torch.from_numpy(truth)
        trainer.change_labels(0, labels, trainer.target.slices)
        plain = replace(trainer.target, image=trainer.target.image[:1])
        again = Stacker(PriorMaker(plain, 3)).stack(plain.labels, plain.slices)
        trainer.replace_stack(again)
        assert trainer.split is None and trainer.training_set.fresh is None
        trainer.train(by_steps(3))
        assert trainer.steps == 3

    def test_a_volume_more(self):
        image, truth = nested_balls(SHAPE)
        trainer, _ = trainer_for(image, truth)
        trainer.add_volume(replace(trainer.target))
        assert len(trainer.sampler.volumes) == 2
        trainer.train(by_steps(2))


def test_moved_away_and_back_it_learns_the_same():
    """As pausing does, from a device to the CPU and back."""
    moved, _ = stacked_trainer(held=True)
    stayed, _ = stacked_trainer(held=True)
    for trainer in (moved, stayed):
        trainer.step(0.1)
    folds = [f.image.data_ptr() for f in moved.training_set.stack.folds]
    moved.move(torch.device("cpu"))
    assert [f.image.data_ptr() for f in moved.training_set.stack.folds] == folds, "no copies on one"
    assert moved.split.fold in moved.training_set.stack.folds
    for trainer in (moved, stayed):
        trainer.step(0.2)
    assert same(moved.network, stayed.network)


class TestCommands:
    def test_repetitions_take_no_room(self):
        commands = Commands()
        for number in range(1000):
            assert commands.put({"command": "labels-changed", "input": 1 + number % 2})
            assert commands.put({"command": "preview", "planes": [f"k:{number}"]})
            assert commands.put({"command": "set", "time_budget": number})
        assert commands.urgent("preview") and not commands.urgent("nothing")
        taken = commands.take()
        assert len(taken) == 4
        assert next(m for m in taken if m["command"] == "preview")["planes"] == ["k:999"]
        assert commands.take() == []

    def test_an_end_ends_a_pause(self):
        commands = Commands()
        commands.put({"command": "pause"})
        assert commands.paused and commands.urgent()
        commands.put({"command": "resume"})
        assert not commands.paused
        commands.put({"command": "pause"})
        commands.put({"command": "stop"})
        assert not commands.paused

    def test_what_is_no_command(self):
        commands = Commands()
        assert not commands.put({"command": "dance"})
        assert not commands.put({"command": "preview", "input": ["k"]})
        assert commands.take() == []


def test_the_clock_stands_still_while_paused(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("SparseSegNetLib.engine.interaction.clock.time.monotonic", lambda: now[0])
    clock = Clock(10.0)
    now[0] += 3
    clock.pause()
    now[0] += 50
    assert clock.seconds == 3
    clock.seconds = 4
    clock.resume()
    now[0] += 1
    assert clock.seconds == 5 and clock.left == 5
    clock.budget = 3
    assert clock.left == 0

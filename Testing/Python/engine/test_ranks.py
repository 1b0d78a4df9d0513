"""Several ranks are one training: what they compute together, with real process groups."""

import multiprocessing
import os
import socket
import sys
from dataclasses import replace

import pytest
import torch
from test_training import nested_balls, trainer_for

from SparseSegNetLib.engine.compute import number_formats
from SparseSegNetLib.engine.compute import ranks as ranks_module
from SparseSegNetLib.engine.compute.ranks import LOST_AFTER, Ranks
from SparseSegNetLib.engine.training.loss_scale import LossScale
from SparseSegNetLib.engine.training.together import Alone, Follower, Leader
from SparseSegNetLib.errors import EngineError, InputError

SHAPE = (20, 22, 24)
# With several threads a fork would copy locks that nobody releases.
FORK = sys.platform == "linux" and torch.get_num_threads() == 1
TASKS = {}


def task(function):
    """A function that a rank carries out in a process of its own."""
    TASKS[function.__name__] = function
    return function


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def places(count):
    """The environment that torchrun gives each rank."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [shared | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]


def _rank(place, name, results):
    torch.set_num_threads(1)
    os.environ.update(place)
    ranks = Ranks.of_environment()
    ranks.join()
    try:
        results.put((ranks.rank, TASKS[name](ranks)))
    finally:
        ranks.leave()


def together(function, count=2, alive=(0, 1)):
    """What the ranks return that live on."""
    context = multiprocessing.get_context("fork" if FORK else "spawn")
    results = context.SimpleQueue()
    children = [
        context.Process(target=_rank, args=(place, function.__name__, results))
        for place in places(count)
    ]
    for child in children:
        child.start()
    found = dict(results.get() for _ in alive)
    for child in children:
        child.join()
    return [found[rank] for rank in alive]


def small_trainer(loss="auto", dtype=torch.float32):
    image, truth = nested_balls(SHAPE)
    trainer, _ = trainer_for(image, truth)
    trainer.plan = replace(trainer.plan, batch=2, loss=loss)
    trainer.sampler.plan = trainer.plan
    trainer.weigh_classes()
    trainer.network.to(dtype)
    return trainer


def batch_of(trainer, size, dtype):
    pixels, labels, unknown = trainer.sampler.batch(size)
    return pixels.to(dtype), labels, unknown


def gradients(trainer):
    trainer._gradient()
    return [p.grad.numpy().copy() for p in trainer.network.parameters()]


LOSSES = {
    "Dice, squared": (torch.float64, 1e-9),
    "Dice, all classes": (torch.float64, 1e-9),
    "auto": (torch.float32, 1e-4),
}


@task
def gradients_of_a_part(ranks):
    found = {}
    for loss, (dtype, _) in LOSSES.items():
        trainer = small_trainer(loss, dtype)
        trainer.partners = Leader(ranks)
        pixels, labels, unknown = batch_of(trainer, 2 * ranks.count, dtype)
        part = slice(2 * ranks.rank, 2 * ranks.rank + 2)
        batch = pixels[part], labels[part], unknown
        trainer.sampler.batch = lambda size, batch=batch: batch
        with ranks.summing(trainer.device):
            own = gradients(trainer)
        found[loss] = own, {n: b.numpy().copy() for n, b in trainer.network.named_buffers()}
    return found


def test_the_gradient_is_that_of_all_patches():
    """Loss and batch statistics too, which are no means of the ranks' own."""
    first, second = together(gradients_of_a_part)
    for loss, (dtype, close) in LOSSES.items():
        whole = small_trainer(loss, dtype)
        batch = batch_of(whole, 4, dtype)
        whole.sampler.batch = lambda size, batch=batch: batch
        expected = gradients(whole)
        largest = max(abs(g).max() for g in expected)
        (mine, statistics), (others, _) = first[loss], second[loss]
        for own, other, one in zip(mine, others, expected, strict=True):
            assert (own == other).all(), loss
            assert abs(own - one).max() <= close * largest, loss
        for name, buffer in whole.network.named_buffers():
            assert abs(statistics[name] - buffer.numpy()).max() <= 1e-5, (loss, name)


def weights_of(trainer):
    tensors = [*trainer.network.state_dict().values(), *trainer.average.state_dict().values()]
    return torch.cat([t.double().flatten() for t in tensors]).numpy().copy()


def followed(ranks):
    """What a rank that follows has at the end: weights, labels, patches and the exit code."""
    follower = Follower(ranks)
    code = follower.follow()
    trainer = follower._trainer
    drawn = trainer.sampler.batch(1)[0].numpy().copy()
    return (
        weights_of(trainer),
        [v.labels.numpy().copy() for v in trainer.sampler.volumes],
        drawn,
        code,
    )


@task
def training_with_changed_labels(ranks):
    if ranks.rank:
        return followed(ranks)
    trainer = small_trainer()
    trainer.partners = Leader(ranks)
    for fraction in (0.1, 0.2):
        trainer.step(fraction)
    labels = trainer.target.labels.clone()
    labels[2, 2, 2:5] = 2
    trainer.change_labels(0, labels, trainer.target.slices)
    trainer.step(0.3)
    trainer.move(torch.device("cpu"))  # as a pause does
    trainer.step(0.4)
    drawn = trainer.sampler.batch(1)[0].numpy().copy()
    trainer.partners.end(7)
    return weights_of(trainer), [labels.numpy().copy()], drawn, 7


def test_changed_labels_and_weights_are_the_same_on_all_ranks():
    (weights, labels, drawn, _), (others, seen, own, code) = together(training_with_changed_labels)
    assert (weights == others).all() and (labels[0] == seen[0]).all() and code == 7
    assert (drawn != own).any(), "each draws patches of its own"


@task
def training_in_float16(ranks):
    number_formats.FORMATS["cpu"] = ["float16", "float32"]  # in this process alone
    if ranks.rank:
        follower = Follower(ranks)
        follower.follow()
        trainer = follower._trainer
    else:
        trainer = small_trainer()
        trainer.plan = trainer.sampler.plan = replace(trainer.plan, dtype="float16")
        trainer.scale = LossScale(torch.device("cpu"), "float16")
        trainer.scale.restore(trainer.scale.state() | {"scale": 2.0**21, "growth_interval": 1}, 3)
        trainer.partners = Leader(ranks)
        while trainer.steps < 2:
            trainer.step(0.1)
        trainer.partners.end(0)
    return weights_of(trainer), trainer.steps, trainer.scale.skipped, trainer.scale.state()


def test_a_step_that_is_skipped_in_float16_is_skipped_by_all_ranks():
    (weights, *state), (others, *same) = together(training_in_float16)
    assert (weights == others).all() and state == same
    assert state[0] == 2 and state[1] > 3, "steps that were skipped are no steps"


@task
def training_that_diverges(ranks):
    try:
        if ranks.rank:
            Follower(ranks).follow()
        trainer = small_trainer()
        trainer.partners = Leader(ranks)
        trainer.step(0.1)
        trainer.steps += 1
        trainer.step(0.2)
    except EngineError as error:
        return error.code, error.cause
    return None


def test_a_rank_that_fails_says_why_and_all_name_it():
    leader, follower = together(training_that_diverges)
    for code, cause in (leader, follower):
        assert code == "rank-lost" and "rank 1 failed: it is not at the same step" in cause


@task
def training_whose_leader_dies(ranks):
    if ranks.rank == 0:
        trainer = small_trainer()
        trainer.partners = Leader(ranks)
        trainer.step(0.1)
        os._exit(9)
    try:
        return Follower(ranks).follow()
    except EngineError as error:
        return error.code, error.cause


def test_a_lost_leader_is_named():
    assert together(training_whose_leader_dies, alive=(1,)) == [("rank-lost", "rank 0 was lost.")]


class Notes:
    """A rendezvous store of one process."""

    def __init__(self):
        self.held = {}

    def set(self, key, value):
        self.held[key] = value.encode()

    def get(self, key):
        return self.held[key]

    def check(self, keys):
        return all(key in self.held for key in keys)


def test_who_gives_no_sign_of_life_is_named():
    notes, first = Notes(), Ranks(0, 3)
    others = [Ranks(1, 3), Ranks(2, 3)]
    for ranks in (first, *others):
        ranks._store = notes
    beats, told = {}, []
    for number in range(2 * LOST_AFTER):
        for ranks in others[: 1 if number > 10 else 2]:
            ranks.look({}, number)
        told.append(first.look(beats, number))
    assert told.index(2) == 10 + LOST_AFTER and set(told) == {None, 2}
    assert not first.asked_to_end()
    others[0].ask_to_end()
    assert first.asked_to_end() and not others[0].asked_to_end()


def test_where_nobody_can_be_reached_it_ends(monkeypatch):
    class Unreachable(Notes):
        def set(self, key, value):
            raise RuntimeError("no route to host")

    monkeypatch.setattr(ranks_module, "LOST_AFTER", 0)
    monkeypatch.setattr(ranks_module, "BEAT", 0.0)
    ranks, said = Ranks(1, 2), []
    ranks._store = Unreachable()
    ranks._watch(said.append, lambda: None)
    assert [error.code for error in said] == ["rank-lost"] and "no route" in said[0].cause


def test_without_torchrun_nothing_changes(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.of_environment() is None and not ranks_module.summing()
    trainer = small_trainer()
    assert type(trainer.partners) is Alone and trainer.partners.network(trainer) is trainer.network
    tensor = torch.ones(2)
    assert ranks_module.total(tensor) is tensor
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Ranks.of_environment() is None


@pytest.mark.parametrize("rank,count", [("2", "2"), ("one", "2"), ("-1", "2"), ("0", "0")])
def test_impossible_places_are_refused(monkeypatch, rank, count):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(InputError, match="torchrun"):
        Ranks.of_environment()

"""Several ranks are one training: what they compute together, with real process groups."""

import multiprocessing
import os
import socket
import sys
from dataclasses import replace

import pytest
import torch
from test_training import nested_balls, trainer_for

from SparseSegNetLib.engine.compute import ranks as ranks_module
from SparseSegNetLib.engine.compute.ranks import LOST_AFTER, Ranks
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


def _rank(place, name, arguments, results):
    torch.set_num_threads(1)
    os.environ.update(place)
    ranks = Ranks.of_environment()
    ranks.join()
    try:
        results.put((ranks.rank, TASKS[name](ranks, *arguments)))
    finally:
        ranks.leave()


def together(function, *arguments, count=2):
    """What each rank returns."""
    context = multiprocessing.get_context("fork" if FORK else "spawn")
    results = context.SimpleQueue()
    children = [
        context.Process(target=_rank, args=(place, function.__name__, arguments, results))
        for place in places(count)
    ]
    for child in children:
        child.start()
    found = dict(results.get() for _ in children)
    for child in children:
        child.join()
    return [found[rank] for rank in range(count)]


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


@task
def gradient_of_a_part(ranks, loss, dtype):
    trainer = small_trainer(loss, dtype)
    trainer.partners = Leader(ranks)
    pixels, labels, unknown = batch_of(trainer, 2 * ranks.count, dtype)
    part = slice(2 * ranks.rank, 2 * ranks.rank + 2)
    trainer.sampler.batch = lambda size: (pixels[part], labels[part], unknown)
    with ranks.summing(trainer.device):
        found = gradients(trainer)
    return found, {n: b.numpy().copy() for n, b in trainer.network.named_buffers()}


@pytest.mark.parametrize(
    "loss,dtype,close",
    [
        ("Dice, squared", torch.float64, 1e-9),
        ("Dice, all classes", torch.float64, 1e-9),
        ("auto", torch.float32, 1e-4),
    ],
)
def test_the_gradient_is_that_of_all_patches(loss, dtype, close):
    """Loss and batch statistics too, which are no means of the ranks' own."""
    whole = small_trainer(loss, dtype)
    batch = batch_of(whole, 4, dtype)
    whole.sampler.batch = lambda size: batch
    expected = gradients(whole)
    (first, statistics), (second, _) = together(gradient_of_a_part, loss, dtype)
    largest = max(abs(g).max() for g in expected)
    for mine, other, one in zip(first, second, expected, strict=True):
        assert (mine == other).all()
        assert abs(mine - one).max() <= close * largest
    for name, buffer in whole.network.named_buffers():
        assert abs(statistics[name] - buffer.numpy()).max() <= 1e-5, name

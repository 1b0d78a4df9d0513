"""Training in float16: a scaled loss, steps that are skipped, the same after a resumption."""

import math

import pytest
import torch

from SparseSegNetLib.engine.compute import number_formats
from SparseSegNetLib.engine.compute.number_formats import candidate_formats, fastest_format
from SparseSegNetLib.engine.training.loss_scale import LossScale
from SparseSegNetLib.engine.training.report import by_steps
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.training.training_state import check_state, restore, state_of
from SparseSegNetLib.engine.trial import device_trial, miniature

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def float16_on_the_cpu(monkeypatch):
    """As on a card without bfloat16; the CPU computes float16 too, slowly."""
    monkeypatch.setitem(number_formats.FORMATS, "cpu", ["float16", "float32"])


def trainer_in(dtype="float16"):
    plan = miniature.small_plan(dtype)
    return Trainer(plan, [miniature.small_volume()], miniature.CLASSES, None, 0)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def test_the_gradient_is_that_of_the_loss_itself(monkeypatch):
    """The same whatever the scale, and nearer to float32's than bfloat16's."""
    formats = ["bfloat16", "float16", "float32"]
    monkeypatch.setitem(number_formats.FORMATS, "cpu", formats)
    found = {}
    for dtype, scale in (*((name, None) for name in formats), ("float16", 2.0**6)):
        trainer = trainer_in(dtype)
        if scale is not None:
            trainer.scale.restore(trainer.scale.state() | {"scale": scale}, 0)
        random = trainer.sampler.generator.get_state()
        while trainer.step(0.3) is None:
            trainer.sampler.generator.set_state(random)
        found[dtype, scale] = torch.cat([p.grad.flatten() for p in trainer.network.parameters()])
    right = found.pop(("float32", None))
    high, low = found["float16", None], found["float16", 2.0**6]
    assert (high - low).norm() < 0.01 * right.norm()
    assert (high - right).norm() < (found["bfloat16", None] - right).norm()


def test_a_gradient_beyond_the_numbers_of_float16_skips_the_step():
    trainer = trainer_in()
    trainer.scale.restore(trainer.scale.state() | {"scale": 2.0**40}, 0)
    before, average = weights(trainer), trainer.average.state_dict()
    average = {n: t.clone() for n, t in average.items()}
    assert trainer.step(0.3) is None
    assert trainer.steps == 0 and trainer.scale.skipped == 1
    assert trainer.scale.state()["scale"] == 2.0**39
    assert torch.equal(weights(trainer), before) and not trainer.optimiser.state
    assert all(torch.equal(average[n], t) for n, t in trainer.average.state_dict().items())
    trainer.train(by_steps(2))
    assert trainer.steps == 2 and trainer.rate == 1.0, "the steps that were asked for were taken"
    assert 15 < trainer.scale.skipped < 40 and not torch.equal(weights(trainer), before)
    assert all(map(math.isfinite, trainer.losses))


def test_what_no_scale_helps_is_recovered_from_as_ever():
    trainer = trainer_in()
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    assert trainer.step(0.3) is None
    assert (trainer.steps, trainer.scale.skipped, trainer.rate) == (1, 0, 0.5)
    assert weights(trainer).isfinite().all()

    trainer.loss = lambda logits, labels: (logits.float() * 0).sum().sqrt()  # its slope: infinite
    for _ in range(60):
        if trainer.rate < 0.5:
            break
        assert trainer.step(0.3) is None
    assert trainer.scale.skipped == 16, "down to a scale of 1"
    assert trainer.steps == 2 and trainer.rate == 0.25
    assert trainer.scale.state()["scale"] == 2.0**16, "other weights begin anew"


def test_a_resumed_training_has_the_same_scale_and_takes_the_same_steps():
    trainer = trainer_in()
    trainer.scale.restore(
        trainer.scale.state() | {"scale": 2.0**7, "growth_interval": 3, "_growth_tracker": 1}, 5
    )
    trainer.train(by_steps(1))
    tensors, about = state_of(trainer)
    tensors = {n: t.clone() for n, t in tensors.items()}
    assert about["skipped"] == 5 and about["scale"]["_growth_tracker"] == 2
    trainer.train(by_steps(4))
    other = trainer_in()
    restore(other, tensors, about)
    other.train(by_steps(4))
    assert torch.equal(weights(trainer), weights(other))
    assert trainer.scale.state() == other.scale.state() and other.scale.skipped >= 5
    assert trainer.scale.state()["scale"] >= 2.0**8, "it has grown"


def test_a_checkpoint_from_before_float16_is_taken():
    trainer = trainer_in("float32")
    trainer.train(by_steps(1))
    tensors, about = state_of(trainer)
    assert about["scale"] is None
    about |= {"plan": trainer.plan.to_json(), "seconds": 1.0, "began": 0.0}
    older = {n: v for n, v in about.items() if n not in ("scale", "skipped")}
    for form in (about, older):
        check_state(tensors, form)
        restore(trainer_in("float32"), tensors, form)
    with pytest.raises(ValueError, match="scale"):
        check_state(tensors, about | {"scale": {"scale": -1.0}})


def test_memory_that_runs_out_in_a_step_keeps_the_scale(monkeypatch):
    trainer = trainer_in()
    trainer.scale.restore(trainer.scale.state() | {"scale": 2.0**6}, 0)
    clip, left = torch.nn.utils.clip_grad_norm_, [True]

    def full(*arguments):
        if left:
            left.clear()
            raise torch.OutOfMemoryError("out of memory")
        return clip(*arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", full)
    message = trainer.step_or_shrink(0.3)
    assert message == "1 patches per step instead of 2" and trainer.steps == 1
    assert trainer.scale.state()["scale"] == 2.0**6


def test_elsewhere_it_goes_on_without_and_keeps_the_scale(monkeypatch):
    """As a pause does: the weights are on the CPU meanwhile, which may have to go on."""
    trainer = trainer_in()
    trainer.scale.restore(trainer.scale.state() | {"scale": 2.0**6}, 2)
    monkeypatch.setitem(number_formats.FORMATS, "cpu", ["bfloat16", "float32"])
    trainer.move(CPU)
    kinds = []
    trainer.network.register_forward_hook(lambda *_: kinds.append(torch.is_autocast_enabled("cpu")))
    assert trainer.step(0.3) is not None and kinds == [False]
    monkeypatch.setitem(number_formats.FORMATS, "cpu", ["float16", "float32"])
    trainer.move(CPU)
    assert trainer.step(0.3) is not None and kinds == [False, True]
    assert trainer.scale.state()["scale"] == 2.0**6 and trainer.scale.skipped == 2


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"bfloat16": 1.0, "float16": 0.9, "float32": 1.5}, ["bfloat16", "float32"]),
        ({"bfloat16": 1.6, "float16": 1.0, "float32": 1.9}, ["bfloat16", "float16", "float32"]),
        ({"bfloat16": 9.0, "float16": 1.0, "float32": 4.0}, ["float16", "float32"]),
        ({"float16": 1.0, "float32": 4.0}, ["float16", "float32"]),
        ({"float16": 8.0, "float32": 1.0}, ["float32"]),
    ],
)
def test_float16_is_for_cards_where_bfloat16_is_slow_or_missing(monkeypatch, seconds, expected):
    times = [(taken, name) for name, taken in seconds.items()]
    monkeypatch.setattr(number_formats, "convolution_times", lambda device: times)
    cuda = torch.device("cuda")
    assert candidate_formats(cuda) == expected
    assert fastest_format(cuda) == min((seconds[name], name) for name in expected)[1]
    assert number_formats.number_formats(cuda) == ["bfloat16", "float16", "float32"]


def test_the_trial_of_a_device_tries_float16(monkeypatch):
    """A first step that is skipped is no fault."""
    made = LossScale.__init__

    def high(self, *arguments):
        made(self, *arguments)
        if self._scaler.is_enabled():
            self.restore(self.state() | {"scale": 2.0**30}, 0)

    monkeypatch.setattr(LossScale, "__init__", high)
    parts = [p for p in miniature.PARTS if p.in_formats]
    found = device_trial.try_device(CPU, parts)
    assert found.tried == ("float16", "float32") and not found.faults
    assert found.usable_formats == ["float16", "float32"]

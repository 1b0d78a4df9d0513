"""`make benchmark-gpu`: its sections, their order and time, without a card."""

import sys

import pytest

import card_steps
import gpu
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.trial import miniature


def run(monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path), *arguments])
    code = gpu.main()
    return code, (tmp_path / "report.md").read_text(encoding="utf-8")


def title(section):
    return f"## {section.__doc__.splitlines()[0].rstrip('.')}"


def test_a_section_that_fails_costs_itself_alone(monkeypatch, tmp_path):
    begun = []

    def fails(command, seconds):
        begun.append((command[-1], seconds))
        return ("said", "") if len(begun) > 2 else ("half a table", "the card fell out")

    monkeypatch.setattr(gpu, "_in_time", fails)
    code, report = run(monkeypatch, tmp_path, "--device", "cpu")
    assert code == 1 and report.count("Not measured: the card fell out") == 2
    assert [name for name, _ in begun] == [section.__name__ for section in gpu.SECTIONS]
    places = [report.index(title(section)) for section in gpu.SECTIONS]
    assert places == sorted(places)
    assert all(seconds <= gpu.PATIENCE for _, seconds in begun)


def test_what_there_is_no_time_for_is_named(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(gpu, "_in_time", lambda command, left: (begun.append(left) or "said", ""))
    code, report = run(monkeypatch, tmp_path, "--total", "100")
    assert code == 0 and len(begun) == len(gpu.SECTIONS) - 1 and max(begun) <= 100
    assert 'make benchmark-gpu ARGS="--only table2"' in report
    code, report = run(monkeypatch, tmp_path, "--total", "0")
    assert code == 0 and report.count("Left out") == len(gpu.SECTIONS)


def test_passes_of_one_batch_do_not_add_up():
    plan = miniature.small_plan("float32")
    trainer = Trainer(plan, [miniature.small_volume()], miniature.CLASSES, None, 0)
    step = card_steps.FixedBatch(trainer).eager()
    losses, sizes = [], []
    for _ in range(2):
        losses.append(float(step()))
        sizes.append(float(sum(p.grad.norm() for p in trainer.network.parameters())))
    assert losses[0] == losses[1] and sizes[0] == pytest.approx(sizes[1])


def test_without_a_card_there_is_no_graph():
    plan = miniature.small_plan("float32")
    trainer = Trainer(plan, [miniature.small_volume()], miniature.CLASSES, None, 0)
    with pytest.raises(RuntimeError, match="CUDA graphs"):
        card_steps.FixedBatch(trainer).captured()

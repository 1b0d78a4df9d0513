"""Devices that fail a part of the engine: found by a trial, used for the rest, and said."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_memory import balls
from test_robustness import densified

from SparseSegNetLib.engine.compute import device as devices_of_torch
from SparseSegNetLib.engine.compute import number_formats
from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
from SparseSegNetLib.engine.interaction import task
from SparseSegNetLib.engine.stacking import voxel_classifier
from SparseSegNetLib.engine.trial import device_trial, known_trials
from SparseSegNetLib.engine.trial.choice import Devices, choose_devices
from SparseSegNetLib.engine.trial.device_trial import CPU, DeviceTrial, Fault, try_device
from SparseSegNetLib.engine.trial.known_trials import (
    best_speed,
    keep_trial,
    known_trial,
    tried_once,
)
from SparseSegNetLib.engine.trial.miniature import ENSEMBLE, NETWORK, PARTS
from SparseSegNetLib.errors import EngineError

# torch takes it for a device of its own, and it computes all that the CPU does.
OTHER = torch.device("cpu:0")


@pytest.fixture(autouse=True)
def no_limit():
    yield
    number_formats._LIMITED.clear()


@pytest.fixture
def both_formats(monkeypatch):
    monkeypatch.setattr(device_trial, "number_formats", lambda device: ["bfloat16", "float32"])


def with_part(name, change):
    """A part of the engine, whose results are changed on the second device."""
    part, calls = next(part for part in PARTS if part.name == name), []

    def run(volume, dtype):
        calls.append(dtype)
        out = part.run(volume, dtype)
        return out if len(calls) == 1 else change(dtype, out)

    return [replace(part, run=run)]


def fails(dtype, out):
    raise NotImplementedError("'aten::grid_sampler_3d' is not implemented for this device\nmore")


def test_every_part_works_here():
    for device in (CPU, OTHER):
        found = try_device(device)
        assert not found.faults and found.ensemble and found.network
        assert found.usable_formats == number_formats.number_formats(device)


def test_it_changes_no_random_numbers():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    try_device(OTHER, PARTS[-1:])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", [part.name for part in PARTS])
def test_a_part_that_a_device_lacks(name):
    found = try_device(OTHER, with_part(name, fails))
    assert {fault.part for fault in found.faults} == {name}
    assert "grid_sampler_3d" in str(found.faults[0]) and "more" not in str(found.faults[0])
    assert found.ensemble == (name == "network") and found.network == (name != "network")


@pytest.mark.parametrize("name", [part.name for part in PARTS])
def test_a_part_that_a_device_computes_wrongly(name):
    turned = try_device(
        OTHER, with_part(name, lambda dtype, out: {n: t.flip(0) for n, t in out.items()})
    )
    assert "differs from the CPU's" in turned.faults[0].reason
    lost = try_device(
        OTHER, with_part(name, lambda dtype, out: {n: t * torch.nan for n, t in out.items()})
    )
    assert "not finite" in lost.faults[0].reason


def test_a_number_format_alone(both_formats):
    def half(dtype, out):
        return fails(dtype, out) if dtype == "bfloat16" else out

    for name in ("network", "shallow model"):
        found = try_device(OTHER, with_part(name, half))
        assert found.ensemble and found.network and found.usable_formats == ["float32"]
        assert f"{name} in bfloat16" in str(found.faults[0])
        assert DeviceTrial.from_json(found.to_json()) == found


def test_memory_that_runs_out_is_said_so():
    def full(dtype, out):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    found = try_device(OTHER, with_part("network", full))
    assert found.faults[0].reason == "out of memory"


class TestKnownTrials:
    fault = Fault("network", NETWORK, "bfloat16", "its gradient differs from the CPU's by 90%")

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SPARSESEGNET_DATA", str(tmp_path / "data"))
        return tmp_path / "data"

    def trial(self, *faults):
        return DeviceTrial("cpu:0", ("bfloat16", "float32"), faults)

    def test_a_device_is_tried_once(self, monkeypatch):
        made = []
        monkeypatch.setattr(
            known_trials, "try_device", lambda d: made.append(d) or self.trial(self.fault)
        )
        for _ in range(2):
            assert tried_once(OTHER) == self.trial(self.fault)
        assert made == [OTHER]
        monkeypatch.setattr(known_trials, "called", lambda device: "another card")
        tried_once(OTHER)
        assert made == [OTHER, OTHER]

    def test_memory_that_ran_out_is_not_remembered(self):
        keep_trial(OTHER, self.trial(replace(self.fault, reason="out of memory")))
        assert known_trial(OTHER) is None

    def test_a_file_that_is_damaged_or_cannot_be_written(self, folder):
        keep_trial(OTHER, self.trial())
        assert known_trial(OTHER) is not None
        for text in ("{", "[]", '{"a": {"device": 1, "tried": [], "faults": []}}'):
            (folder / "devices.json").write_text(text)
            assert known_trial(OTHER) is None
        (folder / "devices.json").unlink()
        folder.rmdir()
        folder.write_text("no folder")
        keep_trial(OTHER, self.trial())
        assert known_trial(OTHER) is None

    def test_old_ones_are_forgotten(self, monkeypatch):
        for number in range(known_trials.MOST + 3):
            monkeypatch.setattr(known_trials, "called", lambda device, n=number: f"card {n}")
            keep_trial(OTHER, self.trial())
        assert known_trial(OTHER) is not None
        monkeypatch.setattr(known_trials, "called", lambda device: "card 1")
        assert known_trial(OTHER) is None

    def test_another_program_does_not_make_a_device_slower(self):
        assert best_speed(OTHER, 2e6) == 2e6 and best_speed(OTHER, 3e5) == 2e6
        assert best_speed(OTHER, 3e6) == 3e6 and best_speed(CPU, 1e5) == 1e5

    def test_a_format_in_which_the_cpu_is_wrong(self):
        assert choose_devices("cpu").notes == ()
        keep_trial(CPU, replace(self.trial(self.fault), device="cpu"))
        assert "cpu computes in float32 alone" in choose_devices("cpu").notes[0]
        assert number_formats.number_formats(CPU) == ["float32"]


class TestChoice:
    """Of a machine with a graphics card, by what its trial has found."""

    @pytest.fixture(autouse=True)
    def cuda(self, monkeypatch):
        monkeypatch.setattr(devices_of_torch, "_available", lambda kind: kind == "cuda")

    def chosen(self, *faults, name="auto", **options):
        return choose_devices(
            name, trial=lambda d: DeviceTrial(str(d), ("bfloat16", "float32"), faults), **options
        )

    def test_all_works(self):
        found = self.chosen()
        assert str(found.network) == str(found.ensemble) == "cuda" and not found.notes

    def test_without_the_ensemble(self):
        fault = Fault("random walks", ENSEMBLE, "", "not implemented")
        found = self.chosen(fault)
        assert str(found.network) == "cuda" and found.ensemble == CPU
        assert "trains the network alone" in found.notes[0] and "random walks" in found.notes[0]
        together = self.chosen(fault, apart=False)
        assert together.network == together.ensemble == CPU and "is not used" in together.notes[0]

    def test_without_the_network(self):
        faults = [Fault("network", NETWORK, d, "wrong") for d in ("bfloat16", "float32")]
        found = self.chosen(*faults)
        assert found.network == CPU and str(found.ensemble) == "cuda"
        assert "trained on the CPU" in found.notes[0]

    def test_without_anything(self):
        faults = [
            Fault("shallow model", ENSEMBLE, "", "wrong"),
            *(Fault("network", NETWORK, d, "wrong") for d in ("bfloat16", "float32")),
        ]
        assert self.chosen(*faults).network == CPU
        with pytest.raises(EngineError, match=r"failed its test: .*shallow model \(wrong\)") as it:
            self.chosen(*faults, name="cuda:1")
        assert it.value.code == "no-device" and "--device cpu" in it.value.remedy

    def test_a_format_alone(self):
        found = self.chosen(Fault("network", NETWORK, "bfloat16", "emulated"))
        assert str(found.network) == str(found.ensemble) == "cuda"
        assert "in float32 alone" in found.notes[0]
        assert number_formats.number_formats(torch.device("cuda")) == ["float32"]
        assert "bfloat16" in number_formats.number_formats(CPU)

    def test_names_of_devices(self):
        with pytest.raises(EngineError, match="not available"):
            self.chosen(name="mps")
        with pytest.raises(EngineError, match="is not a device"):
            self.chosen(name="gpu")
        assert self.chosen(name="cpu").trial is None


def test_priors_on_one_device_and_the_network_on_another(tmp_path, monkeypatch):
    monkeypatch.setattr(voxel_classifier, "STEPS", (5, 20))
    image, truth = balls()
    expected, _ = densified(tmp_path / "one", image, truth, (1, 1, 1), max_steps=2)
    monkeypatch.setattr(task, "choose_devices", lambda *a: Devices(CPU, OTHER, ("it fails",)))
    places, to = [], WorkingVolume.to

    def watched(self, device):
        places.append(str(device))
        return to(self, device)

    monkeypatch.setattr(WorkingVolume, "to", watched)
    found, events = densified(tmp_path / "two", image, truth, (1, 1, 1), max_steps=2)
    assert np.array_equal(found, expected)
    assert "it fails" in [e.get("text") for e in events if e["event"] == "warning"]
    assert places[0] == str(OTHER) and places[-1] == "cpu", "the priors are made there"

"""Trials of devices, and their speeds, kept on this computer."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from ...errors import InputError
from ...runfolder.atomic import write_json
from ...runfolder.forms import Form, mapping, number, of_type, read_json
from ...runfolder.local_data import local_data_folder
from ..compute.device import called
from .device_trial import OUT_OF_MEMORY, DeviceTrial, try_device

TRIALS, SPEEDS = "devices.json", "speeds.json"
MOST = 20  # entries that are kept: of other devices and older versions
FORM: Form = mapping(of_type(DeviceTrial))


def tried_once(device: torch.device) -> DeviceTrial:
    """The trial of a device, made if none is known of it with this torch and this engine."""
    found = known_trial(device)
    if found is None:
        found = try_device(device)
        keep_trial(device, found)
    return found


def known_trial(device: torch.device) -> DeviceTrial | None:
    """The trial that was made of a device before; None without one, or where it is damaged."""
    entry = _read(TRIALS, FORM).get(_key(device))
    return None if entry is None else DeviceTrial.from_json(entry)


def keep_trial(device: torch.device, found: DeviceTrial) -> None:
    """Keeps a trial, unless memory ran out in it; one that cannot be written is made again."""
    if any(fault.reason == OUT_OF_MEMORY for fault in found.faults):
        return
    _write(TRIALS, _read(TRIALS, FORM), device, found.to_json())


def best_speed(device: torch.device, speed: float) -> float:
    """The highest speed of a device that was ever measured, with this one.

    Another program that computes meanwhile makes a measurement too low, never too high.
    """
    speeds = _read(SPEEDS, mapping(number(0)))
    best = max(speed, speeds.get(_key(device), 0.0))
    if best != speeds.get(_key(device)):
        _write(SPEEDS, speeds, device, best)
    return best


def _read(name: str, form: Form) -> dict:
    path = local_data_folder() / name
    if not path.is_file():
        return {}
    try:
        return read_json(path, form, "It is made again.")
    except InputError:
        return {}


def _write(name: str, entries: dict, device: torch.device, value: object) -> None:
    """Adds an entry of a device, the newest of MOST."""
    entries = {key: entry for key, entry in entries.items() if key != _key(device)}
    entries = dict(list(entries.items())[-MOST + 1 :])
    path = local_data_folder() / name
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**entries, _key(device): value})


def _key(device: torch.device) -> str:
    """A device as it computes: another card, torch or engine is another one."""
    built = torch.version.cuda or torch.version.hip or "no CUDA"
    return f"{device}, {called(device)}, torch {torch.__version__}, {built}, {_engine()}"


@cache
def _engine() -> str:
    """Hash of the engine's code."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]

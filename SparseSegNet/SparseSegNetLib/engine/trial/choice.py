"""The choice of devices: each part of the engine where a trial has shown that it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...errors import EngineError
from ..compute.device import REMEDY, possible_devices
from ..compute.number_formats import limit_formats
from .device_trial import CPU, DeviceTrial
from .known_trials import known_trial, tried_once
from .miniature import ENSEMBLE


@dataclass(frozen=True)
class Devices:
    """Devices that the engine computes on.

    Attributes:
        network: The network, and all volumes.
        ensemble: Priors and shallow model.
        notes: Sentences on what does not work on a device that was to be used.
        trial: Of that device; None for the CPU.
    """

    network: torch.device
    ensemble: torch.device
    notes: tuple[str, ...] = ()
    trial: DeviceTrial | None = None


def choose_devices(
    name: str,
    apart: bool = True,
    trial: Callable[[torch.device], DeviceTrial] = tried_once,
) -> Devices:
    """Chooses the devices of a run, and limits their number formats to those that work.

    Args:
        name: 'auto', or the name of a device.
        apart: Whether network and ensemble may be on two devices.
        trial: Tries a device; of the CPU, with which others are compared, only what is known of
            its number formats counts.

    Raises:
        EngineError: 'no-device', when the named one does not work at all.
    """
    notes: list[str] = []
    for device in possible_devices(name):
        if device.type == "cpu":
            known = known_trial(CPU)
            if known is not None and known.faults and known.usable_formats:
                limit_formats("cpu", known.usable_formats)
                notes.append(_note(known, True, True, apart))
            return Devices(CPU, CPU, tuple(notes))
        found = trial(device)
        network, ensemble = bool(found.usable_formats), found.ensemble
        if found.faults:
            notes.append(_note(found, network, ensemble, apart))
        if not (network and ensemble) and not (apart and (network or ensemble)):
            continue
        limit_formats(device.type, found.usable_formats if network else found.formats(ENSEMBLE))
        return Devices(device if network else CPU, device if ensemble else CPU, tuple(notes), found)
    raise EngineError("no-device", f"the device '{name}' failed its test: {notes[-1]}", REMEDY)


def _note(found: DeviceTrial, network: bool, ensemble: bool, apart: bool) -> str:
    """A sentence on what fails on a device, and where it is computed then."""
    failing = "; ".join(map(str, found.faults))
    if network and ensemble:
        formats = " and ".join(found.usable_formats)
        return f"{found.device} computes in {formats} alone, since it fails: {failing}."
    if apart and network:
        return f"{found.device} trains the network alone, the CPU does the rest: {failing}."
    if apart and ensemble:
        return f"the network is trained on the CPU, since it fails on {found.device}: {failing}."
    return f"{found.device} is not used, since it fails: {failing}."

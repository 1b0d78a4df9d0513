"""Trial of a device with the engine in miniature: which parts of the engine it computes rightly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from ..compute.number_formats import number_formats
from ..compute.problems import out_of_memory
from ..data.preprocessing import WorkingVolume
from .miniature import ENSEMBLE, NETWORK, PARTS, Output, Part, small_volume

CPU = torch.device("cpu")
PLAIN = "float32"
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Fault:
    """A part that a device does not compute, or not rightly.

    Attributes:
        part: Its name.
        stage: `miniature.ENSEMBLE` or NETWORK.
        dtype: The number format; '' where it makes no difference.
        reason: In a few words.
    """

    part: str
    stage: str
    dtype: str
    reason: str

    def __str__(self) -> str:
        of = f"{self.part} in {self.dtype}" if self.dtype else self.part
        return f"{of} ({self.reason})"


@dataclass(frozen=True)
class DeviceTrial:
    """Findings on a device.

    Attributes:
        device: Its name.
        tried: The number formats that were tried, the fastest first.
        faults: All that went wrong.
    """

    device: str
    tried: tuple[str, ...]
    faults: tuple[Fault, ...] = ()

    def formats(self, stage: str) -> list[str]:
        """Number formats in which a stage works on the device; none where it does not at all."""
        own = [fault for fault in self.faults if fault.stage == stage]
        if any(not fault.dtype for fault in own):
            return []
        bad = {fault.dtype for fault in own}
        return [name for name in self.tried if name not in bad]

    @property
    def ensemble(self) -> bool:
        """True if priors and shallow model can be computed on the device."""
        return PLAIN in self.formats(ENSEMBLE)

    @property
    def network(self) -> bool:
        """True if a network can be trained on the device, in a number format at least."""
        return bool(self.formats(NETWORK))

    @property
    def usable_formats(self) -> list[str]:
        """Number formats for the network, and for the shallow model where it is there too."""
        found = self.formats(NETWORK)
        if self.ensemble:
            found = [name for name in found if name in self.formats(ENSEMBLE)]
        return found

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> DeviceTrial:
        """Trial from `to_json`'s dictionary."""
        faults = tuple(Fault(**fault) for fault in data["faults"])
        return cls(data["device"], tuple(data["tried"]), faults)


def try_device(
    device: torch.device,
    parts: Sequence[Part] = PARTS,
    check: Callable[[], None] = lambda: None,
) -> DeviceTrial:
    """Computes each part on a device and compares it with the CPU's result in float32.

    Args:
        device: The device; the CPU's own number formats are compared with its float32.
        parts: What is tried.
        check: Called in between; it may raise to stop.

    Raises:
        Exception: What a part raises on the CPU in float32: nothing can be compared then.
    """
    # The bits of the run that follows must not depend on whether a device was tried before it.
    state = torch.random.get_rng_state()
    try:
        formats, faults = tuple(number_formats(device)), []
        there = small_volume().to(device)
        for part in parts:
            check()
            truth = part.run(small_volume(), PLAIN)
            for dtype in formats if part.in_formats else ("",):
                if device == CPU and dtype in ("", PLAIN):
                    continue
                reason = _fault(part, there, dtype or PLAIN, truth)
                if reason is not None:
                    faults.append(Fault(part.name, part.stage, dtype, reason))
    finally:
        torch.random.set_rng_state(state)
    return DeviceTrial(str(device), formats, tuple(faults))


def _fault(part: Part, volume: WorkingVolume, dtype: str, truth: Output) -> str | None:
    """The reason why a part does not work on the device of a volume; None if it does."""
    try:
        found = {name: value.float().cpu() for name, value in part.run(volume, dtype).items()}
    except Exception as error:  # whatever a driver says, the device is not used for this part
        if out_of_memory(error):
            return OUT_OF_MEMORY
        return (str(error) or type(error).__name__).splitlines()[0][:200]
    for name, expected in truth.items():
        value = found.get(name, torch.full_like(expected, torch.nan))
        if value.shape != expected.shape or not bool(value.isfinite().all()):
            return f"its {name or 'result'} is not finite"
        wrong = (value - expected.float()).abs().mean() / expected.float().std().clamp_min(1e-6)
        if float(wrong) > part.tolerance:
            return f"its {name or 'result'} differs from the CPU's by {float(wrong):.0%}"
    return None

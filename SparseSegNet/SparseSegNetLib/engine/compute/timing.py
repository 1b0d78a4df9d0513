"""Time that a device takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_taken(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that an action takes, with all that it queues on the device."""
    synchronize(device)
    begun = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - begun


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that is queued (needed to measure time)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

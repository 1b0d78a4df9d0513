"""Time that a device takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

TIMED_SHARE = 16  # one of so many planes is worked on to estimate the time for all of them


def seconds_taken(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that an action takes, with all that it queues on the device."""
    synchronize(device)
    begun = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - begun


def seconds_for_planes(
    work: Callable[[slice], object], planes: int, device: torch.device, fewest: int = 1
) -> float:
    """Estimates the seconds that work on all planes of a volume takes, from some of them.

    Args:
        work: Works on some planes along k. It is called twice: what happens only once is not
            counted.
        planes: Number of all of them.
        device: Where it works.
        fewest: Planes to time at least, where there are as many.
    """
    part = slice(min(planes, max(fewest, math.ceil(planes / TIMED_SHARE))))
    work(part)
    return seconds_taken(lambda: work(part), device) * planes / part.stop


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that is queued (needed to measure time)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

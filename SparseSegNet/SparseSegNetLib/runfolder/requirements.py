"""Packages that the engine needs, and how old they may be."""

from __future__ import annotations

import re

OLDEST_TORCH = (2, 4)
TORCH, SAFETENSORS = "torch>={}.{}".format(*OLDEST_TORCH), "safetensors>=0.4"


def too_old(version: str) -> bool:
    """True for a version of torch that is too old for the engine."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST_TORCH

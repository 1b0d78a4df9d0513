"""The processor cores that torch computes with."""

from __future__ import annotations

import os

import torch


def prepare_threads() -> int:
    """Let torch use the cores that this process may run on; returns their number."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(cores)
    return torch.get_num_threads()

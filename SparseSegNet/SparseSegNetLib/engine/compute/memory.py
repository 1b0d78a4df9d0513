"""Out of memory: free what is held, make something smaller, try again."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from ...errors import EngineError
from .problems import out_of_memory

Result = TypeVar("Result")
REMEDY = (
    "Close other programs, crop the volume, work at a coarser spacing (--resample) or take "
    "--device cpu."
)


def release(device: torch.device) -> None:
    """Frees what the device's allocator keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def retry_smaller(
    action: Callable[[], Result],
    smaller: Callable[[], str | None],
    report: Callable[[str], None],
    device: torch.device,
    doing: str,
) -> Result:
    """Does something, again with less where memory runs out.

    Args:
        action: Does it.
        smaller: Makes something smaller for the next attempt and returns a message; None when
            nothing can be made smaller any more.
        report: Called with that message.
        device: That the memory belongs to.
        doing: Names the action in the error.

    Returns:
        The result of the action.

    Raises:
        EngineError: 'out-of-memory', when even the smallest does not fit.
    """
    tried: list[str] = []
    while True:
        try:
            return action()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Outside of the handler: the exception's frames hold the tensors of the failed attempt.
        release(device)
        message = smaller()
        if message is None:
            so = f" Tried: {'; '.join(tried)}." if tried else ""
            raise EngineError("out-of-memory", f"out of memory while {doing} ({text}).{so}", REMEDY)
        tried.append(message)
        report(message)

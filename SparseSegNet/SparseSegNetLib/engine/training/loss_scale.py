"""The scaled loss of a training in float16, whose smallest gradients would vanish without it."""

from __future__ import annotations

from typing import Any

import torch

from ..compute.number_formats import format_on
from ..compute.optimisers import AdamW


class LossScale:
    """The factor of the loss before its gradient is computed, by torch's GradScaler.

    It is halved after a gradient with numbers beyond float16's, and doubled after 2000 steps
    without one. In other number formats the loss stays as it is.

    Args:
        device: Of the loss.
        dtype: The number format of the plan; see `number_formats.format_on`.

    Attributes:
        skipped: Steps that were not taken since the loss had been scaled too much.
    """

    def __init__(self, device: torch.device, dtype: str):
        self.skipped = 0
        self._device, self._dtype = device, dtype
        self._state: dict[str, Any] = {}
        self._scaler = self._made()

    def _made(self) -> torch.amp.GradScaler:
        scaled = format_on(self._device, self._dtype) == "float16"
        scaler = torch.amp.GradScaler(self._device.type, enabled=scaled)
        if self._state:
            scaler.load_state_dict(self._state)
        return scaler

    def backward(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer | AdamW) -> None:
        """Computes the gradient of a loss, for the weights of an optimiser."""
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimiser)

    def step(self, optimiser: torch.optim.Optimizer | AdamW) -> None:
        """Takes the optimiser's step after a finite gradient."""
        self._scaler.step(optimiser)
        self._scaler.update()

    def lowered(self) -> bool:
        """Lowers the scale after a gradient that was not finite, and counts a skipped step.

        Returns:
            False where the scale is not to blame: then nothing changes.
        """
        if not self._scaler.is_enabled() or self._scaler.get_scale() <= 1:
            return False
        self._scaler.update()
        self.skipped += 1
        return True

    def reset(self) -> None:
        """Begins anew: the weights were replaced."""
        self._state = {}
        self._scaler = self._made()

    def again(self, device: torch.device | None = None) -> None:
        """Continues with the same scale after a step that broke off, or on another device.

        Args:
            device: The device from now on. Where it has no float16 the scale is kept for a return.
        """
        self._state, self._device = self.state(), device or self._device
        self._scaler = self._made()

    def state(self) -> dict[str, Any]:
        """The scale and what it depends on, JSON-able; empty where none is known."""
        return self._scaler.state_dict() or self._state

    def restore(self, state: dict[str, Any], skipped: int) -> None:
        """Continues with a scale from `state`."""
        self._state, self.skipped = state, skipped
        self._scaler = self._made()

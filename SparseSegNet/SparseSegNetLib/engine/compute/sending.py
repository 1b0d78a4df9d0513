"""Many small host arrays sent to a device in one copy that the host does not wait for."""

from __future__ import annotations

import torch

ALIGNED = 8  # bytes: every number begins at a multiple of its size


def sent(tensors: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors on a device.

    A copy costs a card more than the few numbers in it, and a copy from ordinary memory makes the
    host wait until the card has done all that is queued. So they travel together, from page-locked
    memory where the device is CUDA's.

    Args:
        tensors: On the CPU.
        device: The device; on the CPU they stay what they are.

    Returns:
        By name, parts of one buffer.
    """
    if device.type == "cpu":
        return tensors
    parts, places, end = [], {}, 0
    for name, tensor in tensors.items():
        raw = tensor.contiguous().view(-1).view(torch.uint8)
        gap = -len(raw) % ALIGNED
        parts += [raw, raw.new_zeros(gap)]
        places[name] = slice(end, end + len(raw))
        end += len(raw) + gap
    buffer = torch.cat(parts)
    if device.type == "cuda":
        buffer = buffer.pin_memory()
    there = buffer.to(device, non_blocking=True)
    return {
        name: there[place].view(tensors[name].dtype).view(tensors[name].shape)
        for name, place in places.items()
    }

"""Number and memory formats of convolutions, and which of them a device is fast in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from .problems import not_supported
from .timing import seconds_taken

Result = TypeVar("Result")
PRODUCT = 256  # rows and columns of a small matrix
HOPELESS = 2.0  # times as slow as the fastest number format: not tried with the network
# float16 needs a scaled loss, and now and then a step: it has to be so many times as fast as
# bfloat16, as on cards that emulate the latter (NVIDIA's before Ampere).
WORTH_SCALING = 1.25
FORMATS = {
    "cuda": ["bfloat16", "float16", "float32"],
    "cpu": ["bfloat16", "float32"],
    "mps": ["float32"],
}
_LIMITED: dict[str, list[str]] = {}  # by the device's type


def number_formats(device: torch.device) -> list[str]:
    """Number formats that the device may be fast in; the probe decides."""
    usual = FORMATS.get(device.type, FORMATS["cpu"])
    return [name for name in usual if name in _LIMITED.get(device.type, usual)]


def format_on(device: torch.device, dtype: str) -> str:
    """A number format, or float32 where the device has no such one: it may have been another."""
    return dtype if dtype in number_formats(device) else "float32"


def computing_in(device: torch.device, dtype: str) -> torch.autocast:
    """Context in which convolutions and matrix products are computed in a number format."""
    name = format_on(device, dtype)
    return torch.autocast(device.type, getattr(torch, name), enabled=name != "float32")


def limit_formats(kind: str, usable: list[str]) -> None:
    """Uses no other number formats on a type of device in this process.

    Args:
        kind: The device's type.
        usable: Those that a trial has found right; without any the limit is lifted.
    """
    if usable:
        _LIMITED[kind] = list(usable)
    else:
        _LIMITED.pop(kind, None)


def tried(trials: list[Callable[[], Result]]) -> list[Result]:
    """Results of those trials that the device supports.

    Raises:
        Exception: What the last trial, float32, raises; and memory that runs out in any.
    """
    found = []
    for number, trial in enumerate(trials):
        try:
            found.append(trial())
        except Exception as error:
            if number == len(trials) - 1 or not not_supported(error):
                raise
    return found


def convolution_times(device: torch.device) -> list[tuple[float, str]]:
    """Seconds of a small convolution in each number format that the device supports."""
    return tried(
        [
            lambda name=name: (_convolution_seconds(device, name), name)
            for name in number_formats(device)
        ]
    )


def fastest_product(device: torch.device) -> str:
    """The number format that a small matrix product is fastest in, which takes milliseconds.

    float16 is none of them: in it gradients of single voxels vanish.
    """

    def seconds(dtype: str) -> float:
        one = torch.zeros(PRODUCT, PRODUCT, device=device, dtype=getattr(torch, dtype))
        # The first time includes what happens only once, another program may hold up any.
        return min(seconds_taken(lambda: one @ one, device) for _ in range(5))

    formats = [name for name in number_formats(device) if name != "float16"]
    return min(tried([lambda name=name: (seconds(name), name) for name in formats]))[1]


def candidate_formats(device: torch.device) -> list[str]:
    """Number formats worth a trial with the network, float32 the last.

    A processor without instructions for bfloat16 emulates it, and a single step with the network
    takes many seconds.
    """
    return [name for _, name in _worthwhile(convolution_times(device))]


def fastest_format(device: torch.device) -> str:
    """The number format in which a small convolution is fastest, of those worth a trial."""
    return min(_worthwhile(convolution_times(device)))[1]


def _worthwhile(times: list[tuple[float, str]]) -> list[tuple[float, str]]:
    most, seconds = HOPELESS * min(times)[0], {name: taken for taken, name in times}
    limits = {"float16": seconds.get("bfloat16", math.inf) / WORTH_SCALING}
    return [
        (taken, name)
        for taken, name in times
        if taken <= min(most, limits.get(name, most)) or name == "float32"
    ]


def _convolution_seconds(device: torch.device, dtype: str) -> float:
    """A 3D convolution forward and backward, the second time (the first one prepares it)."""
    layer = channels_last(torch.nn.Conv3d(32, 32, 3, padding=1).to(device))
    pixels = torch.zeros(1, 32, 24, 24, 24, device=device).contiguous(
        memory_format=torch.channels_last_3d
    )

    def step() -> None:
        with computing_in(device, dtype):
            out = layer(pixels)
        out.float().sum().backward()

    step()
    return seconds_taken(step, device)


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Lays the weights of a network out in the memory format that is fast; returns it."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return network

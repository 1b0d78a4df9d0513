"""Receptive fields, computed from a built network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from .blocks import EnlargeLike, Join

CONVOLVING = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of a layer.

    Attributes:
        size: Voxels of the input that one voxel depends on, along each axis.
        step: Voxels of the input from one voxel to the next.
    """

    size: tuple[int, ...]
    step: tuple[int, ...]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        ours = isinstance(module, (Join, EnlargeLike, nn.BatchNorm2d, nn.BatchNorm3d, *CONVOLVING))
        return ours or super().is_leaf_module(module, name)


def receptive_fields(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Receptive field after every layer of a network, by the layer's name, in voxels.

    Counted as Milletari 2016 (Table 1) and most of the literature do: a layer with kernel n adds
    n - 1 steps of the grid that it works on, an up-convolution's own of the finer grid. This
    bounds what a voxel can see; after an up-convolution the exact number depends on the voxel's
    position and may be smaller by up to one coarse step.
    The order is that of execution, so the last value is the network's own.
    """
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    dims = next(m.weight.dim() - 2 for m in modules.values() if isinstance(m, CONVOLVING[:2]))
    known: dict[fx.Node, ReceptiveField] = {}
    fields: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        before = [known[n] for n in node.all_input_nodes if n in known]
        if node.op == "placeholder":
            known[node] = ReceptiveField((1,) * dims, (1,) * dims)
        elif before:
            module = modules[node.target] if node.op == "call_module" else None
            known[node] = _after(module, before, dims)
            if module is not None:
                fields[node.target] = known[node].size
    return fields


def receptive_field(network: nn.Module) -> tuple[int, ...]:
    """Receptive field of the whole network in voxels, per axis."""
    return list(receptive_fields(network).values())[-1]


def _after(module: nn.Module | None, before: list[ReceptiveField], dims: int) -> ReceptiveField:
    if isinstance(module, EnlargeLike):
        coarse, like = before
        # Nearest neighbour is an up-convolution with kernel = stride = the ratio of the grids.
        kernel = tuple(a // b for a, b in zip(coarse.step, like.step, strict=True))
        return ReceptiveField(_grown(coarse.size, kernel, like.step), like.step)
    size = tuple(map(max, zip(*(reach.size for reach in before), strict=True)))
    step = before[0].step
    if isinstance(module, CONVOLVING):
        kernel, stride = _each(module.kernel_size, dims), _each(module.stride, dims)
        return ReceptiveField(
            _grown(size, kernel, step), tuple(a * b for a, b in zip(step, stride, strict=True))
        )
    if isinstance(module, TRANSPOSED):
        kernel, stride = _each(module.kernel_size, dims), _each(module.stride, dims)
        finer = tuple(a // b for a, b in zip(step, stride, strict=True))
        return ReceptiveField(_grown(size, kernel, finer), finer)
    return ReceptiveField(size, step)


def _grown(
    size: tuple[int, ...], kernel: tuple[int, ...], step: tuple[int, ...]
) -> tuple[int, ...]:
    return tuple(n + (k - 1) * s for n, k, s in zip(size, kernel, step, strict=True))


def _each(value: int | tuple[int, ...], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)

"""Shallow models: each classifies voxels by what filters say about them, learnt in seconds.

What a random forest on filter responses is in ilastik or Labkit (Sommer 2011), here a small
perceptron, so that it runs on the engine's device: on textures it is hard to beat for the first
half minute, and it takes voxel coordinates and priors as further evidence. Models that differ
only in which voxels they learn from are taught at once, in batched products: their steps are so
small that most of what one costs is the same for one model as for five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

from ..compute.losses import balancing_weights
from ..compute.optimisers import AdamW
from ..compute.schedules import one_cycle
from ..compute.timing import seconds_taken

HIDDEN = 96
BATCH = 1024
STEPS = (100, 1600)  # least and most
FEW_STEPS = 400  # a good model already, for when time is short
PASSES = 60  # through the labelled voxels, where that needs fewer steps than the most
RATE = 5e-3
NOISE = 0.05  # of the evidence's standard deviation, against learning voxels by heart
MOST_ROWS = 400_000  # labelled voxels; of more, some of each group are drawn
CHECKED = 20  # steps between looks at whether to break off
TRIED = 4  # steps by which their time is told
AT_ONCE = 1 << 16  # voxels per prediction


class VoxelClassifier:
    """Says what class a voxel is of, from evidence.

    layers: weight float32 (inputs, outputs) and bias (1, outputs) of each layer.
    mean, sd: float32 (f,) of the evidence that was learnt from.
    check: called now and then; it may raise to break off.
    """

    def __init__(
        self,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        mean: torch.Tensor,
        sd: torch.Tensor,
        cast: torch.autocast,
        check: Callable[[], None],
    ):
        self.layers, self.mean, self.sd, self.check = layers, mean, sd, check
        self._cast = cast

    @torch.no_grad()
    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """float32 (classes, ...) for evidence (f, ...)."""
        flat = features.flatten(1)
        found = torch.empty((self.layers[-1][0].shape[-1], flat.shape[1]), device=flat.device)
        for first in range(0, flat.shape[1], AT_ONCE):
            self.check()
            part = normalised(flat[:, first : first + AT_ONCE].T, self.mean, self.sd)
            with self._cast:
                logits = forward(self.layers, part)
            found[:, first : first + AT_ONCE] = logits.float().softmax(dim=1).T
        return found.view(-1, *features.shape[1:])


class ClassifierFitter:
    """Teaches classifiers, each from some of the groups that the labelled voxels come in.

    evidence: per group float (voxels, f).  labels: uint8 (voxels,).  classes: with background.
    dtype: of the matrix products, 'bfloat16' or 'float32'.
    check: called now and then while models learn and predict; it may raise to break off.
    """

    def __init__(
        self,
        features: Sequence[torch.Tensor],
        labels: Sequence[torch.Tensor],
        classes: int,
        seed: int = 0,
        dtype: str = "float32",
        check: Callable[[], None] = lambda: None,
    ):
        self.classes, self.seed, self.check = classes, seed, check
        self.device, kind = features[0].device, getattr(torch, dtype)
        self._cast = torch.autocast(self.device.type, kind, enabled=dtype != "float32")
        share = MOST_ROWS / max(MOST_ROWS, sum(map(len, labels)))
        drawn = [self._drawn(len(group), max(1, int(share * len(group)))) for group in labels]
        rows = torch.cat([group[at] for group, at in zip(features, drawn, strict=True)]).float()
        self.mean, self.sd = rows.mean(dim=0), rows.std(dim=0).clamp_min(1e-3)
        self.rows = normalised(rows, self.mean, self.sd).to(kind)
        self.labels = torch.cat([group[at] for group, at in zip(labels, drawn, strict=True)]).long()
        self._groups = torch.arange(len(self.labels), device=self.device).split(
            [len(at) for at in drawn]
        )

    @property
    def steps(self) -> int:
        """How many the labelled voxels ask for."""
        return min(max(STEPS[0], PASSES * len(self.labels) // BATCH), STEPS[1])

    def fit(self, used: Sequence[Sequence[int]], steps: int) -> list[VoxelClassifier]:
        """One model for each entry of `used`, the numbers of the groups that it learns from."""
        random = torch.Generator(self.device).manual_seed(self.seed)
        parts = [torch.cat([self._groups[n] for n in numbers]) for numbers in used]
        joined, sizes = torch.cat(parts), torch.tensor([[len(p)] for p in parts]).to(self.device)
        first = sizes.cumsum(dim=0) - sizes
        worth = torch.stack([balancing_weights(self.labels[p], self.classes, 0.5) for p in parts])
        layers = self._layers(len(parts), random)
        optimiser = AdamW([tensor for layer in layers for tensor in layer], RATE)
        for number in range(steps):
            if number % CHECKED == 0:
                self.check()
            at = torch.rand(len(parts), BATCH, generator=random, device=self.device)
            at = joined[first + (at * sizes).long().clamp_max(sizes - 1)]
            x, labels = self.rows[at], self.labels[at]
            x = x + NOISE * torch.randn(
                x.shape[1:], generator=random, device=self.device, dtype=x.dtype
            )
            with self._cast:
                logits = forward(layers, x)
            # Each model's own weighted mean, and their sum: none gets a gradient from another.
            counts = worth.gather(1, labels)
            chance = logits.float().log_softmax(dim=2).gather(2, labels[..., None])[..., 0]
            optimiser.zero_grad()
            (-(chance * counts).sum(dim=1) / counts.sum(dim=1)).sum().backward()
            rate, beta = one_cycle(number, steps)
            optimiser.param_groups[0].update(lr=RATE * rate, betas=(beta, 0.999))
            optimiser.step()
        return [
            VoxelClassifier(
                [(w.detach()[n], b.detach()[n]) for w, b in layers],
                self.mean,
                self.sd,
                self._cast,
                self.check,
            )
            for n in range(len(parts))
        ]

    def seconds_per_step(self, models: int) -> float:
        """What a step of so many models takes, by trying."""
        used = [range(len(self._groups))] * models
        self.fit(used, 1)
        return seconds_taken(lambda: self.fit(used, TRIED), self.device) / TRIED

    def _drawn(self, voxels: int, kept: int) -> torch.Tensor:
        return torch.linspace(0, voxels - 1, kept, dtype=torch.float64).long().to(self.device)

    def _layers(self, models: int, random: torch.Generator) -> list:
        """Weights (models, inputs, outputs) and biases (models, 1, outputs), begun as torch's own
        linear layers begin."""
        sizes, layers = (self.rows.shape[1], HIDDEN, HIDDEN, self.classes), []
        for inputs, outputs in pairwise(sizes):
            layers.append(
                tuple(
                    (
                        (
                            2
                            * torch.rand(
                                models, wide, outputs, generator=random, device=self.device
                            )
                            - 1
                        )
                        / math.sqrt(inputs)
                    ).requires_grad_()
                    for wide in (inputs, 1)
                )
            )
        return layers


def normalised(features: torch.Tensor, mean: torch.Tensor, sd: torch.Tensor) -> torch.Tensor:
    return ((features.float() - mean) / sd).clamp(-5, 5)


def forward(layers: list, x: torch.Tensor) -> torch.Tensor:
    """What the layers make of (voxels, f), or models' layers of (models, voxels, f)."""
    for number, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias, x, weight) if x.dim() == 3 else torch.addmm(bias, x, weight)
        if number + 1 < len(layers):
            x = x.relu()
    return x


@contextmanager
def fastest_threads(fitter: ClassifierFitter, models: int) -> Iterator[float]:
    """Within, as many threads as teach so many models fastest: all, or one. Gives the seconds
    that a step takes so. Its operations are so small that beside busy programs threads wait for
    each other most of the time."""
    usual = torch.get_num_threads()

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return fitter.seconds_per_step(models)

    try:
        pace = {n: seconds(n) for n in ((usual, 1) if fitter.device.type == "cpu" else (usual,))}
        best = min(pace, key=pace.get)
        torch.set_num_threads(best)
        yield pace[best]
    finally:
        torch.set_num_threads(usual)

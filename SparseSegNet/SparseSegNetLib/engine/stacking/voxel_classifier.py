"""Shallow models, which classify voxels by their features and are fitted in seconds.

They do what a random forest on filter responses does in ilastik or Labkit (Sommer 2011), with a
small perceptron, so that they run on the engine's device: on textures it is hard to beat for the
first half minute, and it takes voxel coordinates and priors as further features. Models that differ
only in the voxels that they are fitted on are fitted at once, in batched products: their steps are
so small that most of the time for one is the same for one model as for five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch

from ..compute.losses import balancing_weights, merge_unknown
from ..compute.optimisers import AdamW
from ..compute.schedules import one_cycle
from ..compute.timing import seconds_taken

HIDDEN = 96
WIDE_HIDDEN = 256  # where there is time for it, and voxels to learn from
WIDE_FROM = 30_000  # labelled voxels
BATCH = 1024
STEPS = (100, 1600)  # least and most
FEW_STEPS = 400  # a good model already, for when time is short
FEWEST_STEPS = 100  # with fewer it is no use
PASSES = 60  # through the labelled voxels, where that needs fewer steps than the most
RATE = 5e-3
NOISE = 0.05  # of the features' standard deviation, against overfitting
MOST_ROWS = 400_000  # labelled voxels; of more, some of each group are drawn
CHECKED = 20  # steps between two calls of `check`
TRIED = 4  # steps that are timed
AT_ONCE = 1 << 14  # voxels per prediction: their features fit into a processor's cache


class VoxelClassifier:
    """A fitted shallow model.

    Args:
        layers: Weight float32 (inputs, outputs) and bias (1, outputs) of each layer.
        mean: float32 (f,), of the features that it was fitted on.
        sd: float32 (f,), their standard deviation.
        cast: The number format of its products.
        check: Called now and then; it may raise to stop.
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
        """Predicts class probabilities float32 (classes, ...) from features (f, ...)."""
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
    """Fits classifiers, each on some of the groups that the labelled voxels come in.

    Args:
        features: Per group, float (voxels, f).
        labels: Per group, uint8 (voxels,).
        classes: Labels with background.
        seed: Random seed.
        dtype: Of the matrix products, 'bfloat16' or 'float32'; in place of 'float16', in which
            gradients of single voxels vanish, float32 is taken.
        check: Called now and then while models are fitted and predict; it may raise to stop.
        unknown: Per group, the classes that its annotation does not tell from the background.
    """

    def __init__(
        self,
        features: Sequence[torch.Tensor],
        labels: Sequence[torch.Tensor],
        classes: int,
        seed: int = 0,
        dtype: str = "float32",
        check: Callable[[], None] = lambda: None,
        unknown: Sequence[Sequence[int]] = (),
    ):
        self.classes, self.seed, self.check = classes, seed, check
        dtype = "float32" if dtype == "float16" else dtype
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
        self._unknown: torch.Tensor | None = None
        if any(unknown):
            self._unknown = torch.zeros(len(self.labels), classes, dtype=torch.bool)
            for group, lacking in zip(self._groups, unknown, strict=True):
                self._unknown[
                    group[:, None].cpu(), torch.tensor(list(lacking), dtype=torch.long)
                ] = True
            self._unknown = self._unknown.to(self.device)

    @property
    def steps(self) -> int:
        """Number of steps that suits the number of labelled voxels."""
        return min(max(STEPS[0], PASSES * len(self.labels) // BATCH), STEPS[1])

    @property
    def hidden(self) -> int:
        """Units of a hidden layer that suit the number of labelled voxels."""
        return WIDE_HIDDEN if len(self.labels) >= WIDE_FROM else HIDDEN

    def fit(
        self,
        used: Sequence[Sequence[int]],
        steps: int,
        seen: torch.Tensor | None = None,
        hidden: int = HIDDEN,
    ) -> list[VoxelClassifier]:
        """Fits several models at once.

        Args:
            used: For each model the numbers of the groups that it is fitted on.
            steps: Optimisation steps.
            seen: float32 (models, f), 1 for the features that a model sees and 0 for those that it
                is to ignore; None if each sees all.
            hidden: Units of each hidden layer.
        """
        random = torch.Generator(self.device).manual_seed(self.seed)
        parts = [torch.cat([self._groups[n] for n in numbers]) for numbers in used]
        joined, sizes = torch.cat(parts), torch.tensor([[len(p)] for p in parts]).to(self.device)
        first = sizes.cumsum(dim=0) - sizes
        worth = torch.stack([balancing_weights(self.labels[p], self.classes, 0.5) for p in parts])
        layers = self._layers(len(parts), random, hidden)
        seen = None if seen is None else seen[:, :, None].to(self.device)
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
                logits = forward(_seeing(layers, seen), x)
            # Each model's own weighted mean, and their sum: none gets a gradient from another.
            counts = worth.gather(1, labels)
            if self._unknown is not None:
                logits = merge_unknown(logits, self._unknown[at])
            chance = logits.float().log_softmax(dim=2).gather(2, labels[..., None])[..., 0]
            optimiser.zero_grad()
            (-(chance * counts).sum(dim=1) / counts.sum(dim=1)).sum().backward()
            rate, beta = one_cycle(number, steps)
            optimiser.param_groups[0].update(lr=RATE * rate, betas=(beta, 0.999))
            optimiser.step()
        return [
            VoxelClassifier(
                [(w.detach()[n], b.detach()[n]) for w, b in _seeing(layers, seen)],
                self.mean,
                self.sd,
                self._cast,
                self.check,
            )
            for n in range(len(parts))
        ]

    def seconds_per_step(self, models: int, hidden: int = HIDDEN) -> float:
        """Measures the seconds of a step of so many models."""
        used = [range(len(self._groups))] * models
        self.fit(used, 1, hidden=hidden)
        taken = seconds_taken(lambda: self.fit(used, TRIED, hidden=hidden), self.device)
        return taken / TRIED

    def _drawn(self, voxels: int, kept: int) -> torch.Tensor:
        return torch.linspace(0, voxels - 1, kept, dtype=torch.float64).long().to(self.device)

    def _layers(self, models: int, random: torch.Generator, hidden: int) -> list:
        """Weights (models, inputs, outputs) and biases (models, 1, outputs).

        They are initialised as torch's own linear layers are.
        """
        sizes, layers = (self.rows.shape[1], hidden, hidden, self.classes), []
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
    """Features float32 (voxels, f) in standard deviations, clipped to -5 … 5."""
    return ((features.float() - mean) / sd).clamp(-5, 5)


def forward(layers: list, x: torch.Tensor) -> torch.Tensor:
    """Applies the layers to (voxels, f), or several models' layers to (models, voxels, f)."""
    for number, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias, x, weight) if x.dim() == 3 else torch.addmm(bias, x, weight)
        if number + 1 < len(layers):
            x = x.relu()
    return x


def _seeing(layers: list, seen: torch.Tensor | None) -> list:
    """The layers of models whose first weights are 0 for features that they do not see."""
    if seen is None:
        return layers
    (weight, bias), *others = layers
    return [(weight * seen, bias), *others]


@contextmanager
def fastest_threads(fitter: ClassifierFitter, models: int) -> Iterator[float]:
    """Uses as many threads as fit the models fastest: all, or one.

    The operations are so small that beside busy programs threads wait for each other most of the
    time.

    Args:
        fitter: Of the models.
        models: Number of models.

    Yields:
        Seconds that a step takes then.
    """
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

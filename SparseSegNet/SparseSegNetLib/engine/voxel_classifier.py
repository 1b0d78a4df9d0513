"""A shallow model: classifies each voxel by what filters say about it, in seconds.

What a random forest on filter responses is in ilastik or Labkit (Sommer 2011), here a small
perceptron, so that it runs on the engine's device: on textures it is hard to beat for the first
half minute, and it takes voxel coordinates and priors as further evidence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .losses import balancing_weights
from .optimisation import AdamW, one_cycle

HIDDEN = 96
BATCH = 1024
STEPS = (100, 1600)  # least and most
FEW_STEPS = 400  # a good model already, for when time is short
PASSES = 60  # through the labelled voxels, where that needs fewer steps than the most
RATE = 5e-3
NOISE = 0.05  # of the evidence's standard deviation, against learning voxels by heart
MOST_ROWS = 400_000  # labelled voxels; more are drawn from evenly
CHECKED = 20  # steps between looks at whether to break off
AT_ONCE = 1 << 18  # voxels per prediction


class VoxelClassifier:
    """Learns classes from evidence per voxel.

    evidence: float32 (voxels, f) of labelled voxels.  labels: uint8 (voxels,).
    classes: with background.  dtype: of the matrix products, 'bfloat16' or 'float32'.
    check: called now and then while it learns and predicts; it may raise to break off.
    most: steps, at most.
    """

    def __init__(self, evidence: torch.Tensor, labels: torch.Tensor, classes: int, seed: int,
                 dtype: str = "float32", check: Callable[[], None] = lambda: None,
                 most: int = STEPS[1]):
        self.classes, self.check, device = classes, check, evidence.device
        self._cast = torch.autocast(device.type, getattr(torch, dtype),
                                    enabled=dtype != "float32")
        random = torch.Generator().manual_seed(seed)
        if len(labels) > MOST_ROWS:
            chosen = torch.randperm(len(labels), generator=random)[:MOST_ROWS].to(device)
            evidence, labels = evidence[chosen], labels[chosen]
        evidence = evidence.float()
        self.mean, self.sd = evidence.mean(dim=0), evidence.std(dim=0).clamp_min(1e-3)
        rows = self._normalised(evidence)
        labels = labels.long()
        self.steps = steps = min(max(STEPS[0], PASSES * len(labels) // BATCH), most)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, classes)).to(device)
            weights = balancing_weights(labels, classes, 0.5)
            loss = nn.CrossEntropyLoss(weight=weights)
            optimiser = AdamW(self.network.parameters(), RATE)
            self.network.train()
            for number in range(steps):
                if number % CHECKED == 0:
                    check()
                at = torch.randint(len(labels), (BATCH,), generator=random).to(device)
                x = rows[at]
                x = x + NOISE * torch.randn_like(x)
                with self._cast:
                    logits = self.network(x)
                value = loss(logits.float(), labels[at])
                optimiser.zero_grad()
                value.backward()
                rate, beta = one_cycle(number, steps)
                optimiser.param_groups[0].update(lr=RATE * rate, betas=(beta, 0.999))
                optimiser.step()
        self.network.eval()

    def _normalised(self, evidence: torch.Tensor) -> torch.Tensor:
        return ((evidence.float() - self.mean) / self.sd).clamp(-5, 5)

    @torch.no_grad()
    def probabilities(self, evidence: torch.Tensor) -> torch.Tensor:
        """float32 (classes, k, j, i) for evidence (f, k, j, i)."""
        shape = evidence.shape[1:]
        flat = evidence.flatten(1)
        found = torch.empty((self.classes, flat.shape[1]), device=flat.device)
        for first in range(0, flat.shape[1], AT_ONCE):
            self.check()
            part = self._normalised(flat[:, first:first + AT_ONCE].T)
            with self._cast:
                logits = self.network(part)
            found[:, first:first + AT_ONCE] = logits.float().softmax(dim=1).T
        return found.view(self.classes, *shape)

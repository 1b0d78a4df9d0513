"""Calibrated probabilities: a temperature that depends on the distance to the annotation.

Temperature scaling (Guo 2017) divides the logarithms of the probabilities by one number, which
changes no label. Here the number changes with the distance to the nearest annotated slice, since
an ensemble of priors is right more often beside a slice than far from one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from ..stacking.out_of_fold import OutOfFold

MOST_VOXELS = 50_000  # that are fitted on
LEAST_VOXELS = 200
FLOOR = 1e-4  # of a probability
RANGE = (0.05, 5.0)  # of the exponent
BINS = 10
FOREGROUND = 0.02  # probability of all segments together from which on a voxel is looked at
# How much the parameters are held to those of no calibration, in voxels.
HELD = 20.0


@dataclass(frozen=True)
class Calibration:
    """Exponents of probabilities: exp(level + slope * (log distance - middle)).

    Attributes:
        level: Logarithm of the exponent at the middle distance; 0 leaves probabilities as they
            are, less makes them less certain.
        slope: Change per unit of log distance.
        middle: The middle log distance.
    """

    level: float = 0.0
    slope: float = 0.0
    middle: float = 0.0

    @classmethod
    def fit(cls, found: OutOfFold, chosen: torch.Tensor | None = None) -> Calibration:
        """Fits level and slope by the likelihood of what was drawn.

        Args:
            found: Out-of-fold predictions.
            chosen: Boolean (voxels,), those to fit on; None for all.
        """
        at = torch.arange(len(found.truth), device=found.truth.device)
        at = at if chosen is None else at[chosen]
        at = at[_looked_at(found.probabilities[:, at])]
        if len(at) < LEAST_VOXELS:
            return cls()
        if len(at) > MOST_VOXELS:
            at = at[torch.linspace(0, len(at) - 1, MOST_VOXELS, device=at.device).long()]
        logs = found.probabilities[:, at].float().clamp_min(FLOOR).log()
        truth, distance = found.truth[at].long(), found.distance[at].float()
        middle = float(distance.mean())
        away = distance - middle

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            parameters = torch.tensor(values, dtype=torch.float32, device=logs.device)
            parameters.requires_grad_()
            exponent = (parameters[0] + parameters[1] * away).exp().clamp(*RANGE)
            wrong = torch.nn.functional.cross_entropy((logs * exponent).T, truth)
            value = wrong + HELD / len(truth) * parameters.square().sum()
            value.backward()
            assert parameters.grad is not None
            return value.item(), parameters.grad.cpu().numpy().astype(np.float64)

        # Not torch's: the first use of an optimiser class imports torch's compiler, which takes 2 s
        # at each start of the engine.
        with torch.enable_grad():
            found_at = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B")
        level, slope = found_at.x.tolist()
        return cls(level, slope, middle)

    def exponent(self, distance: torch.Tensor) -> torch.Tensor:
        """Exponents float32, of the shape of `distance` (log distances)."""
        return (self.level + self.slope * (distance.float() - self.middle)).exp().clamp(*RANGE)

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {"level": self.level, "slope": self.slope, "middle": self.middle}


def calibrated(probabilities: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Raises probabilities (classes, ...) to a power (...) and scales them to sum to 1; float32."""
    return (probabilities.float().clamp_min(FLOOR).log() * exponent).softmax(dim=0)


def _looked_at(probabilities: torch.Tensor) -> torch.Tensor:
    """Boolean (voxels,): where a segment is possible. Background far from any is always right."""
    return 1 - probabilities[0].float() >= FOREGROUND


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram of voxels in which a segment is possible.

    Attributes:
        voxels: Number of voxels in each of BINS bins of the probability of the likeliest class.
        confidence: Mean probability of the likeliest class in each bin; 0 in an empty one.
        accuracy: Share of the voxels of each bin whose likeliest class was drawn there.
    """

    voxels: list[int]
    confidence: list[float]
    accuracy: list[float]

    @classmethod
    def measure(cls, probabilities: torch.Tensor, truth: torch.Tensor) -> Reliability:
        """Measures class probabilities (classes, voxels) against uint8 (voxels,)."""
        likeliest = probabilities.max(dim=0)
        right = (likeliest.indices == truth.long()).double()
        bins = (likeliest.values * BINS).long().clamp(0, BINS - 1)
        count = torch.bincount(bins, minlength=BINS)
        size = count.clamp_min(1)
        sums = [
            (torch.bincount(bins, weights=values.double(), minlength=BINS) / size).tolist()
            for values in (likeliest.values, right)
        ]
        return cls(count.tolist(), *sums)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo 2017), 0 to 1."""
        total = max(1, sum(self.voxels))
        return (
            sum(
                n * abs(c - a)
                for n, c, a in zip(self.voxels, self.confidence, self.accuracy, strict=True)
            )
            / total
        )

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {
            "voxels": self.voxels,
            "confidence": [round(v, 4) for v in self.confidence],
            "accuracy": [round(v, 4) for v in self.accuracy],
            "error": round(self.error, 4),
        }


def reliability(found: OutOfFold) -> tuple[Reliability, Reliability]:
    """Reliability before and after calibration, each fold calibrated by the others."""
    before, after, truth = [], [], []
    for number in torch.unique(found.fold).tolist():
        own = found.fold == number
        probabilities = found.probabilities[:, own]
        looked = _looked_at(probabilities)
        probabilities = probabilities[:, looked].float()
        exponent = Calibration.fit(found, ~own).exponent(found.distance[own][looked])
        before.append(probabilities)
        after.append(calibrated(probabilities, exponent))
        truth.append(found.truth[own][looked])
    known = torch.cat(truth)
    return (
        Reliability.measure(torch.cat(before, dim=1), known),
        Reliability.measure(torch.cat(after, dim=1), known),
    )

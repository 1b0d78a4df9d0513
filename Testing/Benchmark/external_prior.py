"""What an external prior is worth: stacking alone, with priors that are good, fair and useless.

Without a clock and without a network, so that nothing but the prior differs:

    python Testing/Benchmark/external_prior.py [--data DIR] [CASE...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scipy import ndimage

from cases import SHARED, Case, data_is_there, load_case
from SparseSegNetLib.engine.data.external_prior import ExternalPrior
from SparseSegNetLib.engine.data.preprocessing import Normalisation, WorkingVolume, working_volume
from SparseSegNetLib.engine.priors.maker import PriorMaker
from SparseSegNetLib.engine.stacking.fold_weights import FoldWeights
from SparseSegNetLib.engine.stacking.prior_inputs import prior_of
from SparseSegNetLib.engine.stacking.stack_time import StackTime
from SparseSegNetLib.engine.stacking.stacker import Stacker
from SparseSegNetLib.runfolder.run_input import RunInput

CASES = ("hippocampus-007", "spleen-ct", "brain-mricrop")
COUNTS = ((1, 1, 1), (3, 3, 2))
SHIFT = 3  # voxels along i


def priors_of(case: Case) -> Iterator[tuple[str, np.ndarray | None, tuple[int, ...]]]:
    """Name, labels (k, j, i) and known classes of each prior; None for no prior."""
    truth, count = case.truth, len(case.segments)
    every = tuple(range(1, count + 1))
    yield "none", None, ()
    yield "shifted", np.roll(truth, SHIFT, 2), every
    grown = ndimage.grey_dilation(truth, size=(1, 3, 3))
    yield "grown", np.where(truth > 0, truth, grown), every
    if count > 1:
        yield "one missing", np.where(truth == 1, 0, truth), every[1:]
    noise = np.random.default_rng(0).integers(0, count + 1, truth.shape)
    yield "noise", noise, every
    yield "mirrored", truth[:, :, ::-1], every


def as_probabilities(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Class probabilities float16 (classes, k, j, i) of labels."""
    return torch.stack([torch.from_numpy(labels == n) for n in range(classes)]).half()


class KnownPriors(PriorMaker):
    """Makes the priors of the same labels once."""

    def make(self, labels: torch.Tensor, slices: list) -> torch.Tensor:
        """See `PriorMaker.make`."""
        known = self.__dict__.setdefault("known", {})
        key = hash(labels.numpy().tobytes())
        if key not in known:
            known[key] = super().make(labels, slices)
        return known[key]


class SameModels(Stacker):
    """Fits the shallow models once: they do not see the external prior."""

    models: dict

    def _fit(self, folds: list, time: StackTime) -> tuple:
        if "fitted" not in self.models:
            self.models["fitted"] = super()._fit(folds, time)
        return self.models["fitted"]


def noted(shares: list[float]) -> Callable:
    """`FoldWeights.of_prediction`, which notes the weight of the last predictor."""
    plain = FoldWeights.of_prediction

    def of_prediction(self: FoldWeights, weights: torch.Tensor) -> torch.Tensor:
        found = plain(self, weights)
        shares.append(float(found[-1]))
        return found

    return of_prediction


def mean_iou(case: Case, labels: np.ndarray) -> float:
    """Mean IoU over the foreground classes on the voxels that are not annotated."""
    return float(np.mean([row["iou"] for row in case.scores(labels) if row["iou"] is not None]))


def volume_of(case: Case) -> WorkingVolume:
    """The case's image and slices on its own grid."""
    item = RunInput(case.image[None], case.sparse, case.geometry, case.slices)
    normalised = Normalisation.measure(item.image, item.labels).apply(item.image)
    return working_volume(item, case.truth.shape, normalised, torch.device("cpu"))


def measure(case: Case) -> None:
    """Prints a line per prior: the prior's own IoU, and that of the ensemble with it."""
    volume, classes = volume_of(case), len(case.segments) + 1
    maker = KnownPriors(volume, classes)
    features, models = Stacker(maker).features, {}
    for name, labels, known in priors_of(case):
        external = None if labels is None else as_probabilities(labels, classes)
        given = [] if external is None else [ExternalPrior.everywhere(external, known)]
        stacker = SameModels(maker, external=given)
        stacker.features, stacker.models = features, models
        shares: list[float] = []
        with patch.object(FoldWeights, "of_prediction", noted(shares)):
            found = prior_of(stacker.stack(volume.labels, volume.slices).target, classes)
        row = [case.name, len(case.slices), name]
        row += ["" if labels is None else f"{mean_iou(case, labels):.3f}"]
        row += [f"{mean_iou(case, found.argmax(dim=0).numpy()):.4f}"]
        row += ["" if labels is None else f"{shares[0]:.3f}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def main() -> int:
    """Measures the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    if not data_is_there(options.data):
        return 2
    print("| case | slices | prior | its own IoU | IoU | its weight |\n|---|---|---|---|---|---|")
    for name in options.cases:
        for counts in COUNTS:
            measure(load_case(options.data / name, counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())

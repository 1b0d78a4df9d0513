"""A trained model that predicts volumes without annotation, and its file.

The file is one .safetensors file with everything else as JSON in its header. Never pickle: opening
a stranger's model must not run code, and nothing is allocated before the sizes that its header
announces are checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...annotation.composition import UNLABELLED
from ...annotation.geometry import Triple, triple
from ...annotation.slices import AnnotatedSlice
from ...errors import InputError
from ...runfolder.forms import (
    ValidationError,
    anything,
    choice,
    flag,
    mapping,
    number,
    optional,
    record,
    rows,
)
from ...runfolder.model_description import KEY, ModelDescription
from ...runfolder.presets import times
from ..compute.boxes import halved
from ..compute.number_formats import candidate_formats, channels_last
from ..compute.tensors_file import read_tensors, save_tensors
from ..data.intensity_standard import IntensityStandard
from ..data.preprocessing import WorkingVolume
from ..networks import build
from ..plan import Plan
from ..stacking.image_classifier import (
    ImageClassifier,
    feature_count,
    settings,
    surroundings,
)
from ..stacking.voxel_classifier import VoxelClassifier
from .inference import Box, Predictor, Step
from .plan_form import LARGEST_TILE, check_plan

FORM = record(
    {
        "network": optional(mapping(anything())),
        "network_share": number(0, 1),
        "planes": rows(choice("i", "j", "k"), 0, 3),
        "shallow": optional(mapping(anything())),
        "intensities": mapping(anything()),
        "n4": flag(),
    }
)
LAYERS = 3


@dataclass
class Model:
    """Everything that it takes to predict a volume without annotation.

    Attributes:
        description: What is to be known of it.
        intensities: The normalisation of images.
        n4: Whether the bias field is corrected first.
        plan: Of the network; None without one.
        network: Gives logits; None where the shallow model predicts alone.
        shallow: Classifies voxels; None where the network predicts alone.
        network_share: Ensemble weight of the network beside the shallow model.
        planes: Axes across which slices were annotated, for networks that work on slices.
    """

    description: ModelDescription
    intensities: IntensityStandard
    n4: bool
    plan: Plan | None
    network: torch.nn.Module | None
    shallow: ImageClassifier | None
    network_share: float
    planes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Labels with background."""
        return len(self.description.segments) + 1

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        if self.network is not None:
            return next(self.network.parameters()).device
        assert self.shallow is not None
        return self.shallow.model.mean.device

    def with_smaller_tiles(self) -> str | None:
        """Halves the network's tiles; a message with their size, None if they cannot be smaller."""
        if self.plan is None or any(self.plan.margin):
            return None
        if (tile := halved(self.plan.tile, self.plan.divisor)) is None:
            return None
        self.plan = replace(self.plan, tile=tile)
        return f"tiles of {times(tile)} voxels"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Spacing of its working grid, mm along k, j, i."""
        i, j, k = self.description.spacing
        return k, j, i

    def probabilities(
        self,
        volume: WorkingVolume,
        step: Step = lambda share: None,
        smaller: Callable[[Triple], None] = lambda tile: None,
    ) -> torch.Tensor:
        """Predicts class probabilities float32 (classes, k, j, i), on the CPU.

        Args:
            volume: On the model's grid, with its normalisation; what is annotated is not looked at.
            step: Called with the share done; it may raise to stop.
            smaller: Called with the new tile (k, j, i) where memory ran out.
        """

        def by_network(predictor: Predictor, ready: WorkingVolume, step: Step) -> torch.Tensor:
            return predictor.probabilities(ready, step=step)

        return self._both(volume, (0, 0, 0), volume.shape, step, by_network, smaller)

    def probabilities_of(
        self,
        volume: WorkingVolume,
        low: Sequence[int],
        high: Sequence[int],
        step: Step = lambda share: None,
    ) -> torch.Tensor:
        """Predicts the box [low, high) as `probabilities` does as a part of the whole.

        The network's tiles lie where they lie for the whole, so that its share is the same to the
        last bit; the shallow model's features are float16 and may round otherwise.

        Args:
            volume: A part of the working volume that holds `reach` of the box.
            low: First voxel, (k, j, i).
            high: Voxel after the last, (k, j, i).
            step: Called with the share done; it may raise to stop.

        Returns:
            float32 (classes, k, j, i), on the CPU.
        """

        def by_network(predictor: Predictor, ready: WorkingVolume, step: Step) -> torch.Tensor:
            return predictor.within_whole(ready, low, high, step)

        return self._both(volume, low, high, step, by_network)

    def reach(self, shape: Triple, low: Sequence[int], high: Sequence[int]) -> Box:
        """The box of a working grid of that shape (k, j, i) that `probabilities_of` looks at."""
        boxes = []
        if self.shallow is not None:
            boxes.append(surroundings(shape, self.spacing, low, high))
        if self.network is not None and self.plan is not None:
            boxes.append(Predictor(self.network, self.classes, self.plan).reach(shape, low, high))
        return (
            triple(map(min, *(box[0] for box in boxes), low)),
            triple(map(max, *(box[1] for box in boxes), high)),
        )

    def _both(
        self,
        volume: WorkingVolume,
        low: Sequence[int],
        high: Sequence[int],
        step: Step,
        by_network: Callable[[Predictor, WorkingVolume, Step], torch.Tensor],
        smaller: Callable[[Triple], None] = lambda tile: None,
    ) -> torch.Tensor:
        """The ensemble of shallow model and network, of the box [low, high)."""
        volume = replace(
            volume,
            labels=torch.full_like(volume.labels, UNLABELLED),
            slices=[AnnotatedSlice(axis, 0) for axis in self.planes],
        )
        both = self.shallow is not None and self.network is not None
        half = 0.5 if both else 1.0
        found = None
        if self.shallow is not None:
            found = self.shallow.probabilities(volume, lambda share: step(half * share), low, high)
        if self.network is None or (both and self.network_share == 0):
            assert found is not None
            return found
        assert self.plan is not None
        predictor = Predictor(self.network, self.classes, self.plan, smaller)
        learnt = by_network(predictor, volume, lambda share: step(1 - half + half * share))
        return learnt if found is None else torch.lerp(found, learnt, self.network_share)

    def save(self, path: Path) -> None:
        """Writes the model, atomically.

        Raises:
            OSError: It cannot be written.
        """
        tensors: dict[str, torch.Tensor] = {}
        if self.network is not None:
            tensors |= {f"network.{n}": t for n, t in self.network.state_dict().items()}
        shallow = None
        if self.shallow is not None:
            shallow = settings(self.shallow.channels)
            model = self.shallow.model
            tensors |= {"shallow.mean": model.mean, "shallow.sd": model.sd}
            for place, (weight, bias) in enumerate(model.layers):
                tensors |= {f"shallow.{place}.weight": weight, f"shallow.{place}.bias": bias}
        about = {
            **self.description.to_json(),
            "engine": {
                "network": None if self.plan is None else self.plan.to_json(),
                "network_share": self.network_share,
                "planes": list(self.planes),
                "shallow": shallow,
                "intensities": self.intensities.to_json(),
                "n4": self.n4,
            },
        }
        save_tensors(path, tensors, {KEY: json.dumps(about, allow_nan=False)})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Model:
        """Reads a model file.

        Raises:
            InputError: It is no model file, damaged, or of another version.
        """
        description, about = ModelDescription.read_entry(path)
        try:
            record({"engine": FORM})(about, "")
            return _loaded(path, description, about["engine"], device)
        except ValueError as error:
            raise InputError(
                f"the model {path} is damaged: {error}. Restore it from a copy, or train it again."
            ) from error


def _loaded(path: Path, description: ModelDescription, about: dict, device: torch.device) -> Model:
    channels, classes = len(description.channels), len(description.segments) + 1
    intensities = IntensityStandard.from_json(about["intensities"])
    if len(intensities.normalisation.mean) != channels:
        raise ValidationError(
            "intensities", f"{channels} channels", len(intensities.normalisation.mean)
        )
    if about["network"] is None and about["shallow"] is None:
        raise ValueError("it holds neither a network nor a shallow model")
    tensors, _ = read_tensors(path, KEY)
    plan = network = shallow = None
    if about["network"] is not None:
        check_plan(about["network"])
        plan = Plan.from_json(about["network"])
        if max(math.prod(plan.patch), math.prod(plan.tile)) > LARGEST_TILE or plan.priors:
            raise ValueError("its network works on tiles that are too large, or needs a prior")
        network = _network(plan, channels + (3 if plan.position else 0), classes, tensors)
        network = channels_last(network.to(device)).eval().requires_grad_(False)
        formats = candidate_formats(device)
        if plan.dtype not in formats:
            plan = replace(plan, dtype=formats[0])
    if about["shallow"] is not None:
        if about["shallow"] != settings(channels):
            raise ValueError(
                "its shallow model works on features that this version does not compute"
            )
        shallow = ImageClassifier(_shallow(channels, classes, tensors, device), channels)
    return Model(
        description,
        intensities,
        about["n4"],
        plan,
        network,
        shallow,
        about["network_share"],
        tuple(about["planes"]),
    )


def _network(
    plan: Plan, inputs: int, classes: int, tensors: dict[str, torch.Tensor]
) -> torch.nn.Module:
    """The network with the file's weights; of other shapes than these nothing is allocated."""
    given = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
    try:
        with torch.device("meta"):
            network = build(plan, inputs, classes)
        network.load_state_dict(given, strict=True, assign=True)
    except (RuntimeError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"its weights do not fit its network ({str(error)[:200]})") from error
    if not all(t.isfinite().all() for t in given.values() if t.is_floating_point()):
        raise ValueError("its weights are not finite")
    return network


def _shallow(
    channels: int, classes: int, tensors: dict[str, torch.Tensor], device: torch.device
) -> VoxelClassifier:
    def taken(name: str, shape: tuple[int | None, ...]) -> torch.Tensor:
        found = tensors.get(f"shallow.{name}")
        fits = (
            found is not None
            and found.dtype == torch.float32
            and found.dim() == len(shape)
            and all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))
        )
        if not fits or found is None or not found.isfinite().all():
            raise ValueError(f"the tensor 'shallow.{name}' is missing or of another form")
        return found.to(device)

    wide: int | None = feature_count(channels)
    mean, sd = taken("mean", (wide,)), taken("sd", (wide,))
    layers = []
    for place in range(LAYERS):
        last = place == LAYERS - 1
        weight = taken(f"{place}.weight", (wide, classes if last else None))
        wide = weight.shape[1]
        layers.append((weight, taken(f"{place}.bias", (1, wide))))
    cast = torch.autocast(device.type, torch.bfloat16, enabled=False)
    return VoxelClassifier(layers, mean, sd, cast, lambda: None)


def grid_of(shape: Triple, own: tuple[float, ...], wanted: tuple[float, ...]) -> Triple:
    """The grid (k, j, i) with the wanted spacing over the extent of one with its own spacing."""
    return triple(max(1, round(n * mm / to)) for n, mm, to in zip(shape, own, wanted, strict=True))

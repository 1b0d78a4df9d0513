"""A region of a stored volume made ready for a network at a finer level, from its run folder."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..annotation.geometry import Triple, triple
from ..engine.data.preprocessing import Normalisation
from ..files.chunk_cache import ChunkCache
from ..files.stored_volume import StoredVolume
from ..runfolder.atomic import write_json
from ..runfolder.forms import of_type, read_json
from ..runfolder.options import Options
from ..runfolder.prior_outputs import read_fold_priors, read_probabilities
from .dense_region import region_of
from .dense_task import DenseTask
from .drawn_voxels import AGAIN, Blocks, DrawnVoxels, reduced
from .fine_set import FineSet
from .fine_training import FineNetwork, FineTraining, Step, blocks_in_window, fine_plan
from .fine_volume import FineImage, FineVolume, FoldTable
from .model_view import finite

CACHE_SHARE = 0.5  # of what may be taken, for chunks
MOST_CACHED = 4e9  # bytes
SAMPLED, SIDE = 16, 64  # boxes among what is drawn, and among all; voxels along their sides


class FineRegion:
    """The region of a task on the level that a network is trained on.

    Args:
        image: The volume.
        task: Names the region and the level.
        run: The run folder, whose engine has made the priors.
        drawn: The drawn voxels on the finest grid.
        classes: Labels with background.
        room: Bytes that may be taken.

    Attributes:
        volume: With the prior that is made from all labels.
        cache: Reads the chunks.

    Raises:
        InputError: A chunk cannot be read, or something in the run folder is damaged.
    """

    def __init__(
        self,
        image: StoredVolume,
        task: DenseTask,
        run: Path,
        drawn: DrawnVoxels,
        classes: int,
        room: float,
    ):
        assert task.fine is not None
        self.classes, self.folder, self.run = classes, run / "fine", run
        self.folder.mkdir(exist_ok=True)
        self.device = torch.device(task.device)
        region = region_of(image, (task.region.low, task.region.high), task.fine)
        self.cache = ChunkCache(image, task.fine, min(MOST_CACHED, CACHE_SHARE * room))
        blocks = Blocks.of(region.first, region.last, self.cache.block)
        self.drawn = self._drawn_on(drawn, blocks)
        spacing = image.levels[task.fine].geometry.spacing_kji
        unknown = Normalisation(*[(0.0,) * len(image.channels)] * 4)
        self.image = FineImage(
            self.cache, region.first, region.shape, spacing, unknown, task.replace_nonfinite
        )
        self.image.normalisation = self._normalisation()
        prior = read_probabilities(run, classes)[1:]
        self.volume = FineVolume(self.image, prior, device=self.device)

    @property
    def network_path(self) -> Path:
        """File of the trained network."""
        return self.folder / "network.safetensors"

    def network(self) -> FineNetwork | None:
        """The trained network; None if there is none."""
        if not self.network_path.is_file():
            return None
        return FineNetwork.load(self.network_path, self.volume.channels, self.classes, self.device)

    def training(self, options: Options, slices: int, seconds: float) -> FineTraining | None:
        """The training of the network, from its checkpoint if there is one.

        Args:
            options: Of the run.
            slices: Annotated slices.
            seconds: How long it may take.

        Returns:
            None where the annotation cannot be divided into folds.
        """
        folds = read_fold_priors(self.run, self.classes)
        if folds is None:
            return None
        table = FoldTable(self.drawn, folds, self.classes)
        volumes = [
            FineVolume(self.image, prior, table, number, self.device)
            for number, prior in enumerate(folds.priors)
        ]
        plan = fine_plan(
            self.image, self.classes, slices, self.drawn.count, options, str(self.device)
        )
        holding_out = options.hold_out and plan.held_out_share > 0
        most = blocks_in_window(self.image)
        found = FineSet(volumes, table, options.seed, holding_out, most)
        return FineTraining(
            found, plan, self.classes, folds.prior_only, options, self.folder, seconds
        )

    def train(self, training: FineTraining, step: Step = lambda share: None) -> FineNetwork:
        """Trains, and keeps the network; see `FineTraining.train`."""
        network = training.train(step)
        network.save(self.network_path)
        return network

    def _drawn_on(self, drawn: DrawnVoxels, blocks: Blocks) -> DrawnVoxels:
        """The drawn voxels on the network's level, in the blocks of the cache."""
        if drawn.blocks == blocks:
            return drawn
        folder = self.folder / "drawn"
        if not DrawnVoxels.written(folder):
            DrawnVoxels.write(
                folder, blocks, lambda low, high: reduced(drawn, blocks.shape, low, high)
            )
        return DrawnVoxels(folder)

    def _normalisation(self) -> Normalisation:
        """Of the intensities on the level, measured once on boxes of the region."""
        path = self.folder / "normalisation.json"
        if path.is_file():
            found = read_json(path, of_type(Normalisation), AGAIN)
            return Normalisation(**{key: tuple(value) for key, value in found.items()})
        pixels, labels = [], []
        for low, high in self._sampled():
            begin, end = (
                triple(a + b for a, b in zip(e, self.image.first, strict=True)) for e in (low, high)
            )
            found = self.cache.read(begin, end)
            pixels.append(found.reshape(len(found), 1, 1, -1))
            labels.append(self.drawn.box(low, high).reshape(1, 1, -1))
        values = finite(
            np.concatenate(pixels, axis=3),
            self.image.replace_nonfinite,
            f"the region of {self.cache.image.path}",
        )
        measured = Normalisation.measure(values, np.concatenate(labels, axis=2))
        write_json(path, asdict(measured))
        return measured

    def _sampled(self) -> list[tuple[Triple, Triple]]:
        """Boxes in the middle of blocks, evenly chosen among all and among those drawn in."""
        blocks, found = self.drawn.blocks, []
        for numbers in (self.drawn.drawn_blocks(), range(math.prod(blocks.counts))):
            count = min(SAMPLED, len(numbers))
            for n in range(count):
                low, high = blocks.box(numbers[(2 * n + 1) * len(numbers) // (2 * count)])
                low = triple(max(a, (a + b - SIDE) // 2) for a, b in zip(low, high, strict=True))
                high = triple(min(b, a + SIDE) for a, b in zip(low, high, strict=True))
                found.append((low, high))
        return found

"""The task of a `densify` of a stored volume, kept in its run folder to be gone on with.

stored.json  the task
drawn/       the drawn voxels of the region on the finest grid (see `drawn_voxels`)
fine/        the network that is trained on patches: its drawn voxels, normalisation,
checkpoints, and network.safetensors once it is trained
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..annotation.geometry import Triple, triple
from ..errors import InputError
from ..files.stored_volume import StoredVolume
from ..runfolder.atomic import write_json
from ..runfolder.checkpoints import STORED
from ..runfolder.forms import of_type, read_json
from .dense_region import DenseRegion
from .drawn_voxels import AGAIN


@dataclass
class Learnt:
    """Time and steps that the engine has learnt in the region.

    Attributes:
        seconds: That it took.
        steps: Of a network.
    """

    seconds: float
    steps: int


@dataclass
class DenseTask:
    """The task, all that is to be done. Paths are absolute.

    Attributes:
        image: The volume.
        output: The store to write.
        region: In which it is learnt, on the level on which it fits memory.
        fine: The level that a network is trained on from chunks; None for none.
        seconds: Of the time budget, for that network.
        everywhere: Whether the trained model segments what is outside of the region.
        replace_nonfinite: NaN and infinite voxels count as the lowest value.
        memory: Bytes that a tile may take; None to choose.
        room: Bytes that learning may take, the same whenever it goes on.
        device: The name of the device.
        save_model: Where the trained model is written; None for nowhere.
        metrics: Where the scores are written; None for nowhere.
        keep: Whether the run folder stays when all is done.
        learnt: None before the engine is done.
    """

    image: str
    output: str
    region: DenseRegion
    fine: int | None
    seconds: float
    everywhere: bool
    replace_nonfinite: bool
    memory: float | None
    room: float
    device: str
    save_model: str | None
    metrics: str | None
    keep: bool
    learnt: Learnt | None = None

    def save(self, run: Path) -> None:
        """Writes it into a run folder."""
        write_json(run / STORED, asdict(self))

    def check(self, image: StoredVolume, run: Path) -> None:
        """Checks that it fits a volume, which may have been replaced since.

        Args:
            image: The volume.
            run: The run folder, for the message.

        Raises:
            InputError: It does not.
        """
        region, levels = self.region, range(len(image.levels))
        fits = region.level in levels and (self.fine is None or self.fine in levels)
        if not (
            fits
            and _within(region.low, region.high, image.shape)
            and _within(region.first, region.last, image.levels[region.level].shape)
        ):
            raise InputError(f"{run / STORED} does not fit {image.path}: was it replaced? {AGAIN}")

    @classmethod
    def open(cls, run: Path) -> DenseTask | None:
        """Reads the task of a run folder; None if it has none.

        Raises:
            InputError: It is damaged.
        """
        if not (run / STORED).is_file():
            return None
        form: Any = of_type(cls)  # type: ignore[arg-type]
        found = read_json(run / STORED, form, AGAIN)
        region, learnt = found["region"], found.get("learnt")
        corners = {key: triple(region[key]) for key in ("low", "high", "first", "last")}
        found["region"] = DenseRegion(level=region["level"], **corners)
        found["learnt"] = None if learnt is None else Learnt(**learnt)
        return cls(**found)


def _within(low: Triple, high: Triple, shape: Triple) -> bool:
    return all(0 <= a < b <= n for a, b, n in zip(low, high, shape, strict=True))

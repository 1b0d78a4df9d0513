"""A model applied to a volume that is larger than memory: what is to be done, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..engine.data.preprocessing import Normalisation
from ..errors import EngineError, InputError
from ..files.ngff_labels import LabelStore, chunk_of, open_label_store
from ..files.ngff_volume import NgffVolume
from ..files.stored_volume import StoredVolume
from ..runfolder.compatibility import check_compatible
from .done_file import DoneFile, beside, digest
from .model_view import ModelView
from .segment_tile import finish_store, load_model, segment_tile, unwritten
from .tile_list import Region, Tile, tiles_of
from .tile_size import tile_size
from .whole_volume import EXACT, WholeVolume, measure, overview

Step = Callable[[float], None]
WORDS = {"model": "model", "image": "image", "region": "--region", "shape": "size of the image"}


@dataclass
class Segmenting:
    """A segmentation by tiles that has begun.

    Each tile can be computed by `segment_tile(model, image, tile, store, whole, device)` in any
    process, since all of these can be pickled; `finished` notes it. When all are, `complete` makes
    the coarser levels.

    Attributes:
        model: The model file.
        image: The volume.
        store: The output.
        tiles: All tiles.
        whole: What was measured of the volume.
        device: Name of the device.
        region: The box that is segmented; None for all.
        done: Says which tiles are done.
        tell: Called with notes for the user.
    """

    model: Path
    image: StoredVolume
    store: LabelStore
    tiles: list[Tile]
    whole: WholeVolume
    device: str
    region: Region | None
    done: DoneFile
    tell: Callable[[str], None] = lambda text: None

    @property
    def waiting(self) -> list[Tile]:
        """The tiles that are not done."""
        return [tile for tile in self.tiles if tile.number not in self.done.done]

    def compute(self, tile: Tile, step: Step = lambda share: None) -> None:
        """Computes a tile in this process, and notes it."""
        parts = self.model, self.image, tile, self.store, self.whole, self.device
        segment_tile(*parts, step, self.tell)
        self.finished(tile)

    def finished(self, tile: Tile) -> None:
        """Notes a tile whose chunks are written.

        Raises:
            EngineError: 'disk-full' or 'files'.
        """
        try:
            self.done.add(tile.number)
        except OSError as error:
            raise unwritten(error, self.store.path) from error

    def complete(self, step: Step = lambda share: None) -> None:
        """Makes the coarser levels of the output.

        Args:
            step: Called with the share done; it may raise to stop.

        Raises:
            EngineError: 'disk-full' or 'files'.
        """
        low, high = self.region or ((0, 0, 0), self.image.shape)
        finish_store(self.store, self.done, low, high, step)


def begin(
    model_path: Path,
    image: StoredVolume,
    output: Path,
    *,
    device: str = "cpu",
    region: Region | None = None,
    memory: float | None = None,
    accept: tuple[str, ...] = (),
    replace_nonfinite: bool = False,
    resume: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    step: Step = lambda share: None,
) -> Segmenting:
    """Begins a segmentation, or goes on with one: checks, measures the volume, makes the store.

    Args:
        model_path: The model file.
        image: The volume.
        output: The store to write.
        device: Name of the device to compute on.
        region: The box that is wanted; None for all.
        memory: Bytes that a tile may take, about; None to choose.
        accept: See `check_compatible`.
        replace_nonfinite: See `WholeVolume`.
        resume: Go on with an output that was begun.
        tell: Called with notes for the user.
        step: Called with the share of the measuring done; it may raise to stop.

    Raises:
        InputError: The model does not fit the image, or the output is in the way.
        EngineError: The output cannot be written.
    """
    model = load_model(model_path, device)
    if model.n4:
        raise InputError(
            f"the model {model_path} needs its images corrected for a bias field (N4), which looks "
            "at all of a volume at once: train one without --n4 for volumes that do not fit memory."
        )
    order, notes = check_compatible(
        model.description,
        image.path.name,
        overview(image),
        image.geometry,
        image.channels,
        accept,
    )
    for note in filter(None, [*image.notes, image.missing_note(), *notes]):
        tell(note)
    begun = DoneFile.open(output) if resume else None
    if begun is None and (output.exists() or beside(output).exists()):
        raise InputError(f"the output {output} exists already: name another, or delete it.")
    task = {
        "model": digest(model_path),
        "image": str(image.path.absolute()),
        "shape": list(image.shape),
        "region": None if region is None else [list(end) for end in region],
    }
    if begun is not None:
        begun.check(task, lambda key: WORDS[key])
        whole = _whole(begun.task["whole"])
        size = tuple(begun.task["tile"])
    else:
        whole = measure(image, model, tuple(order), replace_nonfinite, step)
        size = tile_size(ModelView(image, model, order), chunk_of(image.shape), memory)
    try:
        # The file comes first: a store without one has all its tiles.
        if begun is None:
            more = {"tile": list(size), "whole": asdict(whole)}
            begun = DoneFile.create(output, {**task, **more})
        if output.exists():
            store = open_label_store(output)
        else:
            version = image.version if isinstance(image, NgffVolume) else "0.5"
            segments = model.description.segments
            store = LabelStore.create(output, image.geometry, segments, version)
            if begun.done:  # of a store that is gone
                begun = DoneFile.create(output, begun.task)
    except OSError as error:
        raise EngineError(
            "files",
            f"{error.filename or output} cannot be written ({error.strerror or error}).",
            "Check the rights to write there, or name another output.",
        ) from error
    if not whole.exact:
        tell(
            f"{image.path.name} has more than {EXACT} voxels: its intensities were measured on "
            "chunks that are spread evenly over those that are stored."
        )
    tiles = tiles_of(image.shape, size, region)
    return Segmenting(model_path, image, store, tiles, whole, device, region, begun, tell)


def _whole(found: dict) -> WholeVolume:
    """The statistics in a task that was stored."""
    rows = {key: tuple(map(tuple, found[key])) for key in ("landmarks", "usual")}
    parts = {key: tuple(values) for key, values in found["normalisation"].items()}
    return WholeVolume(
        **{
            **found,
            **rows,
            "order": tuple(found["order"]),
            "normalisation": Normalisation(**parts),
        }
    )

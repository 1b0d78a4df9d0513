"""One tile of a large volume, predicted by a model and written: the unit of work.

It is a plain function of data that can be pickled, so any process on any machine that sees the
files can do it, in whatever order.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..annotation.composition import UNLABELLED
from ..annotation.geometry import Triple, triple
from ..engine.compute.memory import retry_smaller
from ..engine.data.preprocessing import Part, WorkingVolume
from ..engine.data.windows import applied, boxed, interpolation
from ..engine.prediction.inference import finish
from ..engine.prediction.model import Model
from ..errors import EngineError
from ..files.ngff_labels import LabelStore, open_label_store
from ..files.open_stored import open_stored
from ..files.stored_volume import StoredVolume
from .done_file import DoneFile
from .model_view import ModelView
from .tile_list import Tile
from .whole_volume import WholeVolume, usual_tensors

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
KEPT = "The tiles that are done stay; the same command with --resume goes on with the others."
Step = Callable[[float], None]


@lru_cache(maxsize=2)
def _loaded(path: str, device: str, changed: float) -> Model:
    return Model.load(Path(path), torch.device(device))


def load_model(path: Path | str, device: str) -> Model:
    """A model, read once per process as long as its file stays as it is.

    Raises:
        InputError: It is no model.
    """
    file = Path(path)
    return _loaded(str(file), device, file.stat().st_mtime if file.is_file() else 0.0)


def segment_tile(
    model_path: Path | str,
    image: StoredVolume | Path | str,
    tile: Tile,
    output: LabelStore | Path | str,
    whole: WholeVolume,
    device: str = "cpu",
    step: Step = lambda share: None,
    report: Callable[[str], None] = lambda text: None,
) -> Tile:
    """Predicts a tile and writes it.

    The labels are those that a prediction of the whole volume has there (`Model.probabilities_of`).

    Args:
        model_path: The model file.
        image: The volume, or its path.
        tile: The tile.
        output: The label image, or its path.
        whole: What was measured of the whole volume, the same for all tiles.
        device: Name of the device to compute on.
        step: Called with the share done; it may raise to stop.
        report: Called with a message where memory ran out and the network's tiles became smaller.

    Returns:
        The tile.

    Raises:
        InputError: The image or the model cannot be read.
        EngineError: 'out-of-memory', 'disk-full' or 'files'; nothing else than this tile is lost.
    """
    model = load_model(model_path, device)
    volume = image if isinstance(image, StoredVolume) else open_stored(image)
    store = output if isinstance(output, LabelStore) else open_label_store(output)

    try:
        labels = retry_smaller(
            lambda: predict_tile(volume, model, tile, whole, step),
            model.with_smaller_tiles,
            lambda said: report(f"memory ran out: the network now works on {said}."),
            torch.device(device),
            f"predicting tile {tile.number}",
        )
    except EngineError as error:
        raise EngineError(
            "out-of-memory",
            error.cause,
            "Close other programs and go on with --resume, or begin again with a smaller --memory.",
        ) from error
    write_tile(store, tile, labels)
    return tile


def predict_tile(
    image: StoredVolume,
    model: Model,
    tile: Tile,
    whole: WholeVolume,
    step: Step = lambda share: None,
) -> np.ndarray:
    """Predicts the labels of a tile, uint8 (k, j, i), on the image's own grid and axes.

    Args:
        image: The volume.
        model: The model.
        tile: The tile.
        whole: What was measured of the whole volume.
        step: Called with the share done; it may raise to stop.
    """
    view = ModelView(image, model, whole.order)
    low, high = view.turn.box(tile.low, tile.high, image.shape)
    # What the enlarged probabilities of the tile are made from, and what the model looks at for it.
    first, last, weights = boxed(low, high, view.grid, view.shape, interpolation)
    begin, end = model.reach(view.grid, first, last)
    pixels = view.box(begin, end, whole).to(model.device)
    ready = WorkingVolume(
        pixels,
        torch.full(pixels.shape[1:], UNLABELLED, dtype=torch.uint8, device=model.device),
        torch.tensor(view.grid_spacing, dtype=torch.float32),
        view.shape,
        part=Part(begin, view.grid, usual_tensors(whole)),
    )
    found = applied(model.probabilities_of(ready, first, last, step), weights)
    shape = triple(found.shape[1:])
    labels, _ = finish(found, shape)
    return view.turn.back(labels.numpy())


def write_tile(store: LabelStore, tile: Tile, labels: np.ndarray) -> None:
    """Writes the labels uint8 (k, j, i) of a tile.

    Raises:
        EngineError: 'disk-full' or 'files'.
    """
    try:
        store.write(tile.low, labels)
    except OSError as error:
        raise unwritten(error, store.path) from error


def finish_store(
    store: LabelStore, done: DoneFile, low: Triple, high: Triple, step: Callable[[float], object]
) -> None:
    """Makes the coarser levels of a store whose tiles are all written, and ends its list of tiles.

    Args:
        store: The store.
        done: Its list of the tiles that are written.
        low: First voxel (k, j, i) of what was written.
        high: Voxel after the last one.
        step: Called with the share done; it may raise to stop.

    Raises:
        EngineError: 'disk-full' or 'files'.
    """
    try:
        for share in store.pyramid(low, high):
            step(share)
        done.finish()
    except OSError as error:
        raise unwritten(error, store.path) from error


def unwritten(error: OSError, path: Path) -> EngineError:
    """The error that explains why a store could not be written."""
    if error.errno in FULL or getattr(error, "winerror", None) in (39, 112):
        return EngineError(
            "disk-full", f"the disk is full while {path} is written.", f"Free some space. {KEPT}"
        )
    return EngineError(
        "files",
        f"{error.filename or path} cannot be written ({error.strerror or error}).",
        f"Check the rights to write there. {KEPT}",
    )

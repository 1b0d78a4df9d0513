"""What a model of other volumes tells of a volume before anything is learnt from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import iou, nested
from small_models import geometry_of, small_model

from SparseSegNetLib.annotation.orientation import Turn
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.engine.data.inputs import Inputs
from SparseSegNetLib.engine.interaction.warm_start import predicted_by
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

CPU = torch.device("cpu")
SHAPE = (20, 24, 28)
LABELS = [Segment.numbered(1, 0), Segment.numbered(2, 1)]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.safetensors"
    small_model(None).save(path)
    return path


def prepared(path, orientation="LPS", segments=LABELS):
    """An annotated phantom as the inputs of a run, and its truth."""
    image, truth = nested(SHAPE, seed=5)
    turn = Turn.between("LPS", orientation)
    image, truth = (np.ascontiguousarray(turn.array(a)) for a in (image, truth))
    drawn = np.full(truth.shape, 255, np.uint8)
    drawn[9] = truth[9]
    item = RunInput(image[None], drawn, turn.geometry(geometry_of(SHAPE)))
    inputs = Inputs(RunFolder.create(path, [item], segments, Options()))
    inputs.prepare(False, lambda: None)
    return inputs, truth


def predicted(model, inputs, shape):
    """Probabilities on a grid, worked on as finely, and which segments the model knows."""
    found = predicted_by(model, inputs, 0, shape, np.prod(shape), CPU, lambda share: None)
    assert not found.partial
    return found.probabilities, found.known.flatten().tolist()


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SLA", "RAI"])
def test_it_lies_on_the_volumes_own_grid(model, tmp_path, orientation):
    inputs, truth = prepared(tmp_path / "run", orientation)
    found, known = predicted(model, inputs, truth.shape)
    assert known == [True, True] and found.shape == (3, *truth.shape)
    assert iou(found.float().argmax(dim=0).numpy(), truth) > 0.7
    assert torch.allclose(found.float().sum(dim=0), torch.ones(truth.shape), atol=2e-3)


def test_on_a_coarser_grid(model, tmp_path):
    inputs, truth = prepared(tmp_path / "run", "SLA")
    half = tuple(n // 2 for n in truth.shape)
    found, _ = predicted(model, inputs, half)
    assert found.shape == (3, *half)
    assert iou(found.float().argmax(dim=0).numpy(), truth[::2, ::2, ::2]) > 0.5


def test_a_coarser_grid_gets_the_means(model, tmp_path):
    """What the model says of the voxels within each is averaged, as the image is."""
    inputs, truth = prepared(tmp_path / "run", "SLA")
    half = tuple(n // 2 for n in truth.shape)
    fine, coarse = (
        predicted_by(model, inputs, 0, shape, 1e9, CPU, lambda share: None).probabilities.float()
        for shape in (truth.shape, half)
    )
    k, j, i = half
    means = fine.reshape(3, k, 2, j, 2, i, 2).mean(dim=(2, 4, 6))
    assert torch.allclose(coarse, means, atol=2e-3)


def test_segments_are_matched_by_name(model, tmp_path):
    segments = [replace(LABELS[1], name="label 2 "), replace(LABELS[0], name="Cyst")]
    inputs, truth = prepared(tmp_path / "run", segments=segments)
    found, known = predicted(model, inputs, SHAPE)
    assert known == [True, False] and not found[2].any()
    core = found[1].float().numpy() > 0.5
    assert (core & (truth == 2)).sum() / (core | (truth == 2)).sum() > 0.7


def test_what_does_not_fit_is_refused(model, tmp_path):
    inputs, _ = prepared(tmp_path / "a", segments=[replace(s, name=s.name * 2) for s in LABELS])
    with pytest.raises(InputError, match="knows none of the segments"):
        predicted(model, inputs, SHAPE)
    inputs, _ = prepared(tmp_path / "b")
    inputs.items[0].image = np.concatenate((inputs.items[0].image,) * 2)
    with pytest.raises(InputError, match="2 channels"):
        predicted(model, inputs, SHAPE)

"""Nodes as an external prior: segmentations, label maps, probabilities; and a run with one."""

import numpy as np
import pytest
import vtk
from described_models import write_model
from phantom import nested

from SparseSegNetLib.annotation.reference_geometry import PARAMETER
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.client import engine_run
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.scene import logic
from SparseSegNetLib.scene.prior_nodes import priorOf

NAMES = ["Name of Shell", "Name of Core"]
SEGMENTS = [Segment(n, n, (1, 0, 0), v) for v, n in enumerate(NAMES, start=1)]


@pytest.fixture
def volume(makeVolume):
    return makeVolume(nested((16, 18, 20))[0], seed=3, name="MR")


@pytest.fixture
def truth():
    return nested((16, 18, 20))[1]


def test_a_segmentation_by_name(volume, truth, makeSegmentation):
    """Dense, with its segments in another order."""
    node = makeSegmentation(volume, {"Core": truth == 2, "Other": truth == 0, "Shell": truth == 1})
    found = priorOf(node, volume, SEGMENTS)
    assert found.classes == (1, 2)
    for place in (0, 1):
        assert np.array_equal(found.probabilities[place], 255 * (truth == place + 1))
    assert "'Name of Shell' of Drawn" in found.notes[-1]


def test_probabilities_and_label_maps(volume, truth, makeVolume):
    share = (0.8 * (truth == 2)).astype(np.float32)
    named = makeVolume(share, seed=3, name="name of CORE ")
    found = priorOf([named], volume, SEGMENTS)
    assert found.classes == (2,)
    assert np.abs(found.probabilities[0] / 255 - share).max() < 0.003
    labels = makeVolume(truth, seed=3, name="labels", kind="vtkMRMLLabelMapVolumeNode")
    found = priorOf(labels, volume, SEGMENTS)
    assert found.classes == (1, 2)
    assert np.array_equal(found.probabilities[1], 255 * (truth == 2))


def box_of(volume, makeVolume, array, low, name, kind="vtkMRMLScalarVolumeNode"):
    """The box of a volume's grid that begins at `low` (k, j, i), with these values."""
    node = makeVolume(array, seed=3, name=name, kind=kind)
    to = np.zeros(4)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    matrix.MultiplyPoint((*low[::-1], 1), to)
    node.SetOrigin(*to[:3])
    return node


@pytest.mark.parametrize("kind", ["probability", "label map", "segmentation"])
def test_a_part_of_the_volume(volume, truth, makeVolume, makeSegmentation, kind):
    """Outside of its box it says nothing; in it what is not drawn is background."""
    low, high = (4, 6, 5), (12, 14, 16)
    box = tuple(map(slice, low, high))
    inside = np.zeros(truth.shape, bool)
    inside[box] = True
    part = np.ascontiguousarray(truth[box])
    if kind == "probability":
        node = box_of(volume, makeVolume, (part == 2).astype(np.float32), low, NAMES[1])
    elif kind == "label map":
        node = box_of(volume, makeVolume, part, low, "part", "vtkMRMLLabelMapVolumeNode")
    else:  # Slicer keeps what is drawn alone, in the middle of the box
        drawn = np.ascontiguousarray(truth[5:11, 6:14, 5:16])
        stored = box_of(volume, makeVolume, drawn, (5, 6, 5), "stored")
        node = makeSegmentation(stored, {"Core": drawn == 2}, "Box")
        crop = box_of(volume, makeVolume, part, low, "crop")
        node.SetReferenceImageGeometryParameterFromVolumeNode(crop)
        truth = np.zeros_like(truth)
        truth[5:11, 6:14, 5:16] = drawn
    found = priorOf(node, volume, SEGMENTS)
    core = found.classes.index(2)
    assert np.array_equal(found.known[core], inside)
    assert np.array_equal(found.probabilities[core], 255 * ((truth == 2) & inside))
    assert f"covers {100 * inside.mean():.3g} % of the image" in found.notes[-1]


def test_a_segmentation_without_reference_covers_everything(volume, truth, makeSegmentation):
    node = makeSegmentation(volume, {"Core": truth == 2})
    node.GetSegmentation().SetConversionParameter(PARAMETER, "")
    assert priorOf(node, volume, SEGMENTS).known is None


def test_what_is_refused(volume, makeVolume, makeSegmentation, truth):
    with pytest.raises(InputError, match=r"'MR'.*'Name of Shell', 'Name of Core'.*are called as"):
        priorOf(makeVolume(np.zeros((16, 18, 20), np.uint8), seed=3, name="MR"), volume, SEGMENTS)
    with pytest.raises(InputError, match="'nothing' cannot be a prior"):
        priorOf(None, volume, SEGMENTS)
    far = makeVolume(truth, seed=3, name=NAMES[0])
    far.SetOrigin(5000, 0, 0)
    with pytest.raises(InputError, match="like a label image"):
        priorOf(far, volume, SEGMENTS)
    far = makeVolume((truth > 0).astype(np.uint8), seed=3, name=NAMES[0])
    far.SetOrigin(5000, 0, 0)
    with pytest.raises(InputError, match="do not overlap"):
        priorOf(far, volume, SEGMENTS)


def test_a_run_gets_it(volume, truth, makeSegmentation):
    plane = np.zeros(truth.shape, bool)
    plane[8], plane[:, 9] = True, True
    drawn = makeSegmentation(
        volume, {"Shell": plane & (truth == 1), "Core": plane & (truth == 2)}, "Few"
    )
    dense = makeSegmentation(volume, {"Core": truth == 2}, "Last year")
    run = logic.densify(volume, drawn, maxSteps=2, prior=dense)
    given = RunFolder.open(run.folder).read_input()
    assert given.prior_classes == (2,)
    assert np.array_equal(given.prior[0], 255 * (truth == 2))
    assert any("Last year" in text and "does not know" in text for text in run.warnings)
    assert run.wait(60) == "done"


class TestStartFrom:
    @pytest.fixture(autouse=True)
    def standIn(self, monkeypatch):
        monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")

    @pytest.fixture
    def drawn(self, volume, truth, makeSegmentation):
        plane = np.zeros(truth.shape, bool)
        plane[8], plane[:, 9] = True, True
        masks = {"Shell": plane & (truth == 1), "Core": plane & (truth == 2)}
        return makeSegmentation(volume, masks, "Few")

    def test_beside_a_prior(self, volume, truth, drawn, makeSegmentation, tmp_path):
        known = [Segment("C", "name of core", (1, 0, 0), 1)]
        model = write_model(tmp_path / "m.safetensors", segments=known, scores=None)
        dense = makeSegmentation(volume, {"Core": truth == 2}, "Last year")
        run = logic.densify(volume, drawn, maxSteps=2, prior=dense, startFrom=str(model))
        folder = RunFolder.open(run.folder)
        assert folder.task == "densify" and folder.given_model.read_bytes() == model.read_bytes()
        assert folder.read_input().prior_classes == (2,)
        assert any("Name of Shell: not in the model" in text for text in run.warnings)
        assert run.wait(60) == "done", run.error

    def test_channels_in_the_models_order(self, volume, truth, drawn, makeVolume, tmp_path):
        other = makeVolume(truth.astype(np.int16), seed=3, name="T2")
        two = {"channels": ["T2", "MR"], "ranges": [(0.0, 3.0), (0.0, 200.0)]}
        known = [Segment("C", NAMES[1], (1, 0, 0), 1)]
        model = write_model(tmp_path / "m.safetensors", segments=known, scores=None, **two)
        run = logic.densify([volume, other], drawn, maxSteps=2, startFrom=model)
        given = RunFolder.open(run.folder).read_input()
        assert given.channels == ["T2", "MR"] and np.array_equal(given.image[0], truth)
        run.cancel()
        assert run.wait(60) == "cancelled"

    def test_what_is_refused(self, volume, drawn, tmp_path):
        folder = tmp_path / "run"
        other = write_model(tmp_path / "m.safetensors", segments=SEGMENTS)
        bone = [Segment("B", "Bone", (1, 0, 0), 1)]
        bones = write_model(tmp_path / "b.safetensors", segments=bone, scores=None)
        for model, options, words in (
            (tmp_path / "no.safetensors", {}, r"no\.safetensors"),
            (bones, {}, "knows Bone, and MR is annotated with Name of Shell, Name of Core"),
            (other, {"network": "unet3d"}, "unet3d takes no model to start from"),
            (other, {"prior": drawn}, "'Few' is annotated, and cannot be the prior"),
        ):
            with pytest.raises(InputError, match=words):
                logic.densify(volume, drawn, startFrom=model, runFolder=folder, **options)
            assert not folder.exists()

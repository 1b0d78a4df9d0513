"""Where the results of a model go: scene, folder, sequence."""

import os
import types

import numpy as np
import pytest
import slicer
import slicer.util
from described_models import write_model
from phantom import iou, nested

from SparseSegNetLib.client import engine_run
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.scene.annotated_pairs import annotatedPairs, sceneVolumes
from SparseSegNetLib.scene.model_use import segment
from SparseSegNetLib.scene.prediction_start import annotationFrom
from SparseSegNetLib.scene.scans import SceneScan, scansIn, writeNew
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.sequence_scans import scansOf

SHAPE = (20, 22, 24)


@pytest.fixture(autouse=True)
def standIn(monkeypatch):
    """The engine's, and of what Slicer's application adds to read files."""
    monkeypatch.setattr(engine_run, "WORKER", "stand_in_engine")

    def loader(kind, storageKind):
        def load(path, properties):
            node = slicer.mrmlScene.AddNewNodeByClass(kind, path.rpartition("/")[2])
            storage = getattr(slicer, storageKind)()
            storage.SetFileName(path)
            if not storage.ReadData(node):
                slicer.mrmlScene.RemoveNode(node)
                raise RuntimeError(path)
            return node

        return load

    for name, kind, storage in (
        ("loadVolume", "vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"),
        ("loadSegmentation", "vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    ):
        monkeypatch.setattr(slicer.util, name, loader(kind, storage), raising=False)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "nested.safetensors")


def dense(node, volume):
    segmentation = node.GetSegmentation()
    return mergedSegments(segmentation, list(segmentation.GetSegmentIDs()), volume)


def go(scan, model):
    run = segment(model, scan.open(), wait=True)
    scan.keep(run)
    scan.close()


def names(scene):
    return sorted(
        n.GetName()
        for kind in ("Volume", "Segmentation", "Sequence")
        for n in slicer.util.getNodesByClass(f"vtkMRML{kind}Node")
    )


def test_volumes_of_the_scene(scene, makeVolume, model):
    volume = makeVolume(nested(SHAPE)[0], name="MR", spacing=(0.8, 0.8, 1.2))
    scan = SceneScan([volume])
    go(scan, model)
    shown, result = scan.shown()
    assert shown is volume and not result.GetDisplayNode().GetVisibility()
    assert sceneVolumes() == [volume] and annotatedPairs() == [], "a result is no annotation"
    node = annotationFrom(result, volume, "MR drawn")
    (pair,) = annotatedPairs()
    assert pair.segmentation is node and pair.volume is volume and pair.slices == 0
    scene.RemoveNode(volume)
    with pytest.raises(InputError, match="'MR' is no longer in the scene"):
        scan.open()


def test_files_of_a_folder(scene, makeVolume, model, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for n, name in enumerate(("b.nrrd", "a.nii.gz")):
        node = makeVolume(nested(SHAPE, seed=n)[0], name=name, spacing=(0.8, 0.8, 1.2))
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(folder / name))
        assert storage.WriteData(node)
        scene.RemoveNode(node)
    (folder / "notes.txt").write_text("none")
    (folder / "broken.nrrd").write_text("none")
    (folder / "b.seg.nrrd").write_text("mine")
    before = names(scene)
    scans = scansIn(folder)
    assert [(s.name, s.done) for s in scans] == [
        ("a.nii.gz", False),
        ("b.nrrd", True),
        ("broken.nrrd", False),
    ]
    go(scans[0], model)
    assert names(scene) == before, "nothing stays in the scene"
    assert sorted(p.name for p in folder.iterdir()) == [
        "a.nii.gz",
        "a.seg.nrrd",
        "b.nrrd",
        "b.seg.nrrd",
        "broken.nrrd",
        "notes.txt",
    ]
    with pytest.raises(InputError, match="not replaced"):
        scans[1].open()
    assert (folder / "b.seg.nrrd").read_text(encoding="utf-8") == "mine"
    with pytest.raises(InputError, match=r"broken.nrrd cannot be read"):
        scans[2].open()
    volume, result = scans[0].shown()
    assert iou(dense(result, volume), nested(SHAPE, seed=1)[1]) > 0.5
    assert scans[0].shown() == (volume, result), "they are loaded once"
    # A file that comes while the engine computes is not replaced either.
    (folder / "a.seg.nrrd").unlink()
    fresh = scansIn(folder)[0]
    run = segment(model, fresh.open(), wait=True)
    (folder / "a.seg.nrrd").write_text("theirs")
    with pytest.raises(InputError, match="has come meanwhile"):
        fresh.keep(run)
    assert (folder / "a.seg.nrrd").read_text(encoding="utf-8") == "theirs"
    assert not list(folder.glob(".writing*"))
    with pytest.raises(InputError, match="cannot be read"):
        scansIn(tmp_path / "nowhere")


@pytest.fixture
def sequence(scene, makeVolume):
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
    node.SetIndexName("time")
    node.SetIndexUnit("s")
    for n in range(3):
        volume = makeVolume(nested(SHAPE, seed=n)[0], name="frame", spacing=(0.8, 0.8, 1.2))
        node.SetDataNodeAtValue(volume, str(n))
        scene.RemoveNode(volume)
    return node


def test_a_sequence_becomes_one_of_segmentations(scene, sequence, model, monkeypatch):
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    monkeypatch.setattr(
        slicer.modules, "sequences", types.SimpleNamespace(logic=lambda: logic), raising=False
    )
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(sequence)
    scans = scansOf(sequence)
    assert [s.name for s in scans] == ["Heart 0 s", "Heart 1 s", "Heart 2 s"]
    for scan in scans[:2]:
        go(scan, model)
    made = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[1]
    assert made.GetName() == "Heart segmentation" and made.GetNumberOfDataNodes() == 2
    assert annotatedPairs() == [], "what the browser shows of it is no annotation"
    assert made.GetIndexName() == "time" and made.GetNthIndexValue(1) == "1"
    assert browser.IsSynchronizedSequenceNode(made, True)
    volume, result = scans[1].shown()
    assert iou(dense(result, volume), nested(SHAPE, seed=1)[1]) > 0.5
    assert np.array_equal(slicer.util.arrayFromVolume(volume), nested(SHAPE, seed=1)[0])


def test_without_the_sequences_module_each_image_gets_a_node(scene, sequence, model):
    scans = scansOf(sequence)
    go(scans[0], model)
    volume, result = scans[0].shown()
    assert result.GetName() == "Heart 0 s segmentation" and volume.GetName() == "Heart 0 s"
    assert iou(dense(result, volume), nested(SHAPE, seed=0)[1]) > 0.5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
def test_a_file_that_a_full_disk_cuts_off_is_no_result(makeVolume, makeSegmentation, tmp_path):
    """Slicer's writer says nothing of the last bytes."""
    import resource

    drawn = np.random.default_rng(0).random(SHAPE) < 0.5
    node = makeSegmentation(makeVolume(drawn.astype(np.int16)), {"A": drawn})
    path = tmp_path / "a.seg.nrrd"
    writeNew(node, path)
    size = path.stat().st_size
    path.unlink()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for most in (0, 100, size - 100, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with pytest.raises(InputError, match=r"a\.seg\.nrrd cannot be written: is there space"):
                writeNew(node, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert not list(tmp_path.iterdir())

"""Training on two volumes and use of the model on a third, with the real engine."""

import numpy as np
from phantom import iou, nested

from SparseSegNetLib.scene.model_use import doubt, segment
from SparseSegNetLib.scene.segmentations import mergedSegments
from SparseSegNetLib.scene.training_set import train

SHAPE = (24, 26, 28)


def test_from_two_volumes_to_a_third(makeVolume, makeSegmentation, tmp_path):
    pairs = []
    for n in (0, 1):
        image, truth = nested(SHAPE, seed=n)
        volume = makeVolume(image, name=f"MR {n}", spacing=(0.8, 0.8, 1.2))
        drawn = np.zeros(SHAPE, bool)
        drawn[[7, 12, 17]] = True
        drawn[:, [9, 14]] = True
        masks = {"Shell": drawn & (truth == 1), "Core": drawn & (truth == 2)}
        pairs.append((volume, makeSegmentation(volume, masks, name=f"Drawn {n}")))
    run = train(pairs, maxSteps=20, device="cpu", wait=True)
    assert run.state == "done", run.error
    model = run.saveModel(tmp_path / "nested.safetensors")
    image, truth = nested(SHAPE, seed=7)
    other = makeVolume(image, name="MR new", spacing=(0.8, 0.8, 1.2))
    for given in (model, run):
        used = segment(given, other, device="cpu", wait=True)
        assert used.state == "done", used.error
        segmentation = used.result.GetSegmentation()
        found = mergedSegments(segmentation, list(segmentation.GetSegmentIDs()), other)
        assert iou(found, truth) > 0.6
        assert 0 < doubt(used) < 1

"""Small models of each kind, untrained or fitted in a second."""

from dataclasses import replace

import numpy as np
import torch
from phantom import nested

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.engine.data.intensity_standard import IntensityStandard
from SparseSegNetLib.engine.data.preprocessing import working_volume
from SparseSegNetLib.engine.networks import build
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.auto_plan import make_plan
from SparseSegNetLib.engine.planning.recipes import published_plan
from SparseSegNetLib.engine.prediction.model import Model
from SparseSegNetLib.engine.stacking.image_classifier import fit_image_classifiers, labelled_rows
from SparseSegNetLib.runfolder.model_description import ModelDescription, Score, TrainingCase
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.run_input import RunInput

SHAPE = (20, 22, 24)


def geometry_of(shape, spacing=(1.0, 1.0, 1.0)):
    size = tuple(reversed(shape))
    return Geometry(size, spacing, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def described(segments=2, channels=1, modality="other", spacing=(1.0, 1.0, 1.0)):
    """A description, as of a model that was trained on two volumes."""
    case = TrainingCase("scan 1", SHAPE[::-1], spacing, 3, 900, ("Shell", "Kern, größer"))
    return ModelDescription(
        "kidney",
        "2026-11-26T12:00:00+00:00",
        [Segment.numbered(n, n - 1) for n in range(1, segments + 1)],
        [f"T{n}" for n in range(1, channels + 1)],
        modality,
        [(0.0, 200.0)] * channels,
        spacing,
        "LPS",
        [case, replace(case, name="scan 2")],
        [Score(0.8, 0.9, 100)] * segments,
        "on the annotated slices of scan 2",
        30.0,
        100,
        0,
        {"torch": torch.__version__},
    )


def small_model(network="auto", shallow=True):
    """A model for the phantom: an untrained network (None for none), a fitted shallow model."""
    image, truth = nested(SHAPE)
    item = RunInput(image[None], truth, geometry_of(SHAPE))
    intensities = IntensityStandard.measure([item.image])
    classifier = plan = net = None
    if shallow:
        normalisation = intensities.normalisation_of(item.image)
        volume = working_volume(item, SHAPE, normalisation, torch.device("cpu"))
        rows = labelled_rows(volume, volume.labels, 0, most=3000)
        classifier, _, _ = fit_image_classifiers([rows], 3, [()], 1, 0, seconds=0.0)
    if network is not None:
        torch.manual_seed(0)
        fingerprint = Fingerprint(SHAPE, (1.0, 1.0, 1.0), 1, 3, 900, 3, 2)
        plan = (
            replace(make_plan(fingerprint, width=4), position=False)
            if network == "auto"
            else published_plan(fingerprint, Options(network=network, width=2))
        )
        net = build(plan, 1, 3).eval()
    return Model(
        described(),
        intensities,
        False,
        plan,
        net,
        classifier,
        0.5 if classifier is not None else 1.0,
        ("i", "k") if network == "unet2d" else (),
    )


def new_volume(seed=7):
    """Another phantom as a working volume, normalised by itself, and its truth."""
    image, truth = nested(SHAPE, seed)
    item = RunInput(image[None], np.full(SHAPE, 255, np.uint8), geometry_of(SHAPE))
    standard = IntensityStandard.measure([item.image])
    normalisation = standard.normalisation_of(item.image)
    return working_volume(item, SHAPE, normalisation, torch.device("cpu")), truth

"""A MRML scene with the logics that Slicer's application gives it."""

import types

import numpy as np
import slicer


def sceneWithLogics():
    """A scene, what stands in for `slicer.modules` with the logics that slicer.util calls, and the
    application's logic, which is to be kept as long as the scene."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
    segmentations.SetMRMLScene(scene)
    volumes = slicer.vtkSlicerVolumesLogic()
    volumes.SetMRMLScene(scene)
    return (
        scene,
        types.SimpleNamespace(
            segmentations=types.SimpleNamespace(logic=lambda: segmentations),
            volumes=types.SimpleNamespace(logic=lambda: volumes),
        ),
        application,
    )


def rotation(seed: int, leftHanded: bool = False) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    if (np.linalg.det(turn) < 0) != leftHanded:
        turn[:, 0] *= -1
    return turn

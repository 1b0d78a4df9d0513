"""Whether a model fits an image: what would silently go wrong is refused, with a choice."""

from dataclasses import replace

import numpy as np
import pytest

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.compatibility import check_compatible
from SparseSegNetLib.runfolder.model_description import ModelDescription, TrainingCase

MODEL = ModelDescription(
    "organs",
    "2026-01-01T00:00:00+00:00",
    [Segment("Segment_1", "organ", (1.0, 0.0, 0.0), 1)],
    ["a_t1.nii.gz", "a_t2.nii.gz"],
    "other",
    [(0.0, 500.0), (0.0, 500.0)],
    (1.0, 1.0, 2.0),
    "LPS",
    [
        TrainingCase("a", (9, 8, 7), (1.0, 1.0, 2.0), 3, 100, ("organ",)),
        TrainingCase("b", (9, 8, 7), (0.8, 0.8, 2.5), 3, 100, ("organ",)),
    ],
)
CHANNELS = ["b_t1.nii", "b_t2.nii"]
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MR = np.random.default_rng(0).gamma(2, 100, (2, 7, 8, 9))
CT = np.where(MR > 200, -900.0, 40.0)


def grid(spacing=(1.0, 1.0, 2.0), directions=IDENTITY):
    return Geometry((9, 8, 7), spacing, (0.0, 0.0, 0.0), directions)


def about_z(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def check(image=MR, geometry=None, channels=CHANNELS, accept=(), model=MODEL):
    return check_compatible(model, "scan", image, geometry or grid(), channels, accept)


def test_an_image_like_the_training_set_passes_without_a_word():
    assert check() == ([0, 1], [])
    assert check(geometry=grid(directions=about_z(20))) == ([0, 1], [])


def test_channels_are_taken_by_name_or_in_order():
    assert check(channels=CHANNELS[::-1]) == (
        [1, 0],
        [
            "scan: the channels are taken by their names: b_t1.nii as a_t1.nii.gz, "
            "b_t2.nii as a_t2.nii.gz."
        ],
    )
    order, (note,) = check(channels=["x", "y"])
    assert order == [0, 1] and "in their order: x as a_t1.nii.gz" in note


def test_another_number_of_channels():
    with pytest.raises(InputError, match=r"scan has 1 channel and the model needs 2 \(a_t1"):
        check(MR[:1], channels=["t1"], accept=["intensities"])


def test_a_missing_channel():
    with pytest.raises(InputError, match=r"a channel like a_t1\.nii\.gz.*--accept intensities"):
        check(channels=["b_t2.nii", "b_flair.nii"])
    order, (note,) = check(channels=["b_t2.nii", "b_flair.nii"], accept=["intensities"])
    assert order == [0, 1] and "accepted" in note


def test_spacing_is_compared_with_all_of_the_training_set():
    assert check(geometry=grid((0.6, 0.6, 3.5)))[1] == []
    with pytest.raises(InputError, match=r"spacing of 1x1x4 mm, 1.6 times off .*--accept spacing"):
        check(geometry=grid((1.0, 1.0, 4.0)))
    with pytest.raises(InputError, match=r"1.6 times off"):
        check(geometry=grid((0.5, 1.0, 2.0)))
    assert "accepted" in check(geometry=grid((1.0, 1.0, 4.0)), accept=["spacing"])[1][0]


def test_axes_in_another_order_are_turned_before_spacings_are_compared():
    sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # i along P, j along S, k along L
    _, (note,) = check(geometry=grid((1.0, 2.0, 1.0), sagittal))
    assert "orientation PSL and is turned to the model's, LPS" in note
    with pytest.raises(InputError, match="spacing of 2x1x1 mm"):
        check(geometry=grid((1.0, 1.0, 2.0), sagittal))


def test_axes_between_two_directions():
    with pytest.raises(InputError, match=r"44 degrees off .*--accept orientation"):
        check(geometry=grid(directions=about_z(44)))
    assert "accepted" in check(geometry=grid(directions=about_z(44)), accept=["orientation"])[1][0]


def test_ct_and_other_images():
    with pytest.raises(InputError, match=r"holds Hounsfield units.*--accept intensities"):
        check(CT)
    ct = replace(MODEL, modality="ct")
    assert check(CT, model=ct) == ([0, 1], [])
    with pytest.raises(InputError, match="does not hold Hounsfield units"):
        check(model=ct)
    assert "accepted" in check(model=ct, accept=["intensities"])[1][0]


def test_what_cannot_be_accepted():
    with pytest.raises(InputError, match="'channels' cannot be accepted: choose spacing"):
        check(accept=["channels"])

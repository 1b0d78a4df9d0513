"""Images that are turned though their header does not say so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from model_files import DESCRIPTION

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.turned_content import (
    EDGE,
    TURNS,
    ContentOrientation,
    thumbnail,
)
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.compatibility import check_compatible
from SparseSegNetLib.runfolder.model_description import ModelDescription

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
IDENTITY = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def lopsided(seed, shape=(30, 34, 38)):
    """Noise over a structure that looks different from all sides."""
    k, j, i = (x / n for x, n in zip(np.indices(shape), shape, strict=True))
    image = 100 * (k < 0.3) + 60 * ((j < 0.4) & (k > 0.5)) + 80 * ((i < 0.25) & (j > 0.6))
    return image + np.random.default_rng(seed).normal(0, 15, shape)


@pytest.fixture(scope="module")
def content():
    return ContentOrientation.measure([lopsided(n) for n in range(3)])


def test_every_turn_of_a_lopsided_structure_is_told(content):
    assert len(content.turns) == len(TURNS) == 47
    image = lopsided(9)
    assert content.turned(image) is None
    for turn in TURNS:
        assert content.turned(turn.array(image)) == turn.inverse


def test_of_what_looks_alike_nothing_is_said():
    ball = np.indices((20, 20, 20)) - 9.5
    image = 100.0 * ((ball**2).sum(axis=0) < 50)
    noisy = [image + np.random.default_rng(n).normal(0, 5, image.shape) for n in range(3)]
    assert ContentOrientation.measure(noisy) is None
    texture = [np.random.default_rng(n).normal(0, 5, (20, 22, 24)) for n in range(3)]
    assert ContentOrientation.measure(texture) is None
    assert ContentOrientation.measure([lopsided(0)]) is None


def test_mirrored_halves_are_not_told_apart():
    """A structure that is symmetric along i: mirrors of i are no reason to refuse."""
    images = [lopsided(n) for n in range(3)]
    found = ContentOrientation.measure([image + image[:, :, ::-1] for image in images])
    mirror = next(
        n
        for n, t in enumerate(TURNS)
        if t.order == (0, 1, 2) and t.reversed == (False, False, True)
    )
    assert mirror not in found.turns and len(found.turns) > 20


def test_thumbnails_of_any_size():
    for shape in ((1, 1, 1), (2, 50, 3), (EDGE, EDGE, EDGE), (13, 25, 37)):
        found = thumbnail(np.random.default_rng(0).normal(0, 1, shape))
        assert found.shape == (EDGE,) * 3 and np.isfinite(found).all()
    assert np.allclose(thumbnail(np.zeros((5, 5, 5))), 0)


def test_the_model_refuses_with_a_choice(content):
    model = replace(DESCRIPTION, content=content)
    assert ModelDescription.from_json(model.to_json()) == model
    image = lopsided(9)

    def check(image, accept=()):
        grid = Geometry(image.shape[::-1], (1.0, 1.0, 2.0), (0, 0, 0), IDENTITY)
        return check_compatible(model, "scan.nrrd", image[None], grid, ["a"], accept)

    check(image)
    turned = np.rot90(image, axes=(1, 2))
    with pytest.raises(InputError, match=r"scan\.nrrd looks turned .* --accept orientation"):
        check(turned)
    _, notes = check(turned, ["orientation"])
    assert "looks turned" in notes[0] and "j, i, k" in notes[0].replace("-", "")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the development volumes are not at {DATA}")
@pytest.mark.parametrize("family", ["hippocampus", "braintumour-flair"])
def test_real_volumes_pass_as_they_are(family):
    paths = sorted(DATA.glob(f"{family}*-image.nrrd"))
    images = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths]
    for number, image in enumerate(images):
        others = images[:number] + images[number + 1 :]
        found = ContentOrientation.measure(others)
        assert found is None or found.turned(image) is None, paths[number].name

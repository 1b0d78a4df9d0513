"""The module's self test. Unit/test_install.py runs this from an installed tree."""

import pytest
import slicer

import SparseSegNetLib

pytestmark = pytest.mark.full_engine


def test_the_self_test(slicerApplication):
    import SparseSegNet

    assert SparseSegNet.__file__.startswith(
        SparseSegNetLib.__file__.partition("SparseSegNetLib")[0]
    )
    test = SparseSegNet.SparseSegNetTest()
    test.runTest()
    assert slicer.mrmlScene.GetFirstNodeByName("SparseSegNet kidney drawn dense") is not None

"""The benchmarks' own reading of what is asked for."""

import argparse

import pytest

from cases import slice_counts


def test_numbers_of_slices():
    assert slice_counts("5,5,3") == (5, 5, 3)
    assert slice_counts("0, 0, 1") == (0, 0, 1)


@pytest.mark.parametrize("text", ["5,5", "5,5,3,1", "a,b,c", "5,-5,3", "0,0,0", "1.5,1,1", ""])
def test_anything_else_is_refused_with_the_remedy(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"three numbers \(yz,xz,xy\)"):
        slice_counts(text)

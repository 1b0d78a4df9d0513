"""What several volumes have in common: classes by name or terminology, channels by their names."""

import numpy as np
import pytest

from SparseSegNetLib.annotation.channel_order import channel_order, missing_channel
from SparseSegNetLib.annotation.hounsfield import looks_like_ct
from SparseSegNetLib.annotation.merging import matching, merge_segments, renumbered
from SparseSegNetLib.annotation.segments import PALETTE, Segment
from SparseSegNetLib.annotation.uncertain import uncertain_share
from SparseSegNetLib.errors import InputError

TISSUE = "Category~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Regions~^^~^^"


def coded(code, side=""):
    """Slicer's terminology of an organ."""
    return f"Category~SCT^123037004^Structure~SCT^{code}^Organ~SCT^{side}^~Regions~^^~^^"


def segments(*names, terminology=(), value=1):
    codes = [*terminology, *[""] * len(names)]
    return [
        Segment(
            f"Segment_{n + 1}",
            name,
            PALETTE[n],
            value + n,
            {"TerminologyEntry": codes[n]} if codes[n] else {},
        )
        for n, name in enumerate(names)
    ]


def test_classes_are_merged_by_name():
    merged = merge_segments(
        [("a", segments("Liver", "tumour")), ("b", segments(" TUMOUR ", "spleen", "liver"))]
    )
    assert [s.name for s in merged.segments] == ["Liver", "tumour", "spleen"]
    assert merged.numbers == [[1, 2], [2, 3, 1]]
    assert merged.classes(0) == (1, 2) and merged.classes(1) is None


def test_new_classes_get_identifiers_values_and_colours_of_their_own():
    merged = merge_segments([("a", segments("x", "y")), ("b", segments("z", "x"))])
    for own in ("id", "value", "color"):
        assert len({getattr(s, own) for s in merged.segments}) == 3
    kept = merge_segments([("a", segments("x", value=7)), ("b", segments("x", "y", value=4))])
    assert [s.value for s in kept.segments] == [7, 5]


def test_then_by_terminology():
    one = segments("Leber", "Milz", terminology=[coded("10200004"), coded("78961009")])
    two = segments("spleen", "liver", terminology=[coded("78961009"), coded("10200004")])
    assert merge_segments([("a", one), ("b", two)]).numbers == [[1, 2], [2, 1]]


def test_a_name_counts_more_than_terminology():
    one = segments("a", "b", terminology=[coded("1"), coded("2")])
    two = segments("x", "a", terminology=[coded("1"), coded("3")])
    assert merge_segments([("a", one), ("b", two)]).numbers == [[1, 2], [3, 1]]


def test_what_slicer_writes_for_every_segment_tells_nothing():
    one = segments("x", "common", terminology=[TISSUE])
    two = segments("common", "y", terminology=["", TISSUE])
    assert merge_segments([("a", one), ("b", two)]).numbers == [[1, 2], [2, 3]]


def test_neither_does_terminology_of_two_segments_nor_that_of_the_other_side():
    left, right = coded("64033007", "7771000"), coded("64033007", "24028007")
    one = segments("c", "left", terminology=["", left])
    two = segments("c", "rechts", terminology=["", right])
    assert merge_segments([("a", one), ("b", two)]).numbers == [[1, 2], [1, 3]]
    same = segments("c", "lobe 1", "lobe 2", terminology=["", left, left])
    other = segments("c", "lappen", terminology=["", left])
    assert merge_segments([("a", same), ("b", other)]).numbers == [[1, 2, 3], [1, 4]]


def test_segments_of_one_case_stay_apart():
    merged = merge_segments([("a", segments("x", "x")), ("b", segments("X"))])
    assert merged.numbers == [[1, 2], [1]]
    assert matching(segments("x"), segments("x", "x")) == [1, 0]


def test_no_class_in_common():
    with pytest.raises(InputError, match=r"no class in common \(a: x, y; b: z\)"):
        merge_segments([("a", segments("x", "y")), ("b", segments("z")), ("c", [])])
    assert merge_segments([("a", segments("x")), ("b", [])]).numbers == [[1], []]
    assert merge_segments([("a", [])]).segments == []


def test_too_many_classes():
    many = [Segment(f"s{n}", f"n{n}", (0, 0, 0), n + 1) for n in range(250)]
    with pytest.raises(InputError, match="at most"):
        merge_segments([("a", many), ("b", [many[0], *segments(*map(str, range(9)))])])


def test_labels_take_the_merged_numbers():
    labels = np.array([[[0, 1, 2, 255]]], np.uint8)
    found = renumbered(labels, [3, 1])
    assert found.dtype == np.uint8 and found.tolist() == [[[0, 3, 1, 255]]]


@pytest.mark.parametrize(
    ("wanted", "given", "order"),
    [
        (["case1_t1.nii.gz", "case1_t2.nii.gz"], ["p7-T2", "p7-T1"], [1, 0]),
        (["t1.nrrd", "t2.nrrd"], ["x_T1w.nii", "x_t2w.nii"], [0, 1]),
        (["a_0000.nii.gz", "a_0001.nii.gz"], ["b_0001.nii.gz", "b_0000.nii.gz"], [1, 0]),
        (["v.nii.gz[0]", "v.nii.gz[1]"], ["w.nrrd[0]", "w.nrrd[1]"], [0, 1]),
        (["t1_pre", "t1_post", "t2"], ["q-t2", "q-t1-post", "q-t1-pre"], [2, 1, 0]),
        (["t1", "t2", "map"], ["unnamed", "t2", "t1"], [2, 1, 0]),
        (["t1", "t2", "flair"], ["adc", "t2", "t1"], None),
        (["t1", "t2"], ["t2", "flair"], None),
        (["t1", "t2"], ["image", "other"], None),
        (["t1", "t2"], ["t1", "t1"], None),
        (["t1"], ["t1", "t2"], None),
        (["anything"], ["other"], [0]),
    ],
)
def test_channels_are_ordered_by_what_tells_them_apart(wanted, given, order):
    assert channel_order(wanted, given) == order


def test_a_missing_channel_is_told_by_known_kinds_of_image():
    assert missing_channel(["a_t1.nii", "a_t2.nii"], ["b_t2w.nii", "b_FLAIR.nii"]) == "a_t1.nii"
    assert missing_channel(["a_flair.nii"], ["b_T1ce.nii"]) == "a_flair.nii"
    assert missing_channel(["a_t1.nii", "a_t2.nii"], ["b_t2.nii", "b_t1.nii"]) is None
    assert missing_channel(["a_t1.nii"], ["scan.nii"]) is None
    assert missing_channel(["scan.nii"], ["a_t1.nii"]) is None
    assert missing_channel(["a_t1.nii"], ["flair_on_t1.nii"]) is None


def body(rng, shape=(20, 30, 40)):
    """A CT: air around soft tissue with bone in it."""
    image = np.full(shape, -1000.0)
    image[:, 5:25, 5:35] = 40
    image[:, 10:14, 10:20] = 900
    return (image + rng.normal(0, 15, shape)).astype(np.int16)


def test_ct_is_told_by_its_values():
    rng = np.random.default_rng(0)
    ct = body(rng)
    padded = ct.copy()
    padded[:, :, :3] = -3024
    abdomen = np.where(rng.random((20, 20, 20)) < 0.3, -100, 50) + rng.normal(0, 10, (20, 20, 20))
    for image in (ct, padded, abdomen, ct.astype(np.float32)):
        assert looks_like_ct(image[None])
    assert looks_like_ct(np.stack([ct, ct]))


def test_other_values_are_no_ct():
    rng = np.random.default_rng(0)
    ct = body(rng)
    mr = rng.gamma(2, 150, (20, 30, 40))
    for image in (
        mr,
        (mr - mr.mean()) / mr.std(),
        rng.uniform(-4096, 4096, (20, 20, 20)),  # phase
        np.clip(ct, 0, 255).astype(np.uint8),
        ct.astype(np.int32) + 1024,
        np.zeros((3, 3, 3)),
        np.full((3, 3, 3), -3024),
    ):
        assert not looks_like_ct(image[None])
    assert not looks_like_ct(np.stack([ct, mr]))


def test_the_share_that_is_uncertain():
    labels = np.array([[[0, 1, 1, 2, 0, 0]]], np.uint8)
    uncertainty = np.array([[[0, 0, 128, 255, 200, 127]]], np.uint8)
    assert uncertain_share(labels, uncertainty) == 3 / 4
    nothing = np.zeros((2, 2, 2), np.uint8)
    assert uncertain_share(nothing, nothing) is None

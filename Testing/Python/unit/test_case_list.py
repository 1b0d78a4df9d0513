"""Lists of volumes in CSV files, as people and Excel write them."""

import pytest

from SparseSegNetLib.cli.case_list import read_list
from SparseSegNetLib.errors import InputError

FILES = ("a.nrrd", "b.nii.gz", "a2.nrrd", "a-labels.nrrd", "b.seg.nrrd")


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def read(folder, text, needed=("image", "labels"), encoding="utf-8", **settings):
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return read_list(path, needed, **settings)


def refused(folder, text, said, **settings):
    with pytest.raises(InputError, match=said) as told:
        read(folder, text, **settings)
    assert "cases.csv" in str(told.value)


def test_rows_with_all_columns(folder):
    first, second = read(
        folder,
        "name, image ,labels,slices,age\n"
        'one,a.nrrd; a2.nrrd,a-labels.nrrd,"k:10,20 i:5",44\n\n'
        ",b.nii.gz,,none,\n",
    )
    assert first.images == [folder / "a.nrrd", folder / "a2.nrrd"]
    assert (first.labels, first.slices, first.name) == (
        folder / "a-labels.nrrd",
        "k:10,20 i:5",
        "one",
    )
    assert (second.line, second.name, second.labels, second.slices) == (4, "b", None, "none")
    assert second.where.endswith("cases.csv, line 4")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_ends_of_lines(folder, encoding, end):
    text = f"IMAGE,Labels,name{end}a.nrrd,a-labels.nrrd,Jürgen{end}"
    (row,) = read(folder, text, encoding=encoding)
    assert row.name == "Jürgen"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the column 'image'"),
        ("image,labels\n", "names no volume"),
        ("image;labels;name\na.nrrd;a-labels.nrrd;x\n", "separated by ';', as Excel"),
        ("image\tlabels\na.nrrd\ta-labels.nrrd\n", "separated by tabs"),
        ("image,labelz\na.nrrd,a-labels.nrrd\n", "'labelz'.*is 'labels' meant"),
        ("image,label\na.nrrd,a-labels.nrrd\n", "is 'labels' meant"),
        ("image,image2,labels\na.nrrd,a2.nrrd,a-labels.nrrd\n", "'image2'.*separated by ';'"),
        ("image,labels,slice\na.nrrd,a-labels.nrrd,k:1\n", "is 'slices' meant"),
        ("image,image,labels\na.nrrd,a2.nrrd,a-labels.nrrd\n", "two columns 'image'"),
        ("scan,labels\na.nrrd,a-labels.nrrd\n", "lacks the column 'image'"),
        ("image,labels,slices\na.nrrd,a-labels.nrrd,k:1,2\n", "line 2: it has 4 fields.*quotes"),
        ("image,labels\n,a-labels.nrrd\n", "line 2: it names no image"),
        (
            "image,labels\na.nrrd,a-labels.nrrd\nz.nrrd,b.seg.nrrd\nb.nii.gz,y.nrrd\n",
            r"line 3: the image .*z\.nrrd does not exist.*missing in line 4 too",
        ),
        ("image,labels\na.nrrd,z.nrrd\n", "line 2: the labels .* do not exist"),
        ("image,labels\na.nrrd,\n\n./a.nrrd,\n", r"lines 2 and 4: the file .*a\.nrrd stands"),
        ("image,labels\na.nrrd;a2.nrrd,\nb.nii.gz;a2.nrrd,\n", "lines 2 and 3: the file"),
        ("image,labels\na.nrrd,a.nrrd\n", "line 2: the file"),
        (
            "image,labels,name\na.nrrd,,x\nb.nii.gz,,X\n",
            "lines 2 and 3: both volumes have the name",
        ),
        ("image,labels,name\na.nrrd,,x/y\n", "line 2: 'x/y' cannot be the name of a file"),
        ("image,labels,name\na.nrrd,,..\n", r"line 2: '\.\.' cannot be"),
        ('image,labels\n"a.nrrd,a-labels.nrrd\n', "cannot be read"),
        ("image,labels\n\0,\n", "UTF-16"),
        ("image,labels\n" + "a" * 5000 + ".nrrd,\n", "line 2: the image .* does not exist"),
    ],
)
def test_what_is_refused(folder, text, said):
    refused(folder, text, said)


def test_other_encodings(folder):
    text = "image,labels,name\na.nrrd,a-labels.nrrd,Jürgen\n"
    refused(folder, text, "in UTF-16.*CSV UTF-8", encoding="utf-16")
    refused(folder, text, "line 2 is not in UTF-8", encoding="cp1252")
    refused(folder, "PK\x03\x04 and so on", "is a workbook")


def test_a_list_that_is_none(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_list(path, ("image",))


def test_other_columns(folder):
    (row,) = read(folder, "image\na.nrrd\n", ("image",), known=("image", "name"))
    assert row.name == "a" and row.labels is None


def test_names_that_would_be_the_same_file(folder):
    (folder / "p1").mkdir()
    (folder / "p1" / "a.nrrd").touch()
    refused(folder, "image,labels\na.nrrd,\np1/a.nrrd,\n", "lines 2 and 3: .*column name")

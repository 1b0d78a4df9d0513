"""Volumes that are read in boxes: OME-Zarr, raw NRRD and MetaImage, .npy; and what is refused."""

import json
import pickle
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("zarr")
import zarr
from zarr_stores import axes, write_store

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.cli.cluster.dask_library import distributed_library
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.files import ngff_labels
from SparseSegNetLib.files.images import geometry_of, read_volume
from SparseSegNetLib.files.ngff_labels import LabelStore, majority, open_label_store
from SparseSegNetLib.files.open_stored import open_stored
from SparseSegNetLib.files.zarr_library import zarr_library

SHAPE = (10, 12, 20)
IMAGE = np.random.default_rng(0).integers(1, 1000, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_in_millimetres(tmp_path, version):
    store = write_store(
        tmp_path / "a.ome.zarr",
        IMAGE,
        IMAGE[::2, ::2, ::2],
        version=version,
        spacing=(2.0, 0.5, 0.25),
        translation=(1.0, -4.0, 8.0),
        unit="micrometer",
    )
    volume = open_stored(store)
    assert volume.geometry.spacing == pytest.approx((0.25e-3, 0.5e-3, 2e-3))
    assert volume.geometry.origin == pytest.approx((8e-3, -4e-3, 1e-3))
    assert [level.shape for level in volume.levels] == [SHAPE, (5, 6, 10)]
    assert volume.levels[1].geometry.spacing[0] == pytest.approx(0.5e-3)
    assert volume.levels[0].chunk == (8, 8, 8) and volume.version == version
    assert (volume.read((3, 0, 7), (9, 12, 20))[0] == IMAGE[3:9, :, 7:]).all()
    assert (volume.read((1, 1, 1), (5, 6, 10), 1)[0] == IMAGE[::2, ::2, ::2][1:, 1:, 1:]).all()
    assert volume.notes == [] and volume.missing_note() is None and len(volume.present()) == 12


def test_axes_in_any_order_channels_and_one_point_in_time(tmp_path):
    both = np.stack([IMAGE, IMAGE + 1])
    more = {"omero": {"channels": [{"label": "DAPI"}, {"color": "FFFFFF"}]}}
    store = write_store(tmp_path / "c.ome.zarr", both[None], names="tczyx", more=more)
    volume = pickle.loads(pickle.dumps(open_stored(store)))
    assert volume.channels == ["DAPI", "c.ome.zarr[1]"]
    assert (volume.read((2, 3, 4), (5, 6, 7)) == both[:, 2:5, 3:6, 4:7]).all()
    turned = write_store(tmp_path / "x.ome.zarr", IMAGE.T, names="xyz", spacing=(1.0, 2.0, 3.0))
    volume = open_stored(turned)
    assert volume.geometry.spacing == (1.0, 2.0, 3.0) and volume.shape == SHAPE
    assert (volume.read((2, 3, 4), (5, 6, 7))[0] == IMAGE[2:5, 3:6, 4:7]).all()


@pytest.mark.parametrize(("version", "shards"), [("0.4", None), ("0.5", None), ("0.5", (16,) * 3)])
def test_missing_chunks_are_counted_and_damaged_ones_named(tmp_path, version, shards):
    store = write_store(tmp_path / "a.ome.zarr", IMAGE, version=version, shards=shards)
    folder = store / "0" / ("" if version == "0.4" else "c")
    (folder / "0" / "0" / "1").unlink()
    volume = open_stored(store)
    whole = 2 if shards else 12
    assert f"1 of {whole} chunks are not stored" in volume.missing_note()
    edge = 16 if shards else 8
    assert (volume.read((0, 0, edge), (8, 8, edge + 4)) == 0).all()
    assert (0, 0, edge) not in volume.present() and len(volume.present()) == whole - 1
    damaged = folder / "0" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[: 4 if shards else 30])
    with pytest.raises(InputError, match=r"the chunk .*0.0.0 of .*a\.ome\.zarr cannot be read"):
        volume.read((0, 0, 0), (9, 9, 9))


def changed(**changes):
    """A change of the 'multiscales' entry."""

    def change(store):
        path = store / "zarr.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        ome = content["attributes"]["ome"]
        for key, value in changes.items():
            (ome if key == "version" else ome["multiscales"][0])[key] = value
        path.write_text(json.dumps(content))

    return change


def only(attributes):
    def change(store):
        path = store / "zarr.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, "attributes": attributes}))

    return change


STEPS = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(version="0.6"), "NGFF version 0.6, and 0.4 and 0.5 can be read: update"),
        (changed(version="0.3"), "NGFF version 0.3.*write it as"),
        (changed(axes=axes("cyx")), "axes are c, y, x, and z is missing"),
        (changed(axes=axes("zyxq")), "an axis 'q'"),
        (changed(axes=axes("zyx", "parsec")), "axis z is in 'parsec', expected one of"),
        (changed(axes=None), "name no axes"),
        (changed(datasets=[]), "'datasets' is missing"),
        (changed(datasets=[{"path": "0"}]), "voxel size of its array '0' is missing"),
        (
            changed(datasets=[{"path": "7", "coordinateTransformations": STEPS}]),
            "the array '7', which is not there",
        ),
        (
            changed(datasets=[{"path": "../x", "coordinateTransformations": STEPS}]),
            "outside of the store",
        ),
        (
            changed(
                datasets=[
                    {
                        "path": "0",
                        "coordinateTransformations": [{"type": "scale", "scale": [1, 0, 1]}],
                    }
                ]
            ),
            "spacing is 1x0x1 mm",
        ),
        (
            changed(datasets=[{"path": "0", "coordinateTransformations": [{"type": "affine"}]}]),
            "a transformation 'affine'",
        ),
        (only({}), "'multiscales' is missing"),
        (only({"ome": {"version": "0.5", "plate": {}}}), "a collection of images"),
        (lambda store: shutil.rmtree(store / "0"), "the array '0', which is not there"),
        (lambda store: (store / "zarr.json").write_text("{"), "no zarr store that can be read"),
        (lambda store: (store / "zarr.json").unlink(), "no zarr store that can be read"),
    ],
)
def test_stores_that_cannot_be_used(tmp_path, change, message):
    store = write_store(tmp_path / "a.ome.zarr", IMAGE)
    change(store)
    with pytest.raises(InputError, match=message) as caught:
        open_stored(store)
    assert str(store) in str(caught.value)


@pytest.mark.parametrize(("dtype", "kind"), [("complex64", "complex"), ("bool", "boolean")])
def test_voxels_that_are_no_numbers(tmp_path, dtype, kind):
    store = write_store(tmp_path / "a.ome.zarr", IMAGE.astype(dtype))
    with pytest.raises(InputError, match=f"{kind} voxels"):
        open_stored(store)
    np.save(tmp_path / "a.npy", IMAGE.astype(dtype))
    with pytest.raises(InputError, match=f"{kind} voxels"):
        open_stored(tmp_path / "a.npy")


def test_points_in_time_arrays_files_and_what_is_missing(tmp_path):
    store = write_store(tmp_path / "t.ome.zarr", np.stack([IMAGE, IMAGE]), names="tzyx")
    with pytest.raises(InputError, match="2 points in time"):
        open_stored(store)
    with pytest.raises(InputError, match="a single zarr array"):
        open_stored(store / "0")
    with pytest.raises(InputError, match="does not exist"):
        open_stored(tmp_path / "none.ome.zarr")
    (tmp_path / "f.zarr").write_text("")
    with pytest.raises(InputError, match="is a file"):
        open_stored(tmp_path / "f.zarr")
    with pytest.raises(InputError, match="cannot be read in parts"):
        open_stored(tmp_path / "a.nii")


def test_without_a_unit_it_is_said(tmp_path):
    volume = open_stored(write_store(tmp_path / "a.ome.zarr", IMAGE, unit=None))
    assert "no unit is given" in volume.notes[0]


def test_without_zarr_the_installation_is_named(tmp_path, monkeypatch):
    store = write_store(tmp_path / "a.ome.zarr", IMAGE)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r'pip install "sparsesegnet\[zarr\]"'):
        open_stored(store)


def test_a_package_that_is_too_old_is_named_with_its_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", SimpleNamespace(__version__="2.18.0"))
    with pytest.raises(InputError, match=r"zarr in version 3 or later, and 2\.18\.0 is installed"):
        zarr_library()
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(__version__="2023.1.0"))
    with pytest.raises(InputError, match=r"version 2024 or later.*sparsesegnet\[dask\]"):
        distributed_library()


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("components", [1, 2])
def test_raw_files_are_read_as_they_are(tmp_path, ending, components):
    values = IMAGE if components == 1 else np.stack([IMAGE, IMAGE + 1], axis=-1)
    image = sitk.GetImageFromArray(values.astype(np.int16), isVector=components > 1)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((1.0, -2.0, 3.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(image, str(path), False)
    volume, whole = open_stored(path), read_volume([path])
    assert volume.geometry.difference(whole.geometry) is None
    assert volume.geometry == geometry_of(sitk.ReadImage(str(path)))
    assert volume.channels == whole.channels and volume.dtype == whole.image.dtype
    found = volume.read((2, 3, 4), (9, 12, 19))
    assert (found == whole.image[:, 2:9, 3:12, 4:19]).all()
    volume.file.write_bytes(volume.file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cut off|cannot be read"):
        open_stored(path)


def test_other_byte_orders_and_compressed_files(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE.astype(">i4")[None])
    volume = open_stored(tmp_path / "a.npy")
    assert "1 mm" in volume.notes[0] and volume.dtype == np.int32
    assert (volume.read((1, 2, 3), (4, 5, 6))[0] == IMAGE[1:4, 2:5, 3:6]).all()
    big = tmp_path / "b.nrrd"
    head = "NRRD0004\ntype: ushort\ndimension: 3\nsizes: 20 12 10\nencoding: raw\nendian: big\n\n"
    big.write_bytes(head.encode() + IMAGE.astype(">u2").tobytes())
    assert (open_stored(big).read((0, 0, 0), SHAPE)[0] == IMAGE).all()
    sitk.WriteImage(sitk.GetImageFromArray(IMAGE), str(tmp_path / "c.nrrd"), True)
    with pytest.raises(InputError, match="is compressed"):
        open_stored(tmp_path / "c.nrrd")
    np.save(tmp_path / "p.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        open_stored(tmp_path / "p.npy")


SEGMENTS = [
    Segment("S1", "Shell", (1.0, 0.0, 0.5), 3, {"TerminologyEntry": "a~b"}),
    Segment("S2", "Core", (0.0, 1.0, 0.0), 7),
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_are_written_with_names_colours_and_coarser_levels(tmp_path, monkeypatch, version):
    monkeypatch.setattr(ngff_labels, "CHUNK", 8)
    monkeypatch.setattr(ngff_labels, "SMALLEST", 10)
    size = (24, 17, 5)
    directions = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry(size, (1.0, 1.0, 3.0), (4.0, 5.0, 6.0), directions)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1:4, 4:12, 6:20], labels[2, 6:9, 9:15] = 1, 2
    path = tmp_path / "o.ome.zarr"
    store = LabelStore.create(path, geometry, SEGMENTS, version)
    again = pickle.loads(pickle.dumps(open_label_store(path)))
    assert again.levels == store.levels and again.version == version
    again.write((0, 0, 8), labels[:, :, 8:])
    again.write((0, 0, 0), labels[:, :, :8])
    assert list(again.pyramid((0, 0, 0), geometry.shape))[-1] == 1
    volume = open_stored(path / ngff_labels.FOLDER)
    root = open_stored(path)
    assert root.geometry == volume.geometry == geometry
    assert [level.shape for level in volume.levels] == [(5, 17, 24), (5, 9, 12), (3, 5, 6)]
    assert volume.levels[1].geometry.origin == (4.5, 5.5, 6.0)
    values = np.array([0, 3, 7])[labels]
    assert (volume.read((0, 0, 0), volume.shape)[0] == values).all()
    coarse = majority(values, (1, 2, 2))
    assert (volume.read((0, 0, 0), (5, 9, 12), 1)[0] == coarse).all()
    assert (volume.read((0, 0, 0), (3, 5, 6), 2)[0] == majority(coarse, (2, 2, 2))).all()
    ome = volume.attributes.get("ome", volume.attributes)
    assert ome["image-label"]["colors"][1] == {"label-value": 3, "rgba": [255, 0, 128, 255]}
    assert ome["image-label"]["properties"][2] == {"label-value": 7, "name": "Core"}
    assert ngff_labels.segments_of(volume.attributes) == SEGMENTS
    listed = zarr.open_group(str(path / "labels"), mode="r").attrs
    assert dict(listed).get("ome", listed)["labels"] == ["segmentation"]


def test_labels_of_others_are_not_written_on(tmp_path):
    write_store(tmp_path / "o.ome.zarr" / ngff_labels.FOLDER, IMAGE)
    with pytest.raises(InputError, match="was not written by SparseSegNet"):
        open_label_store(tmp_path / "o.ome.zarr")


def test_the_majority_and_the_higher_of_equals():
    values = np.array([[[1, 2, 0, 0, 5], [1, 2, 0, 7, 5]]])
    assert majority(values, (1, 2, 2)).tolist() == [[[2, 0, 5]]]

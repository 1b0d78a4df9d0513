"""Models that are used again: the file, what it refuses, and the prediction of new volumes."""

import json
import math
import pickle
import struct

import pytest
import torch
from phantom import iou
from safetensors.torch import load_file, save_file
from small_models import described, new_volume, small_model

from SparseSegNetLib.engine.prediction.model import Model
from SparseSegNetLib.engine.stacking import image_classifier
from SparseSegNetLib.engine.stacking.image_classifier import image_features, slabs
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.model_description import KEY, ModelDescription
from SparseSegNetLib.runfolder.tensors_header import read_metadata

CPU = torch.device("cpu")
KINDS = [("auto", True), ("auto", False), (None, True), ("unet2d", False), ("vnet", False)]


@pytest.mark.parametrize(("network", "shallow"), KINDS)
def test_a_model_comes_back_and_predicts_the_same_bits(tmp_path, network, shallow):
    model, path = small_model(network, shallow), tmp_path / "größe 1.safetensors"
    model.save(path)
    again = Model.load(path, CPU)
    assert again.description == model.description and again.planes == model.planes
    if network not in ("unet2d", "vnet"):  # their tiles take seconds
        volume, _ = new_volume()
        assert torch.equal(again.probabilities(volume), model.probabilities(volume))
    if network is not None:
        ours, theirs = model.network.state_dict(), again.network.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_shallow_model_segments_a_new_volume():
    volume, truth = new_volume()
    found = small_model(None).probabilities(volume).argmax(dim=0).numpy()
    assert iou(found, truth) > 0.8


def test_it_predicts_in_slabs_as_in_one_piece(monkeypatch):
    model, (volume, _) = small_model(None), new_volume()
    whole = model.probabilities(volume)
    assert len(slabs((0, 0, 0), volume.shape)) == 1
    monkeypatch.setattr(image_classifier, "SLAB", 3 * math.prod(volume.shape[1:]))
    monkeypatch.setattr(image_classifier, "LEAST_PLANES", 1)
    assert len(slabs((0, 0, 0), volume.shape)) == 7
    assert (model.probabilities(volume) - whole).abs().max() < 0.02
    monkeypatch.setattr(image_classifier, "MARGIN", 0)
    box = (6, 0, 0), (9, *volume.shape[1:])
    near = image_features(volume, *box)
    monkeypatch.undo()
    assert (near - image_features(volume, *box)).abs().max() > 0.1, "the margin is needed"


def test_progress_reaches_the_end_and_may_cancel():
    model, (volume, _) = small_model(), new_volume()
    shares = []
    model.probabilities(volume, shares.append)
    assert shares == sorted(shares) and shares[0] == 0 and 0.4 < shares[-1] <= 1

    def refuse(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.probabilities(volume, refuse)


def entry(path, change):
    """Write the model again with its JSON entry changed."""
    tensors, about = load_file(path), read_metadata(path, KEY)
    change(about)
    save_file(tensors, path, {KEY: json.dumps(about)})


def put(*place, value):
    def change(about):
        for key in place[:-1]:
            about = about[key]
        about[place[-1]] = value

    return change


DAMAGED = {
    "no engine part": lambda about: about.pop("engine"),
    "neither part": lambda about: about["engine"].update(network=None, shallow=None),
    "a share beyond 1": put("engine", "network_share", value=2.0),
    "a plane that is none": put("engine", "planes", value=["x"]),
    "another network": put("engine", "network", "network", value="unet3d"),
    "a network that nobody knows": put("engine", "network", "network", value="os.system"),
    "a wider network": put("engine", "network", "width", value=4096),
    "kernels of a metre": put("engine", "network", "kernels", 0, value=[99999, 99999, 99999]),
    "a tile of a petabyte": put("engine", "network", "tile", value=[99999, 99999, 99999]),
    "a network that needs a prior": put("engine", "network", "priors", value=True),
    "a norm that nobody knows": put("engine", "network", "norm", value="magic"),
    "other features": put("engine", "shallow", "scales", value=[1.0]),
    "no intensities": put("engine", "intensities", value={}),
    "intensities of two channels": put(
        "engine", "intensities", "normalisation", "mean", value=[0.0, 1.0]
    ),
    "landmarks of no number": put("engine", "intensities", "landmarks", value=[["a"] * 21]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_engine_part_is_named_and_allocates_nothing(tmp_path, name):
    path = tmp_path / "m.safetensors"
    small_model().save(path)
    entry(path, DAMAGED[name])
    with pytest.raises(InputError, match=r"m\.safetensors .*(damaged|not a SparseSegNet)"):
        Model.load(path, CPU)


@pytest.mark.parametrize("name", ["network.head.weight", "shallow.0.weight", "shallow.sd"])
@pytest.mark.parametrize("how", ["missing", "nan", "shape"])
def test_weights_that_do_not_fit(tmp_path, name, how):
    path = tmp_path / "m.safetensors"
    small_model().save(path)
    tensors, about = load_file(path), read_metadata(path, KEY)
    assert name in tensors
    if how == "missing":
        del tensors[name]
    elif how == "nan":
        tensors[name].view(-1)[0] = math.nan
    else:
        tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, path, {KEY: json.dumps(about)})
    with pytest.raises(InputError, match="damaged"):
        Model.load(path, CPU)


def header(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path, head, body):
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


class TestStrangers:
    """Files from somebody else: one clear line, nothing executed, nothing allocated."""

    @pytest.fixture
    def path(self, tmp_path):
        small_model(None).save(tmp_path / "m.safetensors")
        return tmp_path / "m.safetensors"

    def refused(self, path, match):
        for read in (ModelDescription.read, lambda p: Model.load(p, CPU)):
            with pytest.raises(InputError, match=match) as caught:
                read(path)
            assert "\n" not in str(caught.value) and path.name in str(caught.value)

    def test_cut_off(self, path):
        path.write_bytes(path.read_bytes()[:-100])
        self.refused(path, "100 bytes are missing")

    def test_bytes_too_many(self, path):
        path.write_bytes(path.read_bytes() + b"12345")
        self.refused(path, "5 bytes too many")

    def test_announces_gigabytes(self, path):
        head, body = header(path)
        name = "shallow.mean"
        first = head[name]["data_offsets"][0]
        head[name].update(shape=[1 << 34], data_offsets=[first, first + (1 << 36)])
        write(path, head, body)
        self.refused(path, r"overlap|missing")

    def test_a_header_of_gigabytes(self, path):
        path.write_bytes(struct.pack("<Q", 1 << 40) + path.read_bytes()[8:])
        self.refused(path, "beginning is damaged")

    def test_a_pickle(self, path):
        class Bomb:
            def __reduce__(self):
                return exec, ("raise SystemExit('executed')",)

        path.write_bytes(pickle.dumps(Bomb()))
        self.refused(path, "pickle")
        torch.save({"a": torch.ones(2)}, path)
        self.refused(path, "pickle")

    def test_no_file_a_folder_and_text(self, path, tmp_path):
        self.refused(tmp_path / "missing.safetensors", "no such file")
        self.refused(tmp_path, "no such file")
        path.write_text("not a model at all")
        self.refused(path, "not a SparseSegNet model")

    def test_names_that_are_paths_are_names(self, path):
        head, body = header(path)
        about = json.loads(head["__metadata__"][KEY])
        about["name"] = "../../etc/passwd"
        head["__metadata__"][KEY] = json.dumps(about)
        write(path, head, body)
        assert ModelDescription.read(path).name == "../../etc/passwd", "shown, never opened"

    def test_a_model_of_another_version(self, path):
        entry(path, put("schema", value=99))
        self.refused(path, "newer")
        entry(path, put("schema", value=1))
        self.refused(path, "older")

    @pytest.mark.parametrize(
        "change",
        [
            put("segments", value=[]),
            put("channels", value=["a", "b"]),
            put("orientation", value="LLS"),
            put("orientation", value="elsewhere"),
            put("spacing", value=[0, 1, 1]),
            put("scores", value=[]),
            put("modality", value="x-ray"),
            lambda about: about.pop("cases"),
        ],
    )
    def test_descriptions_of_another_form(self, path, change):
        entry(path, change)
        self.refused(path, "not a SparseSegNet model")


def test_a_description_comes_back():
    model = described(3, 2, "ct", (0.5, 0.5, 3.0))
    assert ModelDescription.from_json(json.loads(json.dumps(model.to_json()))) == model

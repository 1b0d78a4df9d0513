"""Every file of a run folder, cut at every byte of its last 4 KB: whole, or told by name."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from SparseSegNetLib.annotation.composition import UNLABELLED
from SparseSegNetLib.engine.prediction.model import Model
from SparseSegNetLib.engine.training.checkpoint import load_state
from SparseSegNetLib.engine.training.training_state import check_state
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.runfolder.atomic import write_array
from SparseSegNetLib.runfolder.checkpoints import readable_checkpoints
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.lock import in_use
from SparseSegNetLib.runfolder.model_description import ModelDescription
from SparseSegNetLib.runfolder.prior_file import read_prior
from SparseSegNetLib.runfolder.schema import read_run
from weights import write_weights
from whole_inputs import SHAPE, SLICES, run_folder

CUTS = 4096
PRIOR = {"prior": [1], "prior_known": True}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run folder in which everything is that there can be."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run_folder(path)
    for name in ("prior.npy", "prior-known.npy"):
        write_array(path / "inputs" / "1" / name, np.full((1, *SHAPE), 9, np.uint8))
    write_weights(path / "checkpoint", checkpoint=True)
    write_weights(path / "checkpoint", checkpoint=False)
    shutil.copy(path / "checkpoint" / "model.safetensors", path / "inputs")
    (path / "log.txt").write_bytes(b"first\nsecond\n")
    (path / "lock").write_text('{"pid": 1, "host": "elsewhere"}')
    return path


@pytest.fixture
def path(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def cuts(file: Path):
    """The file, one byte shorter each time."""
    size = file.stat().st_size
    for left in range(size - 1, max(-1, size - CUTS - 1), -1):
        os.truncate(file, left)
        yield left


def same(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, (np.ndarray, torch.Tensor)):
        return bool((np.asarray(found) == np.asarray(expected)).all())
    return found == expected


# The readers of what a run cannot do without: whole, or an InputError that names the file.
NEEDED = {
    "run.json": lambda run: read_run(run.path),
    "inputs/1/geometry.json": lambda run: RunFolder(run.path, run.description).geometry().to_json(),
    "inputs/1/slices.json": lambda run: run.read_slices(),
    "inputs/1/image.npy": lambda run: run._read_input(1, mapped=False).image,
    "inputs/1/labels.npy": lambda run: run.read_labels(),
    "inputs/1/prior.npy": lambda run: read_prior(run.path / "inputs" / "1", PRIOR, SHAPE, 2)[0],
    "inputs/1/prior-known.npy": lambda run: read_prior(run.path / "inputs" / "1", PRIOR, SHAPE, 2)[
        2
    ],
    "inputs/model.safetensors": lambda run: Model.load(run.given_model, CPU),
    "checkpoint/model.safetensors": lambda run: Model.load(run.model_path, CPU),
    "result/1.npy": lambda run: run.read_result(),
    "result/1-uncertainty.npy": lambda run: run.read_uncertainty(),
}
# Of what a run can do without: whole, or nothing and a note that names the file.
DISPENSABLE = {
    "preview/1.npy": (lambda run: run.read_preview(), None),
    "preview/1-k2.npy": (lambda run: run.read_preview_slice(1, SLICES[0]), "dense"),
    "result/1-score.json": (lambda run: run.read_score(), None),
    "result/1-disagreements.json": (lambda run: run.read_disagreements(), []),
    "result/1-profiles.npy": (lambda run: getattr(run.read_profiles(), "array", None), None),
}
# Read in tests of their own.
OTHERS = {
    "checkpoint/state.safetensors",
    "checkpoint/state-previous.safetensors",
    "metrics.jsonl",
    "result/written.json",
    "log.txt",
    "lock",
}


def test_every_file_is_looked_at(whole):
    files = {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()}
    assert files == {*NEEDED, *DISPENSABLE, *OTHERS}


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_run_needs(path, name):
    read, run = NEEDED[name], RunFolder.open(path)
    expected, read_whole = read(run), []
    for left in cuts(path / name):
        try:
            assert same(read(run), expected), left
            read_whole.append(left)
        except InputError as error:
            assert str(path / name) in str(error) and str(error).endswith("."), left
    assert len(read_whole) == name.endswith(".json"), "the last character of JSON is a newline"


@pytest.mark.parametrize("name", DISPENSABLE)
def test_what_a_run_can_do_without(path, name):
    read, without = DISPENSABLE[name]
    run = RunFolder.open(path)
    expected = read(run)
    if without == "dense":  # the older, dense preview takes the place of the slice's
        without = run.read_preview()[SLICES[0].selector()]
    lost = 0
    for left in cuts(path / name):
        run = RunFolder(path, run.description)
        found = read(run)
        if run.notes:
            lost += 1
            assert same(found, without) and str(path / name) in run.notes[0], left
        else:
            assert same(found, expected), left
    assert lost


def test_the_checkpoint(path):
    run = RunFolder.open(path)
    paths = run.state_paths
    tensors, about = load_state(paths, check_state)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # the file was mapped
    for left in cuts(paths[0]):
        told = []
        found = load_state(paths, check_state, told.append)
        assert same(found[0], tensors) and found[1] == about, left
        assert len(told) == 1 and str(paths[0]) in told[0] and "from the one before" in told[0]
        assert [p for p, _ in readable_checkpoints(paths)] == [paths[1]], left
    for left in cuts(paths[1]):
        assert load_state(paths, check_state) is None, left
        assert not list(readable_checkpoints(paths)), left


@pytest.mark.parametrize("name", ["inputs/model.safetensors", "checkpoint/model.safetensors"])
def test_a_model_is_described_without_torch(path, name):
    for left in cuts(path / name):
        with pytest.raises(InputError) as caught:
            ModelDescription.read(path / name)
        assert str(path / name) in str(caught.value), left


def test_the_records_of_the_training(path):
    file, run = path / "metrics.jsonl", RunFolder.open(path)
    records, lines = run.read_metrics(), file.read_bytes().splitlines(keepends=True)
    added = {"step": 99, "seconds": 2.0}
    for left in cuts(file):
        kept = sum(len(b"".join(lines[:n])) - 1 <= left for n in range(1, len(lines) + 1))
        assert run.read_metrics() == records[:kept], left
        data = file.read_bytes()
        run.append_metrics(added)
        assert run.read_metrics() == [*records[:kept], added], left
        file.write_bytes(data)


def test_the_rest(path):
    run = RunFolder.open(path)
    output = path.parent / "out.nrrd"
    output.write_bytes(b"as it was written")
    run.remember_written(output)
    assert run.wrote(output) and in_use(path)
    file = path / "result" / "written.json"
    size = file.stat().st_size
    for left in cuts(file):
        assert run.wrote(output) == (left == size - 1), "what is not known is not overwritten"
    for _ in cuts(path / "lock"):
        assert not in_use(path)


def test_the_labels_hold_something(whole):
    """Else a wrong value could not be told from a right one."""
    labels = RunFolder.open(whole).read_labels()
    assert set(np.unique(labels)) == {0, 1, 2, UNLABELLED}

"""What an engine on another computer tells and writes, as this computer takes it."""

import json
import os

import numpy as np
import pytest

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.errors import InputError
from SparseSegNetLib.remote.arrivals import Events, take_plan
from SparseSegNetLib.remote.frames import FrameError
from SparseSegNetLib.remote.run_files import ENGINES
from SparseSegNetLib.remote.transfer import MOST_AT_ONCE, MOST_TAKEN, Receiver
from SparseSegNetLib.runfolder.folder import RunFolder
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.protocol import encode
from SparseSegNetLib.runfolder.run_input import RunInput

EVENTS = Events("gpu-box", "/far/run-1", "/home/me/run")


@pytest.fixture
def folder(tmp_path):
    shape = (2, 3, 4)
    grid = Geometry((4, 3, 2), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    item = RunInput(np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8), grid, [])
    segments = [Segment("a", "A", (1, 0, 0), 1)]
    return RunFolder.create(
        tmp_path / "run", [item], segments, Options(), output=tmp_path / "out.nrrd"
    )


def test_of_a_description_the_plan_alone_counts(folder):
    before = RunFolder.open(folder.path).description
    stranger = {**before, "output": "/home/me/.bashrc", "name": "x", "versions": {"torch": "2.9"}}
    take_plan(folder.path, json.dumps(stranger).encode())
    after = RunFolder.open(folder.path).description
    assert after == {**before, "versions": {"torch": "2.9"}}
    for data in (b"[]", b"{", b"[" * 100_000):
        with pytest.raises(FrameError):
            take_plan(folder.path, data)
    with pytest.raises(InputError, match="damaged"):
        take_plan(folder.path, json.dumps({"versions": 7}).encode())
    assert RunFolder.open(folder.path).description == after


def test_a_description_is_never_written_as_it_comes(folder):
    taken = []
    receiver = Receiver(folder.path, ENGINES, taken={"run.json": taken.append})
    before = (folder.path / "run.json").read_bytes()
    receiver.handle({"kind": "removed", "path": "run.json"}, b"")
    receiver.handle({"kind": "file", "number": 1, "path": "run.json", "length": 2}, b"")
    receiver.handle({"kind": "piece", "number": 1}, b"{}")
    checksum = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    receiver.handle({"kind": "whole", "number": 1, "sha256": checksum}, b"")
    assert taken == [b"{}"] and (folder.path / "run.json").read_bytes() == before
    large = {"kind": "file", "number": 2, "path": "run.json", "length": MOST_TAKEN + 1}
    with pytest.raises(FrameError):
        receiver.handle(large, b"")


def test_few_files_arrive_at_once(tmp_path):
    receiver = Receiver(tmp_path, ENGINES)
    for n in range(MOST_AT_ONCE):
        receiver.handle({"kind": "file", "number": n, "path": f"result/{n}.npy", "length": 1}, b"")
    with pytest.raises(FrameError, match="at once"):
        receiver.handle({"kind": "file", "number": 99, "path": "result/9.npy", "length": 1}, b"")
    receiver.close()
    assert not list((tmp_path / "result").iterdir())


def test_events_name_this_process_and_this_folder():
    line, name = EVENTS.at_home(encode("event", "started", pid=1).rstrip())
    assert name == "started" and json.loads(line)["pid"] == os.getpid()
    hint = "'sparsesegnet resume \"/far/run-1\"' resumes."
    line, _ = EVENTS.at_home(encode("event", "interrupted", cause="it.", remedy=hint).rstrip())
    assert json.loads(line)["remedy"] == "'sparsesegnet resume \"/home/me/run\"' resumes."
    line, _ = EVENTS.at_home(encode("event", "warning", text="\x1b]0;title\x07 is ö").rstrip())
    assert json.loads(line)["text"] == " ]0;title  is ö", "nothing controls a terminal"
    assert EVENTS.at_home(b"Downloading: 3 %") == (b"Downloading: 3 %", "")


@pytest.mark.parametrize(
    ("code", "known", "cause"),
    [
        ("out-of-memory", "out-of-memory", "on gpu-box: it failed."),
        ("disk-full", "remote-disk-full", "on gpu-box: it failed."),
        ("input", "input", "it failed."),
        ('x"><a href="file:///', "remote", "on gpu-box: it failed."),
        (7, "remote", "on gpu-box: it failed."),
    ],
)
def test_errors_say_where(code, known, cause):
    line, _ = EVENTS.at_home(encode("event", "error", code=code, cause="it failed.").rstrip())
    event = json.loads(line)
    assert (event["code"], event["cause"]) == (known, cause)

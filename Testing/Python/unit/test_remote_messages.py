"""What goes over a connection to another computer: messages, files, commands, their limits."""

import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest

from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.remote import package, ssh_command
from SparseSegNetLib.remote.frames import MOST_HEADER, MOST_PAYLOAD, FrameError, Frames
from SparseSegNetLib.remote.outbox import Outbox
from SparseSegNetLib.remote.run_files import ALL, ENGINES, Changed, PathError, place
from SparseSegNetLib.remote.ssh_faults import no_answer
from SparseSegNetLib.remote.transfer import PIECE, Receiver, Sender

BOMB = zlib.compress(bytes(50 << 20))


def sent(*messages):
    """The bytes of messages, each (kind, payload, fields)."""
    stream = io.BytesIO()
    frames = Frames(io.BytesIO(), stream)
    for kind, payload, fields in messages:
        frames.send(kind, payload, **fields)
    return stream.getvalue()


def received(data):
    frames, found = Frames(io.BytesIO(data), io.BytesIO()), []
    while (message := frames.receive()) is not None:
        found.append(message)
    return found


def raw(header, payload=b""):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">I", len(data)) + data + payload


def test_messages_arrive_as_they_were_sent():
    noise = np.random.default_rng(0).bytes(5000)
    data = sent(("a", b"", {"n": 1}), ("b", noise, {}), ("c", b"0" * 100_000, {"text": "ö"}))
    assert len(data) < 6500, "what can be packed is packed"
    (a, none), (b, same), (c, packed) = received(data)
    assert (a["n"], b["kind"], c["text"]) == (1, "b", "ö")
    assert (none, same, packed) == (b"", noise, b"0" * 100_000)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\0\0", EOFError),
        (sent(("a", b"x" * 100, {}))[:-1], EOFError),
        (struct.pack(">I", MOST_HEADER + 1), FrameError),
        (raw(b"not JSON"), FrameError),
        (raw(b"[" * 60_000), FrameError),
        (raw([1]), FrameError),
        (raw({"size": 0, "full": 0}), FrameError),
        (raw({"kind": "a", "size": -1, "full": 0}), FrameError),
        (raw({"kind": "a", "size": True, "full": 1}), FrameError),
        (raw({"kind": "a", "size": MOST_PAYLOAD + 1, "full": 0}), FrameError),
        (raw({"kind": "a", "size": 2, "full": 9}, b"xx"), FrameError),
        # A payload that becomes far longer than was announced.
        (raw({"kind": "a", "size": len(BOMB), "full": 40_000}, BOMB), FrameError),
    ],
)
def test_what_is_no_message_of_ours_is_refused(data, error):
    with pytest.raises(error):
        received(data)


@pytest.mark.parametrize(
    "path",
    [
        "../run.json",
        "/etc/passwd",
        "C:/run.json",
        "result/../run.json",
        "result\\1.npy",
        "checkpoint/state.safetensors/x",
        "result/1.npy\n",
        "result/con.npy",
        "result/written.json",
        "lock",
        "log.txt",
        "inputs/1/labels.npy",
        "",
    ],
)
def test_a_path_that_does_not_come_from_an_engine_is_refused(tmp_path, path):
    with pytest.raises(PathError):
        place(tmp_path, path, ENGINES)
    receiver = Receiver(tmp_path, ENGINES)
    for header in ({"kind": "file", "number": 1, "length": 0}, {"kind": "removed"}):
        with pytest.raises(PathError):
            receiver.handle({**header, "path": path}, b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a right on Windows")
def test_no_link_is_followed(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (run / "result").symlink_to(elsewhere)
    (elsewhere / "1.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="link"):
        Receiver(run, ENGINES).handle({"kind": "file", "number": 1, "path": "result/1.npy"}, b"")
    assert Changed(run, ALL).look() == ([], [])
    assert (elsewhere / "1.npy").read_bytes() == b"mine"


def transferred(source, target, path, change=lambda messages: messages):
    """Sends a file from one folder into another; `change` meddles with the messages."""
    stream = io.BytesIO()
    Sender(Frames(io.BytesIO(), stream), source).send(path)
    receiver = Receiver(target, ENGINES)
    try:
        for header, payload in change(received(stream.getvalue())):
            receiver.handle(header, payload)
    finally:
        receiver.close()


def test_a_file_arrives_whole_or_not_at_all(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    content = np.random.default_rng(0).bytes(2 * PIECE + 7)
    for folder in (here, there):
        (folder / "result").mkdir(parents=True)
    (here / "result" / "1.npy").write_bytes(content)
    target = there / "result" / "1.npy"
    target.write_bytes(b"before")
    for meddle in (
        lambda m: m[:-1],  # its end is missing
        lambda m: [*m[:1], *m[2:]],  # a piece is missing
        lambda m: [m[0], (m[1][0], b"x" + m[1][1][1:]), *m[2:]],  # a byte differs
        lambda m: [*m[:-1], m[1], m[-1]],  # longer than was announced
        lambda m: [({**m[0][0], "length": 5}, b""), *m[1:]],
    ):
        try:
            transferred(here, there, "result/1.npy", meddle)
        except FrameError as error:
            assert "result/1.npy" in str(error)
        assert target.read_bytes() == b"before"
        assert [p.name for p in target.parent.iterdir()] == ["1.npy"], "nothing half is left"
    transferred(here, there, "result/1.npy")
    assert target.read_bytes() == content
    transferred(here, there, "result/2.npy")  # it has gone meanwhile
    assert not (there / "result" / "2.npy").exists()


def test_a_preview_overtakes_a_checkpoint(tmp_path):
    for name in ("checkpoint", "preview"):
        (tmp_path / name).mkdir()
    stream = io.BytesIO()
    outbox = Outbox(Frames(io.BytesIO(), stream), tmp_path)

    def write(path, size):
        (tmp_path / path).write_bytes(np.random.default_rng(0).bytes(size))
        outbox.look()

    write("checkpoint/state.safetensors", 3 * PIECE)
    outbox.some()
    write("preview/1.npy", 10)
    while outbox.waiting:
        outbox.some()
    write("checkpoint/state.safetensors", 3 * PIECE + 1)
    outbox._again_at = np.inf
    assert not outbox.waiting, "a slow line has a rest from checkpoints"
    outbox.rest()
    (tmp_path / "preview" / "1.npy").unlink()
    outbox.look()
    state, preview = "checkpoint/state.safetensors", "preview/1.npy"
    names, order = {}, []
    for header, _ in received(stream.getvalue()):
        path = header.get("path") or names[header["number"]]
        names[header.get("number")] = path
        order.append((header["kind"], path))
    pieces = [("piece", state)]
    assert order == [
        *[("file", state), *pieces],
        *[("file", preview), ("piece", preview), ("whole", preview)],
        *[*pieces * 2, ("whole", state)],
        *[("file", state), *pieces * 4, ("whole", state)],
        ("removed", preview),
    ]


def test_what_has_changed_is_noticed_slices_before_labels(tmp_path):
    (tmp_path / "inputs" / "1").mkdir(parents=True)
    changed = Changed(tmp_path, ALL)
    for name in ("labels.npy", "slices.json", ".writing-abc"):
        (tmp_path / "inputs" / "1" / name).write_bytes(b"1")
    assert changed.look() == (["inputs/1/slices.json", "inputs/1/labels.npy"], [])
    (tmp_path / "inputs" / "1" / "labels.npy").write_bytes(b"12")
    (tmp_path / "inputs" / "1" / "slices.json").unlink()
    assert changed.look() == (["inputs/1/labels.npy"], ["inputs/1/slices.json"])
    assert changed.look() == ([], [])


def test_the_code_that_is_sent_is_the_engine_without_the_panel():
    data = package.archive()
    assert data == package.archive(), "its checksum is its name over there"
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert "SparseSegNetLib/engine/worker.py" in names
    assert "SparseSegNetLib/remote/agent.py" in names
    parts = {name.split("/")[1] for name in names}
    assert parts.isdisjoint({"widget", "scene", "files", "cli"})
    line = package.first_line(data)
    assert line.count(b"\n") == 1 and line.isascii()
    assert not set("'$`!%\\") & set(package.LOADER), "every shell reads it alike"


def test_a_command_is_read_as_its_user_wrote_it(monkeypatch):
    read = ssh_command.words
    assert read("ssh -p 2222 me@gpu-box") == ["ssh", "-p", "2222", "me@gpu-box"]
    assert read('ssh -F "my files/config" box') == ["ssh", "-F", "my files/config", "box"]
    assert read(r"ssh a\ b") == ["ssh", "a b"]
    monkeypatch.setattr(ssh_command.os, "name", "nt")
    line = r'"C:\Program Files\OpenSSH\ssh.exe" -i C:\keys\id me@box'
    assert read(line) == [r"C:\Program Files\OpenSSH\ssh.exe", "-i", r"C:\keys\id", "me@box"]
    assert ssh_command.host("ssh me@box -p 22") == "me@box"
    for bad in ("", "  ", 'ssh "box'):
        with pytest.raises(InputError, match="SSH command"):
            read(bad)


def test_openssh_never_asks(monkeypatch):
    monkeypatch.setattr(ssh_command.shutil, "which", lambda name: f"/bin/{name}")
    full = ssh_command.full_command("ssh -p 2222 box", "python3 -c x")
    assert "BatchMode=yes" in full and full[-4:] == ["-p", "2222", "box", "python3 -c x"]
    assert ssh_command.full_command("plink box", "x") == ["/bin/plink", "-batch", "box", "x"]
    assert ssh_command.full_command("nsenter box", "x") == ["/bin/nsenter", "box", "x"]
    monkeypatch.setattr(ssh_command.shutil, "which", lambda name: None)
    with pytest.raises(EngineError) as missing:
        ssh_command.full_command("ssh box", "x")
    assert missing.value.code == "ssh-missing"


@pytest.mark.parametrize(
    ("printed", "end", "code", "remedy"),
    [
        ("Host key verification failed.", 255, "ssh-host-key", "Connect once in a terminal"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
         255, "ssh-host-key", "ssh-keygen -R"),
        ("me@box: Permission denied (publickey,password).", 255, "ssh-permission", "ssh-copy-id"),
        ("connect to host box port 22: Connection refused", 255, "ssh-refused", "port"),
        ("Could not resolve hostname box: Name or service not known", 255, "ssh-unreachable", ""),
        ("connect to host box port 22: Connection timed out", 255, "ssh-unreachable", "VPN"),
        ("bash: line 1: python3: command not found", 127, "remote-python", "--remote-python"),
        ("bash: /opt/python3: Permission denied", 126, "remote-python", "--remote-python"),
        ("'python3' is not recognized as an internal or external command", 1, "remote-python", ""),
        ("Identity file x not accessible: No such file\nConnection closed", 255, "ssh", ""),
        ("kex_exchange_identification: read", 255, "ssh", "'ssh me@box python3 --version'"),
        ("", None, "ssh", "'ssh me@box python3 --version'"),
    ],
)  # fmt: skip
def test_why_no_connection_comes_about(printed, end, code, remedy):
    error = no_answer("ssh me@box", "python3", end, f"Welcome\n{printed}\n")
    assert error.code == code and "me@box" in error.cause and remedy in error.remedy

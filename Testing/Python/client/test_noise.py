"""Whatever comes over the wire: garbage, endless lines, launchers with children."""

import os
import time

import pytest
from small_runs import run_folder, until, watched

from SparseSegNetLib.client.popen_transport import PopenTransport
from SparseSegNetLib.client.processes import explain_end, kill_tree
from SparseSegNetLib.runfolder.lock import alive
from SparseSegNetLib.runfolder.protocol import LONGEST, LineBuffer, encode


def test_lines_take_time_in_proportion_and_no_more_memory_than_a_line():
    buffer = LineBuffer()
    pieces = [bytes([65 + n]) * (LONGEST // 16) for n in range(20)]
    for piece in pieces:
        assert buffer.feed(piece) == []
    # What has come is neither joined nor copied before its line ends, which would be quadratic.
    assert len(buffer._parts) == 16
    assert all(kept is piece for kept, piece in zip(buffer._parts, pieces[:16], strict=True))
    assert buffer.feed(b"\nnext\n") == [b"".join(pieces[:16]), b"next"]


def test_garbage_and_ten_megabytes_without_a_newline(tmp_path):
    code = (
        "import os, sys\n"
        "out = sys.stdout.buffer\n"
        "out.write(os.urandom(300_000) + b'\\n')\n"
        "out.write(b'x' * 10_000_000 + b'\\n')\n"
        "out.write(b'{\"sparsesegnet\": 1, \"event\": \"' + b'y' * 10_000_000 + b'\"}\\n')\n"
        "out.write(b'[' * 100_000 + b'\\n' + b'{' * 100_000 + b'\\n')\n"
        "from SparseSegNetLib.runfolder.protocol import encode\n"
        "out.write(encode('event', 'done', seconds=1, step=2, held_out=None, "
        "held_out_slices=[])); out.flush()\n"
    )
    folder, _ = run_folder(tmp_path / "run")
    run, events = watched(folder, PopenTransport(["-c", code]))
    assert run.wait(60) == "done"
    assert [e["event"] for e in events] == ["done", "ended"]
    assert folder.log_path.stat().st_size < 3_000_000


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX's")
def test_what_a_launcher_launched_goes_with_it(tmp_path):
    """PythonSlicer is a launcher: the engine is its child, and must not outlive it."""
    child = (
        f"import os, sys, time; sys.stdout.buffer.write({encode('event', 'started')[:-2]!r}"
        " + b', \"pid\": %d}\\n' % os.getpid()); sys.stdout.flush(); time.sleep(600)"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    folder, _ = run_folder(tmp_path / "run")
    run, _ = watched(folder, PopenTransport(["-c", code]))
    assert until(run, lambda: run._pid is not None, timeout=20)
    assert run._pid != run._transport._process.pid
    run.cancel(patience=0.3)
    end = time.monotonic() + 60  # it would sleep for 600 s
    while alive(run._pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert run.state == "cancelled" and not alive(run._pid)


def test_a_process_that_is_gone_is_no_error():
    kill_tree(2**30)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (-9, "killed"),
        (137, "killed"),
        (-11, "crashed"),
        (0xC0000005, "crashed"),
        (-1073741515, "library-missing"),
        (1, "died"),
    ],
)
def test_how_an_engine_ended(code, word):
    problem = explain_end(code, "'last'.", "/run", "/run/log.txt")
    assert problem.code == word and "log" in problem.remedy

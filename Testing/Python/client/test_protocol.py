"""Lines on the wire, and the client's states, with real processes."""

import os
import signal
import sys

import numpy as np
import pytest

from SparseSegNetLib.annotation.geometry import Geometry
from SparseSegNetLib.annotation.segments import Segment
from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.cli.progress import follow
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.client.popen_transport import PopenTransport
from SparseSegNetLib.engine.interaction.commands import Commands
from SparseSegNetLib.errors import EngineError, InputError
from SparseSegNetLib.runfolder.atomic import write_json
from SparseSegNetLib.runfolder.folder import SCHEMA, RunFolder
from SparseSegNetLib.runfolder.messages import ProtocolError, check_message
from SparseSegNetLib.runfolder.options import Options
from SparseSegNetLib.runfolder.protocol import LineBuffer, decode, encode
from SparseSegNetLib.runfolder.run_input import RunInput

GRID = Geometry((4, 3, 2), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
SEGMENTS = [Segment("a", "Größe", (1, 0, 0), 1, {"t": "v"})]


def new_folder(path, labels=None):
    labels = np.full((2, 3, 4), 255, np.uint8) if labels is None else labels
    return RunFolder.create(
        path, [RunInput(np.zeros((1, 2, 3, 4), np.int16), labels, GRID)], SEGMENTS, Options()
    )


def fake(folder, code):
    """A run whose engine is a little program, to see what the client makes of its words."""
    return EngineRun(folder, PopenTransport(["-c", code]))


class TestLines:
    def test_a_message_survives(self):
        line = encode("event", "warning", text="größer\nals 漢")
        assert line.isascii() and line.count(b"\n") == 1
        assert decode(line, "event")["text"] == "größer\nals 漢"

    @pytest.mark.parametrize(
        "line",
        [
            b"hello",
            b"{}",
            b"{broken",
            b'{"sparsesegnet": 2, "event": "x"}',
            b'{"sparsesegnet": 1}',
            b"[1]",
            b"\xff\xfe",
            b"",
            b'{"sparsesegnet": 1, "event": 3}',
        ],
    )
    def test_anything_else_is_log(self, line):
        assert decode(line, "event") is None

    def test_cut_anywhere(self):
        data = b"".join(encode("event", "x", n=n, s="é漢") for n in range(50)) + b"rest"
        for size in (1, 3, 7, 1000):
            buffer, lines = LineBuffer(), []
            for at in range(0, len(data), size):
                lines += buffer.feed(data[at : at + size])
            assert [decode(line, "event")["n"] for line in lines] == list(range(50))


class TestStates:
    def test_done_needs_both_the_word_and_the_exit_code(self, tmp_path):
        says = (
            "import sys; from SparseSegNetLib.runfolder.protocol import encode; "
            "sys.stdout.buffer.write(encode('event', 'done', seconds=1, step=2, "
            "held_out=None, held_out_slices=[])); sys.stdout.flush(); "
        )
        assert fake(new_folder(tmp_path / "a"), says).wait(20) == "done"
        assert fake(new_folder(tmp_path / "b"), says + "sys.exit(1)").wait(20) == "failed"
        run = fake(new_folder(tmp_path / "c"), "print('bye')")
        assert run.wait(20) == "failed"
        with pytest.raises(EngineError, match=r"without a result .*log\.txt"):
            run.result()

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("done", {}),
            ("done", {"seconds": "1", "step": 2, "held_out": None, "held_out_slices": []}),
            ("warning", {}),
            ("warning", {"text": 3}),
            ("error", {"cause": "x"}),
            ("progress", {"step": 1}),
            (
                "progress",
                {
                    "step": 1,
                    "phase": [],
                    "seconds": 1,
                    "loss": None,
                    "fraction": 0,
                    "remaining": None,
                },
            ),
            ("done", {"seconds": 1, "step": 2, "held_out": [{}, {}], "held_out_slices": []}),
            ("started", {}),
            ("metrics", {"held_out_dice": "good"}),
        ],
    )
    def test_an_event_of_another_form(self, tmp_path, name, data):
        line = encode("event", name, **data)
        run = fake(new_folder(tmp_path / "a"), f"import os; os.write(1, {line!r})")
        assert follow(run, quiet=True) == "failed"
        assert run.error.code == "protocol" and f"event '{name}'" in run.error.cause
        assert len(run.warnings) == 1 and "expected" in run.warnings[0]
        assert line.strip() in (tmp_path / "a" / "log.txt").read_bytes()

    def test_an_event_whose_name_cannot_be_printed(self):
        with pytest.raises(ProtocolError, match=r"the event '\\ud800'") as error:
            check_message({"event": "\ud800", "text": "\ud800"}, "event")
        assert str(error.value).isascii()

    def test_a_command_of_another_form(self):
        commands = Commands()
        assert not commands.put({"command": "set", "time_budget": 10**400})
        assert not commands.put({"command": "set"})
        assert not commands.put({"command": "preview", "planes": [3]})
        assert not commands.put({"command": "labels-changed", "input": [1]})
        assert commands.take() == []
        assert commands.put({"command": "set", "time_budget": 10})

    def test_the_last_words_and_the_log_are_kept(self, tmp_path):
        folder = new_folder(tmp_path / "a")
        run = fake(folder, "import sys; print('on stdout'); sys.exit('oh nö')")
        run.wait(20)
        assert "oh nö" in str(run.error)
        assert {"on stdout", "oh nö"} <= set(folder.log_path.read_text("utf-8").splitlines())

    def test_polling_never_waits(self, tmp_path):
        run = fake(new_folder(tmp_path / "a"), "import time; time.sleep(60)")
        receive, waits = run._transport.receive, []
        run._transport.receive = lambda timeout=0.0: waits.append(timeout) or receive(timeout)
        assert run.poll() == "preparing" and waits == [0.0]
        run.cancel(patience=0.5)
        assert run.state == "cancelled"
        with pytest.raises(InputError, match="cancelled"):
            run.result()

    def test_an_engine_deaf_to_everything_is_killed(self, tmp_path):
        code = (
            "import signal, time\nfor s in (signal.SIGINT, signal.SIGTERM): "
            "signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)"
        )
        run = fake(new_folder(tmp_path / "a"), code)
        run.cancel(patience=0.5)
        assert run.state == "cancelled"
        assert run._transport._process.returncode == -signal.SIGKILL or os.name == "nt"

    def test_the_engine_refuses_what_cannot_be_learnt(self, tmp_path):
        run = EngineRun(new_folder(tmp_path / "a"))
        assert run.wait(60) == "failed"
        assert run.error.code == "input" and "no voxel is labelled" in run.error.cause

    def test_no_engine_output_reaches_the_clients_terminal(self, tmp_path, capfd):
        EngineRun(new_folder(tmp_path / "a")).wait(60)
        told = capfd.readouterr()
        assert told.out == "" and told.err == ""


class TestRunFolder:
    def test_comes_back_as_written(self, tmp_path):
        labels = np.resize(np.uint8([0, 1, 255]), (2, 3, 4))
        new_folder(tmp_path / "a b", labels)
        folder = RunFolder.open(tmp_path / "a b")
        found = folder.read_input()
        assert (found.labels == labels).all() and found.geometry == GRID
        assert folder.segments == SEGMENTS and folder.options == Options()

    def test_an_existing_folder_is_not_touched(self, tmp_path):
        (tmp_path / "x").write_text("precious")
        with pytest.raises(InputError, match="exists already"):
            new_folder(tmp_path)

    def test_a_newer_schema_is_refused(self, tmp_path):
        folder = new_folder(tmp_path / "a")
        folder.description["schema"] = 99
        folder.save()
        with pytest.raises(InputError, match=r"newer SparseSegNet \(schema 99"):
            RunFolder.open(tmp_path / "a")
        with pytest.raises(InputError, match="not a run folder"):
            RunFolder.open(tmp_path)

    def test_an_older_schema_is_brought_up_to_date(self, tmp_path):
        """Schema 1 kept the slices in run.json."""
        folder = new_folder(tmp_path / "a")
        (folder.path / "inputs" / "1" / "slices.json").unlink()
        old = {k: v for k, v in folder.description.items() if k not in ("output", "source")}
        old["schema"] = 1
        old["inputs"] = [{"slices": [{"axis": "k", "index": 1}], "channels": []}]
        write_json(folder.path / "run.json", old)
        again = RunFolder.open(folder.path)
        assert again.read_slices() == [AnnotatedSlice("k", 1)]
        assert again.description["schema"] == SCHEMA and again.description["output"] is None
        again.save()
        assert RunFolder.open(folder.path).read_input().slices == [AnnotatedSlice("k", 1)]

    def test_labels_take_the_place_of_others(self, tmp_path):
        folder = new_folder(tmp_path / "a")
        labels = np.zeros((2, 3, 4), np.uint8)
        folder.write_labels(1, labels, [AnnotatedSlice("i", 2)])
        assert (folder.read_labels() == 0).all()
        assert folder.read_slices() == [AnnotatedSlice("i", 2)]

    def test_a_cut_off_line_of_metrics_is_left_out(self, tmp_path):
        folder = new_folder(tmp_path / "a")
        folder.append_metrics({"step": 1})
        with (folder.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 2, "lo')
        assert folder.read_metrics() == [{"step": 1}]


def test_python_is_the_one_that_runs_this():
    transport = PopenTransport(["-c", "import sys; print(sys.executable)"])
    chunks = []
    while (got := transport.receive(10))[0] != "end":
        chunks.append(got[1])
    assert b"".join(chunks).decode().strip() == sys.executable

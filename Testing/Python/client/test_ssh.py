"""Over a real SSH connection: a whole session, a lost connection, and what the server refuses."""

from far_away import use
from phantom import iou
from small_runs import named, run_folder, training, until, watched, with_slice

from SparseSegNetLib.annotation.slices import AnnotatedSlice
from SparseSegNetLib.remote.run_files import steps_taken


def test_a_session_with_preview_labels_pause_and_resume(tmp_path, far_by_ssh):
    folder, truth = run_folder(tmp_path / "run", counts=(1, 1, 0), time_budget=60)
    run, events = watched(folder)
    assert until(run, lambda: training(run)), run.error
    labels, slices = with_slice(folder, truth, "k", 9)
    run.change_labels(labels, slices)
    run.preview(["k:10"])
    assert until(run, lambda: named(events, "labels")), run.error
    assert named(events, "labels")[0]["labelled"] == (labels != 255).sum()
    assert until(run, lambda: any(e.get("planes") for e in named(events, "preview"))), run.error
    assert folder.read_preview_slice(1, AnnotatedSlice("k", 10)).shape == truth[10].shape
    run.pause()
    assert until(run, lambda: run.state == "paused"), run.error
    run.resume()
    assert until(run, lambda: training(run)), run.error
    run.stop()
    assert run.wait(60) == "done", run.error
    result = run.result()
    assert (result[labels != 255] == labels[labels != 255]).all() and iou(result, truth) > 0.6


def test_the_connection_is_lost(tmp_path, far_by_ssh):
    folder, _ = run_folder(tmp_path / "run", time_budget=60)
    run, _ = watched(folder)
    assert until(run, lambda: training(run)), run.error
    far_by_ssh.lose()
    assert run.wait(30) == "failed" and run.error.code == "connection-lost", run.error
    assert far_by_ssh.idle(), "the engine runs on unwatched"
    assert steps_taken(far_by_ssh.runs[0]) >= run.progress["step"]


def test_what_the_server_refuses(tmp_path, ssh_server):
    folder, _ = run_folder(tmp_path / "run")

    def fault():
        run, _ = watched(folder)
        assert run.wait(60) == "failed"
        assert "gpu-box" in run.error.cause
        return run.error

    known = ssh_server.known.read_text(encoding="utf-8")
    ssh_server.known.write_text("")
    assert fault().code == "ssh-host-key" and "Connect once" in fault().remedy
    other = (ssh_server.folder / "user.pub").read_text(encoding="utf-8").split()
    ssh_server.known.write_text(f"{known.split()[0]} {other[0]} {other[1]}\n")
    assert fault().code == "ssh-host-key" and "another host key" in fault().cause
    ssh_server.known.write_text(known)
    keys = ssh_server.keys.read_text(encoding="utf-8")
    ssh_server.keys.write_text("")
    assert fault().code == "ssh-permission"
    ssh_server.keys.write_text(keys)
    ssh_server.close()
    assert fault().code == "ssh-refused"


def test_no_such_python(tmp_path, ssh_server, monkeypatch):
    use(monkeypatch, ssh_server.command, "/opt/none/python3")
    run, _ = watched(run_folder(tmp_path / "run")[0])
    assert run.wait(60) == "failed" and run.error.code == "remote-python", run.error
    assert "/opt/none/python3" in run.error.cause

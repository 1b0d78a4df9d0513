"""The panel while its engine works on another computer, and after the connection was lost."""

from scenes import annotated, training

from SparseSegNetLib.remote.run_files import steps_taken


def test_a_lost_connection_is_told_and_resumed(far, makeUser):
    user = makeUser()
    user.until(lambda: user.panel.torchCard.state == "ready")
    assert "on gpu-box, to which the scan is sent" in user.ui.statusLabel.text
    annotated(user, 120.0)
    user.click("trainButton")
    user.until(lambda: training(user))
    assert len(far.runs) == 1
    far.lose()
    user.until(lambda: user.panel.controller.state == "failed")
    text = user.ui.statusLabel.text
    assert "The connection to gpu-box was lost" in text and "Resume" in text
    user.picture("19-connection-lost")
    user.until(lambda: user.ui.resumeButton.visible)
    assert far.idle()
    steps = steps_taken(far.runs[0])
    events, lost = [], user.panel.controller.run
    user.click("resumeButton")
    user.until(lambda: user.panel.controller.run not in (None, lost))
    user.panel.controller.run.observe(events.append)
    user.until(lambda: any(e["event"] == "resumed" for e in events))
    assert next(e["step"] for e in events if e["event"] == "resumed") == steps > 0
    user.until(lambda: training(user))
    user.click("stopButton")
    user.until(lambda: not user.panel.controller.active)
    assert user.panel.controller.state == "done" and not far.runs

"""The row that is always in sight: what to do next, what is shown, the run."""

from types import SimpleNamespace

import numpy as np
import slicer.util
from scenes import addVolume, paintSlices

from SparseSegNetLib.scene.results import createResultNode, createUncertaintyNode


def told(user):
    user.panel.update()
    return user.ui.whatNowLabel.text


def test_it_always_names_the_next_useful_act(user):
    assert "Load a scan" in told(user)
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    assert "Press New" in told(user)
    user.click("newSegmentationButton")
    assert "Draw all structures in one slice" in told(user)
    paintSlices(user, truth, (("k", 8),))
    assert "another direction" in user.ui.whatNowLabel.text and "1 of 3" in told(user)
    assert user.ui.dataSection.collapsed, "the room is for drawing"
    paintSlices(user, truth, (("j", 10), ("i", 15)))
    assert told(user) == "Press Train, or draw one or two more slices first."
    user.panel.torchCard.state = "missing"
    assert "Install torch" in told(user)
    user.panel.torchCard.state = "ready"
    # While a run is shown.
    controller = user.panel.controller
    controller.run = SimpleNamespace(state="paused")
    for state, part in (
        ("preparing", "comes in a few seconds"),
        ("training", "where the preview is wrong"),
        ("paused", "Press Resume"),
    ):
        controller._state = state
        user.panel.learn.update()
        assert part in user.ui.whatNowLabel.text
    controller._reset(None, "")


def test_it_stays_in_sight_on_a_laptop(user):
    volume, truth = addVolume()
    user.panel.parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth, (("k", 8), ("j", 10), ("i", 15)))
    user.picture("40-laptop", height=600)
    bar = user.ui.runBar
    top = bar.mapTo(user.window, bar.rect.topLeft()).y()
    assert top + bar.height <= user.window.height and user.ui.trainButton.visible
    assert user.ui.sectionsArea.height >= 250, "there is room to draw, too"


def test_annotation_result_and_uncertainty_are_shown_and_hidden_there(user):
    volume, truth = addVolume()
    parameters = user.panel.parameters
    parameters.volume = volume
    user.click("newSegmentationButton")
    paintSlices(user, truth, (("k", 8),))
    drawn, ui = parameters.segmentation, user.ui
    assert ui.annotationButton.checked and not ui.resultButton.enabled
    ids = list(drawn.GetSegmentation().GetSegmentIDs())
    parameters.result = createResultNode(truth, ids, drawn, volume, "dense")
    user.panel.shown.predictionCame(parameters.result)
    result = parameters.result

    def filled():
        return [bool(n.GetDisplayNode().GetVisibility2DFill()) for n in (drawn, result)]

    assert filled() == [False, True] and not ui.resultSection.collapsed
    user.click("resultButton")
    assert not result.GetDisplayNode().GetVisibility() and filled()[0]
    user.click("resultButton")
    assert result.GetDisplayNode().GetVisibility() and not filled()[0]
    user.click("annotationButton")
    assert not drawn.GetDisplayNode().GetVisibility() and not ui.annotationButton.checked
    user.click("annotationButton")
    # Another module shows the uncertainty, or hides the annotation: the row follows.
    parameters.uncertainty = createUncertaintyNode(np.zeros(truth.shape, np.uint8), volume, "u")
    slicer.util.setSliceViewerLayers(foreground=parameters.uncertainty)
    drawn.GetDisplayNode().SetVisibility(False)
    user.panel._nodesAt = 0.0
    user.panel.tick()
    assert ui.uncertaintyButton.checked and not ui.annotationButton.checked
    user.panel.shown.arrange()
    assert filled() == [False, False]

"""Check points answered with real keys on the canvas of a real viewer."""

import numpy as np
import pytest
from qtpy.QtTest import QTest

from napari_emda._gui.annotate.check_round import CROSS
from napari_emda._gui.dock import Dock
from napari_emda.data.box import Box
from napari_emda.project.check_points import CANNOT_TELL
from napari_emda.project.project import Project
from tests.gui.fake import fake_command, methods_command
from tests.predicted import RUN, annotations, project_with, tissue
from tests.viewer.hands import BUTTON, Hands


@pytest.fixture
def checked(make_napari_viewer, tmp_path, qtbot):
    """A dock with the prediction of a model that finds much too much."""
    viewer = make_napari_viewer(show=True)
    dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(dock, name="napari-emda")
    qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=240_000)
    folder = project_with(tmp_path, tissue(shift=4.0)[1])
    dock.session.adopt(Project.open(folder, exclusive=True))
    dock.show_only("Annotate", dock.annotate.check_drawer)
    yield viewer, dock
    dock.shut_down()


def mask(session):
    return np.asarray(session.opened.output("mask", "target").data[2])


def test_points_are_answered_by_keys_and_calibrate_the_mask(checked, qtbot):
    viewer, dock = checked
    truth = tissue()[0]
    session, panel = dock.session, dock.annotate
    hands, box, project = Hands(viewer, session), panel.check, session.opened.project
    before = mask(session)
    assert session.opened.output("mask", "target").visible
    box.count.setValue(60)
    qtbot.mouseClick(box.start, BUTTON)
    check_round = panel.check_round
    qtbot.waitUntil(lambda: check_round.active, timeout=60_000)
    assert not session.opened.output("mask", "target").visible
    hands.press("M")
    assert not session.opened.output("mask", "target").visible

    # The cross lies around the voxel that is asked about, in its section, in the middle.
    point = check_round.points[0]
    cross = session.opened.output(CROSS, "target")
    np.testing.assert_allclose(cross.data.mean(axis=0), point.voxel)
    middle = hands.pixel("target", point.voxel) - hands.canvas.rect().center()
    assert middle.manhattanLength() < 12
    assert viewer.dims.point[0] == pytest.approx(50.0 * point.voxel[0])

    # The digits name classes, 0 that nobody can tell, and U takes back.
    hands.press("2")
    hands.press("0")
    assert [p.answer for p in check_round.points[:3]] == [1, CANNOT_TELL, None]
    hands.press("U")
    hands.press("U")
    assert [p.answer for p in check_round.points[:3]] == [None, None, None]
    assert check_round.number == 1
    hands.press("9")
    assert check_round.number == 1

    # Escape pauses, the button goes on.
    for _ in range(5):
        hands.press(str(truth[check_round.points[check_round.number - 1].voxel] + 1))
    hands.press("Escape")
    assert not check_round.active
    assert session.opened.output("mask", "target").visible
    assert session.opened.output(CROSS, "target") is None
    assert "10 answers" in box.result.text()
    assert box.start.text() == "Go on with 55 points"
    qtbot.mouseClick(box.start, BUTTON)
    assert check_round.number == 6
    texts = set()
    while check_round.active:
        hands.press(str(truth[check_round.points[check_round.number - 1].voxel] + 1))
        texts.add(box.result.text())
    # Too early, after each ten, and at the end.
    assert len([text for text in texts if "IoU of the mask" in text]) >= 4
    painted = annotations(project)
    assert all(painted[p.voxel] == truth[p.voxel] + 1 for p in check_round.points)

    assert box.use.isEnabled()
    assert box.use.isVisible()
    qtbot.mouseClick(box.use, BUTTON)
    assert "Calibrated" in box.result.text()
    assert not box.use.isVisible()
    after = mask(session)
    assert (after > 0).sum() < 0.8 * (before > 0).sum()
    stored = project.predictions.of(RUN, "target").class_ids(Box((2, 0, 0), (3, 96, 96)))
    np.testing.assert_array_equal(after, stored[0])
    qtbot.mouseClick(box.stop, BUTTON)
    np.testing.assert_array_equal(mask(session), before)
    assert box.use.isVisible()
    assert session.opened.project.check_points.read().steps
    QTest.qWait(1)


def test_going_to_a_patch_ends_the_points_and_without_a_prediction_there_are_none(checked, qtbot):
    viewer, dock = checked
    panel, session = dock.annotate, dock.session
    qtbot.mouseClick(panel.check.start, BUTTON)
    check_round = panel.check_round
    qtbot.waitUntil(lambda: check_round.active, timeout=60_000)
    panel.patches.add_drawn("target", Box((1, 10, 10), (2, 60, 60)))
    assert not check_round.active
    assert panel.patches.current is not None
    assert not session.opened.auditing
    # The layers come back but for the mask, which would cover the paint.
    assert session.opened.image("target").visible
    assert not session.opened.output("mask", "target").visible
    Hands(viewer, session).press("2")
    assert all(point.answer is None for point in check_round.points)

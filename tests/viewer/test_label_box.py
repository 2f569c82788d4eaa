"""Numbers that are no class, as napari offers them: none of them reaches the project."""

import numpy as np
import pytest
from napari._qt.layer_controls.qt_layer_controls_container import QtLayerControlsContainer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton
from superqt import QLargeIntSpinBox

from napari_emda.project.project import Project
from tests.gui.suggested import suggest
from tests.viewer import story
from tests.viewer.hands import Hands, press_mouse


@pytest.fixture
def patch(make_napari_viewer, qtbot, tmp_path):
    """A viewer in which a patch is on view, its dock, and the layer to paint in."""
    viewer = make_napari_viewer(show=True)
    dock, _ = story.start(viewer, fake=True)

    def wait(condition):
        qtbot.waitUntil(condition, timeout=240_000)

    story.make_project(dock, tmp_path / "project", wait)
    region = {"volume": "new", "box": "2:3,20:52,20:52", "score": 0.5}
    suggest(dock.annotate.patches, [region], "entropy", "")
    hands = Hands(viewer, dock.session)
    hands.press("N")
    yield viewer, dock, dock.session.opened.output("annotations", "new"), hands
    dock.shut_down()


def label_box(viewer):
    """The box of the label in napari's layer controls, and the button beside it."""
    controls = viewer.window._qt_window.findChild(QtLayerControlsContainer)
    boxes = [box for box in controls.findChildren(QLargeIntSpinBox) if box.isVisible()]
    (new,) = (b for b in controls.findChildren(QPushButton) if b.isVisible() and b.text() == "new")
    # The label stands first, above the contour and the dimensions.
    return min(boxes, key=lambda box: box.mapToGlobal(box.rect().topLeft()).y()), new


def on_disk(dock):
    with Project.open(dock.session.opened.project.folder) as project:
        return np.unique(np.asarray(project.annotations.open("new")[:])).tolist()


def typed(box, text):
    edit = box.lineEdit()
    press_mouse(edit, edit.rect().center())
    QTest.keyClick(edit, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(edit, text)
    QTest.keyClick(edit, Qt.Key.Key_Return)


def test_no_number_but_classes_comes_from_the_label_box_the_keys_and_the_tools(patch):
    viewer, dock, layer, hands = patch
    box, new = label_box(viewer)
    for text in ("3", "7", "255"):
        typed(box, text)
        assert layer.selected_label == 2
        assert box.value() == 2  # what is painted, not what was typed
        assert "only these can be painted" in dock.notices.text()
        hands.stroke("new", [(2, 30, x) for x in range(25, 45)])
    press_mouse(new, new.rect().center())
    assert layer.selected_label == box.value() == 2
    for key in ("Equal", "Equal", "M"):
        hands.press(key)
        assert layer.selected_label == 2
    hands.press("Minus")
    assert layer.selected_label == 1
    typed(box, "9")
    for key, voxel in (("F", (2, 40, 40)), ("L", (2, 30, 30)), ("F", (2, 22, 22))):
        hands.press(key)
        hands.click("new", voxel)
    assert layer.selected_label in (0, 1, 2)
    hands.press("G")
    for voxel in ((2, 45, 25), (2, 45, 40), (2, 50, 40)):
        hands.click("new", voxel)
    hands.click("new", (2, 45, 25))
    hands.press("Ctrl-Z")
    hands.press("Ctrl-Shift-Z")
    assert set(on_disk(dock)) <= {0, 1, 2} and 2 in on_disk(dock)
    hands.press("K")
    assert [region.state for region in dock.session.opened.project.regions.all()] == ["accepted"]
    assert set(on_disk(dock)) <= {0, 1, 2}

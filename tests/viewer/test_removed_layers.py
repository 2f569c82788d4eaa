"""Layers that a user removes from a real window, drops again, and moves about."""

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest

from napari_emda._gui.dock import Dock
from napari_emda.project.project import Project
from tests.gui.fake import fake_command, methods_command
from tests.gui.suggested import suggest
from tests.viewer.chaos.projects import SHAPE, SPACING, make_project
from tests.viewer.hands import Hands


@pytest.fixture
def docked(make_napari_viewer, tmp_path):
    """A viewer with the dock and a project of two targets."""
    viewer = make_napari_viewer(show=True)
    dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(dock, name="napari-emda")
    make_project(tmp_path / "project")
    dock.data.open_project(tmp_path / "project")
    yield viewer, dock
    dock.shut_down()


def test_the_target_removed_under_a_preview_crashes_nothing(docked, qtbot):
    """Mesa crashed at the drawing that followed: see `common.canvas`."""
    viewer, dock = docked
    dock.train.main.set_values({"steps": 1000})
    dock.train.start.click()
    opened = dock.session.opened
    qtbot.waitUntil(lambda: opened.output("preview", "target") is not None, timeout=240_000)
    viewer.layers.remove(opened.image("target"))
    assert opened.output("preview", "target") is None
    dock.session.runner.say("stop")
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    assert not dock.missing.isHidden()
    dock.annotate.suggest.start.click()
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    # Suggestions show the section of the first one, for which the target comes back.
    assert opened.image("target").visible
    assert not opened.image("source").visible
    for width in (1000, 1050, 1100):
        viewer.window.resize(width, 650)
        QTest.qWait(20)
    Hands(viewer, dock.session).press("N")
    assert dock.annotate.patches.current.volume == "target"
    assert viewer.layers.selection.active is opened.output("annotations", "target")


def test_a_file_that_is_dropped_again_lies_where_the_project_has_it(make_napari_viewer, tmp_path):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    with Project.create(tmp_path / "project", ("background", "cells")) as project:
        project.volumes.add(path, "target", name="cells", spacing=SPACING)
    viewer = make_napari_viewer(show=True)
    dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(dock, name="napari-emda")
    dock.data.open_project(tmp_path / "project")
    viewer.layers.remove("cells")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    drop = QDropEvent(
        QPointF(10, 10),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    viewer.window._qt_viewer.dropEvent(drop)
    (layer,) = viewer.layers
    assert tuple(layer.scale) == SPACING
    assert dock.session.opened.image("cells") is layer
    assert dock.missing.isHidden()
    dock.shut_down()


def test_predicting_while_a_patch_is_open_says_how_to_see_the_mask(docked, qtbot):
    viewer, dock = docked
    patches = dock.annotate.patches
    suggest(
        patches, [{"volume": "target", "box": "1:2,0:16,0:16", "score": 0.5}], "entropy", "001-fake"
    )
    hands = Hands(viewer, dock.session)
    hands.press("N")
    dock.predict.volume.setCurrentText("target")
    dock.predict.start.click()
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    mask = dock.session.opened.output("mask", "target")
    assert not mask.visible  # it would lie over the paint
    assert "Press M" in dock.notices.text()
    hands.press("M")
    assert mask.visible and mask.contour > 0
    hands.press("O")
    assert mask.contour == 0
    assert dock.session.opened.output("annotations", "target").contour > 0

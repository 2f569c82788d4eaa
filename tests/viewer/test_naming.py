"""Clusters named by clicks on the canvas of a real viewer."""

import numpy as np
import pytest
from qtpy.QtTest import QTest

from napari_emda._gui.common.adapters import look_at
from napari_emda._gui.dock import Dock
from napari_emda.data.box import Box
from napari_emda.project.project import Project
from napari_emda.synthetic.phantom import phantom
from tests.gui.fake import clusters_of, fake_command, methods_command
from tests.viewer import story
from tests.viewer.hands import BUTTON, Hands


@pytest.fixture
def clustered(make_napari_viewer, tmp_path, qtbot):
    """A viewer with a project of one unlabelled volume, in which three clusters were found."""
    viewer = make_napari_viewer(show=True)
    dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(dock, name="napari-emda")
    project = Project.create(tmp_path / "project", ("background", "mitochondria"))
    image, _ = phantom(story.SHAPE, "target", 0, story.SPACING)
    project.volumes.add(
        project.volumes.store("new", image), "target", name="new", spacing=story.SPACING
    )
    clusters_of(project, "new")
    qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=240_000)
    dock.session.adopt(project)
    yield viewer, dock
    dock.shut_down()


def test_clicks_name_clusters_only_while_that_is_asked_for(clustered, qtbot):
    viewer, dock = clustered
    naming, session, hands = dock.data.naming, dock.session, Hands(viewer, dock.session)
    dock.show_only("Data")
    dock.data.naming_drawer.expand()
    _, height, width = story.SHAPE
    look_at(viewer, session.opened.place("new"), Box((2, 0, 0), (3, height, width)))
    QTest.qWait(100)
    left, middle = (2, 50, width // 6), (2, 50, width // 2)
    hands.click("new", left)
    assert session.opened.project.run("001-iic").cluster_names() == {}
    qtbot.mouseClick(naming.pick, BUTTON)
    hands.click("new", left)
    hands.click("new", middle)
    assert session.opened.project.run("001-iic").cluster_names() == {
        1: "mitochondria",
        2: "mitochondria",
    }
    mask = session.opened.output("mask", "new")
    assert np.array_equal(np.asarray(mask.data[2, 0]) > 0, np.arange(width) < 2 * width // 3)
    hands.click("new", left)
    hands.stroke(
        "new", [middle, (2, 60, width // 2), (2, 70, width // 2)]
    )  # moves the image, names nothing
    assert session.opened.project.run("001-iic").cluster_names() == {2: "mitochondria"}
    point = hands.pixel("new", middle)
    viewer.dims.ndisplay = 3
    qtbot.mouseClick(hands.canvas, BUTTON, pos=point)
    assert session.opened.project.run("001-iic").cluster_names() == {2: "mitochondria"}
    assert "switch back to 2D" in dock.notices.text()

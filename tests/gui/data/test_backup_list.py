"""The backups of the annotations are listed in the dock, once there are any."""

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_emda._gui.data.panel import DataPanel
from napari_emda.data.box import Box

MADE = 1_795_000_000.0


@pytest.fixture
def panel(session):
    panel = DataPanel(session)
    panel.show()
    return panel


def annotate(project, row):
    region = project.regions.add("target", Box((0, row, 0), (1, row + 8, 16)))
    project.annotations.accept(region, np.full((1, 8, 16), 2))


def test_they_are_listed_newest_first(session, panel, project, monkeypatch):
    assert not panel.backups.isVisible()
    session.adopt(project)
    assert not panel.backups.isVisible()
    for count in (1, 2):
        annotate(project, 8 * count)
        monkeypatch.setattr("time.time", lambda count=count: MADE + 86_400 * count)
        project.backups.make()
    session.project_changed.emit()
    assert panel.backups.isVisible()
    QTest.mouseClick(panel.backups.toggleButton(), Qt.MouseButton.LeftButton)
    assert panel.backups.sentence.isVisible()
    first, second, hint = panel.backups.sentence.text().splitlines()
    day = time.strftime("%d %b %Y", time.localtime(MADE + 2 * 86_400))
    assert first.startswith(day) and first.endswith("round 1, 2 patches")
    assert second.endswith("round 1, 1 patch")
    assert str(project.folder / "backups") in hint


def test_backups_that_are_a_link_are_an_error_and_not_listed(session, panel, project, tmp_path):
    (project.folder / "backups").symlink_to(tmp_path)
    session.adopt(project)
    assert not panel.backups.isVisible()
    assert "is a link" in session.notices[-1][1]

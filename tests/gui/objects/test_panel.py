"""The panel of objects, without a window."""

import pytest

from napari_emda._gui.objects.panel import ObjectsPanel
from tests.gui.found import disc_model, find_objects

FOUND = {"threshold": 0.4, "minimum_size": 7, "separate": 0.6}


@pytest.fixture
def found(project):
    """A project whose objects were found with other settings than the default ones."""
    disc_model(project, "target", discs={"lone": ((20, 20),)})
    find_objects(project, "target", **FOUND)
    return project


def boxes(panel):
    return panel.threshold.value(), panel.smallest.value(), panel.separate.value()


def test_a_project_opens_with_the_settings_that_its_objects_were_found_with(session, found, qtbot):
    panel = ObjectsPanel(session)
    qtbot.addWidget(panel)
    assert boxes(panel) == (0.5, 0, 0.0)
    session.adopt(found)
    assert boxes(panel) == (0.4, 7, 0.6)
    assert session.mask.for_export() == FOUND


def test_what_the_user_has_set_is_kept(session, found, qtbot):
    panel = ObjectsPanel(session)
    qtbot.addWidget(panel)
    panel.threshold.setValue(0.7)
    session.adopt(found)
    assert boxes(panel) == (0.7, 0, 0.0)


def test_a_project_without_objects_changes_no_settings(session, project, qtbot):
    panel = ObjectsPanel(session)
    qtbot.addWidget(panel)
    session.adopt(project)
    assert boxes(panel) == (0.5, 0, 0.0)

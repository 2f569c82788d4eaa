"""A project that cannot be opened offers its repair, and opens after it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_emda._gui.data.panel import DataPanel
from napari_emda.data.box import Box
from napari_emda.project.project import Project


@pytest.fixture
def panel(session):
    return DataPanel(session)


@pytest.fixture
def damaged(project):
    """A project with a backup, whose ``project.json`` is nonsense."""
    region = project.regions.add("target", Box((0, 0, 0), (1, 16, 16)))
    project.annotations.accept(region, np.full((1, 16, 16), 2))
    project.backups.make()
    project.close()
    (project.folder / "project.json").write_text("nonsense")
    return project.folder


@pytest.fixture
def press(qtbot, panel):
    def press_answer(answer):
        button = panel.opening.repair.buttons[answer]
        # A new button has no height until its layout is activated, and then no click meets it.
        qtbot.waitUntil(lambda: not button.visibleRegion().isEmpty(), timeout=60_000)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    return press_answer


def test_a_damaged_project_is_repaired_and_opened(qtbot, session, panel, damaged, press):
    panel.show()
    panel.open_project(damaged)
    assert session.notices[-1][0] == "error"
    assert "project.json" in session.notices[-1][1]
    assert panel.opening.repair.isVisible()
    press("Check and repair")
    qtbot.waitUntil(lambda: session.opened is not None, timeout=60_000)
    assert session.opened.project.folder == damaged
    assert "was taken from the backup" in panel.opening.repair.sentence.text()
    assert "rescued" in panel.opening.repair.sentence.text()
    tone, message = session.notices[-1]
    assert (tone, message.partition("\n")[0]) == ("done", "1 damage was found, 1 repaired.")
    assert [path.read_text() for path in (damaged / "rescued").glob("*/project.json")] == [
        "nonsense"
    ]
    press("Close this report")
    assert not panel.opening.repair.isVisible()


def test_the_user_may_leave_it_as_it_is(session, panel, damaged, press):
    panel.show()
    panel.open_project(damaged)
    press("Leave it as it is")
    assert not panel.opening.repair.isVisible()
    assert (damaged / "project.json").read_text() == "nonsense"
    assert not (damaged / "rescued").exists()


def test_what_cannot_be_repaired_is_said(qtbot, session, panel, damaged, press):
    for path in (damaged / "backups").iterdir():
        path.unlink()
    panel.show()
    panel.open_project(damaged)
    press("Check and repair")
    qtbot.waitUntil(lambda: "Close this report" in panel.opening.repair.buttons, timeout=60_000)
    assert session.opened is None
    assert "put a copy of it back" in panel.opening.repair.sentence.text()
    tone, message = session.notices[-1]
    assert (tone, message.partition("\n")[0]) == ("error", "1 damage was found, 0 repaired.")


def test_other_folders_and_open_projects_are_not_offered_for_repair(
    session, panel, project, tmp_path
):
    panel.show()
    (tmp_path / "photos").mkdir()
    panel.open_project(tmp_path / "photos")
    assert not panel.opening.repair.asked
    with Project.open(tmp_path / "project") as other:
        panel.open_project(other.folder)  # the fixture has it open
    assert "open elsewhere" in session.notices[-1][1]
    assert not panel.opening.repair.asked


def test_a_server_that_a_project_names_is_contacted_once_the_user_agrees(
    session, panel, project, press, monkeypatch
):
    project.close()
    path = project.folder / "project.json"
    content = json.loads(path.read_text())
    content["volumes"][0]["image"] = "http://127.0.0.1:1/a.zarr"
    path.write_text(json.dumps(content))
    panel.show()
    panel.open_project(project.folder)
    assert "never read on this computer" in session.notices[-1][1]
    assert "http://127.0.0.1:1" in panel.opening.repair.sentence.text()
    press("Do not open it")
    panel.open_project(project.folder)
    assert "never read on this computer" in session.notices[-1][1]
    press("Read from it")
    # Nobody answers there: the project opens with its other volumes.
    assert any(
        "http://127.0.0.1:1" in text and "cannot be read" in text for _, text in session.notices
    )
    assert session.opened.project.folder == project.folder

"""The project is packed and reported from the dock, in the background."""

from __future__ import annotations

import json
import sys
import threading
import zipfile

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_emda._gui.export import hand_on
from napari_emda._gui.export.panel import ExportPanel
from napari_emda.events import Phase
from napari_emda.project.project import Project

# A child that notes its arguments and answers as `napari-emda report` does.
CHILD = """
import json, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(json.dumps(sys.argv[2:]))
if "slow" in sys.argv[1]:
    time.sleep(600)
if "bad" in sys.argv[1]:
    sys.exit("Nothing was trained: train a model first.")
print(json.dumps({"missing": ["No audit was done."]}))
"""


@pytest.fixture
def panel(session, project):
    shown = ExportPanel(session)
    assert not shown.hand_on.pack.isEnabled()
    session.adopt(project)
    assert shown.hand_on.pack.isEnabled()
    return shown.hand_on


@pytest.fixture
def choose(monkeypatch):
    """A function that answers the next file dialogs."""
    return lambda path: monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(path), "")
    )


def wait_for_text(qtbot, session, text):
    qtbot.waitUntil(lambda: any(text in said for _, said in session.notices[-1:]), timeout=20_000)


def test_a_project_is_packed(qtbot, session, panel, choose, tmp_path):
    choose(tmp_path / "mine")
    panel.images.setCurrentIndex(panel.images.findData("whole"))
    panel.pack.click()
    assert not panel.pack.isEnabled() and not panel.report.isEnabled()
    assert not panel.stop.isHidden()
    wait_for_text(qtbot, session, "The project is packed in ")
    assert session.notices[-1][0] == "done"
    with zipfile.ZipFile(tmp_path / "mine.zip") as file:
        assert {"project.json", "pack.jsonl"} <= set(file.namelist())
    assert panel.pack.isEnabled() and panel.stop.isHidden() and not panel.phase.text()
    # Without images, they are named; a file that the dialog has not asked for is never replaced.
    panel.images.setCurrentIndex(panel.images.findData("none"))
    before = (tmp_path / "mine.zip").read_bytes()
    panel.pack.click()
    assert "mine.zip' exists already" in session.notices[-1][1]
    assert (tmp_path / "mine.zip").read_bytes() == before
    choose(tmp_path / "mine.zip")
    panel.pack.click()
    wait_for_text(qtbot, session, "Not in it: source-")
    assert "zip: 1 file, " in session.notices[-1][1]
    assert len((tmp_path / "mine.zip").read_bytes()) < len(before)


def test_packing_is_stopped_and_leaves_nothing(
    qtbot, session, panel, choose, tmp_path, monkeypatch
):
    going, steps = threading.Event(), []

    def slow(project, path, images, overwrite):
        # Not the one of the window, which is not made for two threads.
        assert isinstance(project, Project) and project is not session.opened.project
        try:
            while True:
                steps.append(len(steps))
                yield Phase("Packing, 0 %")
                going.wait()
        finally:
            steps.append("closed")

    monkeypatch.setattr(hand_on, "pack", slow)
    choose(tmp_path / "mine.zip")
    panel.pack.click()
    qtbot.waitUntil(lambda: panel.phase.text() == "Packing, 0 % …")
    panel.stop.click()
    going.set()
    wait_for_text(qtbot, session, "Stopped; no file was written.")
    assert steps[-1] == "closed" and not (tmp_path / "mine.zip").exists()


def reporting(panel, path):
    panel._command = (sys.executable, "-c", CHILD, str(path))


def test_a_child_process_writes_the_report(qtbot, session, panel, choose, tmp_path):
    reporting(panel, tmp_path / "arguments")
    folder = str(session.opened.project.folder)
    to = str(tmp_path / "a.html")
    for overwrite in ([], ["--overwrite"]):
        choose(to)
        panel.report.click()
        session.notices.append(("", ""))
        wait_for_text(qtbot, session, "The report is in ")
        assert session.notices[-1][1].endswith("No audit was done.")
        said = json.loads((tmp_path / "arguments").read_text())
        assert said == [folder, "--to", to, "--json", *overwrite]
        (tmp_path / "a.html").touch()
    # What the project has learnt since is not in it.
    choose(tmp_path / "b.html")
    panel.report.click()
    session.project_changed.emit()
    wait_for_text(qtbot, session, "The project has changed meanwhile")
    reporting(panel, tmp_path / "bad")
    panel.report.click()
    wait_for_text(qtbot, session, "Nothing was trained: train a model first.")
    assert session.notices[-1][0] == "error"


def test_a_closed_dock_waits_for_no_report(qtbot, session, panel, choose, tmp_path):
    reporting(panel, tmp_path / "slow")
    choose(tmp_path / "a.html")
    panel.report.click()
    qtbot.waitUntil((tmp_path / "slow").exists, timeout=60_000)
    session.close()
    assert panel._ending.is_set()

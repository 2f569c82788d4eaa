"""Where jobs compute: chosen by clicks and keys, given to jobs, kept for the user."""

from __future__ import annotations

import subprocess

import pytest
from qtpy.QtCore import Qt

from napari_emda._gui.predict import where_box
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda.project.computing_place import computing_place
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.settings.where import Where


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def panel(qtbot, session, predicted):
    panel = PredictPanel(session)
    qtbot.addWidget(panel)
    panel.show()
    session.adopt(predicted)
    return panel


@pytest.fixture
def started(session, monkeypatch):
    jobs = []
    monkeypatch.setattr(session.runner, "start", jobs.append)
    return jobs


def choose(qtbot, box, what):
    """Choose an entry with the keyboard."""
    box.what.setFocus()
    qtbot.keyClick(box.what, Qt.Key.Key_Home)
    for _ in range(box.what.findText(what)):
        qtbot.keyClick(box.what, Qt.Key.Key_Down)
    assert box.what.currentText() == what


def test_jobs_compute_here_unless_something_else_is_chosen(qtbot, panel, session, started):
    folder = str(session.opened.project.folder)
    session.start(SuggestJob(project=folder))
    choose(qtbot, panel.where, "several processes")
    session.start(SuggestJob(project=folder))
    assert [job.where for job in started] == [Where(), Where(workers=2)]
    assert computing_place(session.opened.project.folder) == Where(workers=2)
    choose(qtbot, panel.where, "this computer")
    assert not session.where.elsewhere
    assert not computing_place(session.opened.project.folder).elsewhere


def test_a_training_computes_in_its_own_process(qtbot, panel, session, started):
    choose(qtbot, panel.where, "several processes")
    session.start(TrainJob(project=str(session.opened.project.folder), method="source_only"))
    assert not hasattr(started[0], "where")


@pytest.mark.parametrize(
    ("what", "line", "text", "where"),
    [
        ("a scheduler", "address", "tcp://server:8786", Where(scheduler="tcp://server:8786")),
        ("a cluster's queue", "file", "slurm.yaml", Where(cluster="slurm.yaml", workers=2)),
    ],
)
def test_what_is_typed_is_found_again_in_the_next_session(
    what, line, text, where, qtbot, panel, session, predicted
):
    choose(qtbot, panel.where, what)
    # Nothing is predicted here, as if nothing had been chosen.
    assert "choose this computer" in panel.obstacle()
    assert not panel.start.isEnabled()
    box = getattr(panel.where, line)
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert panel.start.isEnabled()
    assert session.where == where
    again = PredictPanel(session)
    qtbot.addWidget(again)
    session.adopt(predicted)
    assert again.where.where == where
    assert again.where.what.currentText() == what


def test_the_check_says_what_the_workers_say(qtbot, panel, monkeypatch):
    asked = []

    def ask(command, *_):
        asked.append(command)
        said = '{"workers": 2, "text": "2 workers answer."}'
        return subprocess.CompletedProcess(command, 0, f"line\n{said}\n", "")

    monkeypatch.setattr(where_box, "ask", ask)
    choose(qtbot, panel.where, "several processes")
    qtbot.mouseClick(panel.where.check, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.where.answer.text() == "2 workers answer.")
    assert panel.where.answer.tone == "done"
    assert asked[0][-1] == "--workers=2"


def test_the_check_says_what_is_wrong(qtbot, panel, session):
    choose(qtbot, panel.where, "a scheduler")
    qtbot.keyClicks(panel.where.address, "nonsense")
    qtbot.keyClick(panel.where.address, Qt.Key.Key_Return)
    qtbot.mouseClick(panel.where.check, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.where.answer.tone == "error", timeout=60_000)
    assert panel.where.answer.text().startswith("No scheduler answers at 'nonsense'")
    assert panel.where.check.isEnabled()


def test_a_queue_may_be_asked_for_one_worker_and_it_is_found_again(
    qtbot, panel, session, predicted
):
    choose(qtbot, panel.where, "a cluster's queue")
    qtbot.keyClicks(panel.where.file, "slurm.yaml")
    qtbot.keyClick(panel.where.workers, Qt.Key.Key_Down)
    assert session.where == Where(cluster="slurm.yaml", workers=1)
    session.adopt(predicted)
    assert panel.where.where == session.where
    # One process is this computer's own.
    choose(qtbot, panel.where, "several processes")
    assert session.where == Where(workers=2)


def test_a_check_ends_when_the_dock_is_closed(qtbot, panel, session, monkeypatch):
    stops = []

    def ask(command, stop, patience):
        stops.append(stop)
        assert stop.wait(60)
        return subprocess.CompletedProcess(command, -9, "", "")

    monkeypatch.setattr(where_box, "ask", ask)
    choose(qtbot, panel.where, "several processes")
    qtbot.mouseClick(panel.where.check, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: stops != [])
    assert not stops[0].is_set()
    session.close()
    assert stops[0].is_set()

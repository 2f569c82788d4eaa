"""What all panels have in common that start a job, on a panel that is nothing else."""

import pytest

from napari_emda._gui.job_panel import JobPanel
from napari_emda.errors import JobError
from napari_emda.events import Finished
from napari_emda.project.job_files import PredictJob, SuggestJob


class Predicting(JobPanel):
    """Notes what happens to it."""

    def __init__(self, session):
        super().__init__(session, "predict", start="Go", tip="Do it.")
        self.obstacle_in_project = ""
        self.seen = []
        self.listen()

    def why_not(self, opened):
        return self.obstacle_in_project or self._session.runner.busy

    def job(self, opened):
        if self.obstacle_in_project == "late":
            raise JobError("It cannot be done: do something else.")
        return PredictJob(project=str(opened.project.folder), run="001-fake", volume="target")

    def offer(self, opened):
        self.offered = opened

    def before_start(self, opened):
        self.seen.append("before")

    def on_catalogue(self, catalogue):
        self.seen.append("catalogue")

    def on_project(self, opened):
        self.seen.append("project")

    def on_started(self, job):
        self.seen.append(job.kind)

    def on_event(self, opened, event):
        self.seen.append("event")

    def on_ended(self, opened, job, last):
        self.seen.append(type(last))


@pytest.fixture
def panel(session, qtbot):
    panel = Predicting(session)
    qtbot.addWidget(panel)
    return panel


def test_without_a_project_the_panel_says_so_and_starts_nothing(session, panel):
    assert not panel.start.isEnabled()
    assert panel.reason.text() == "There is no project yet: choose your layers in Data."
    panel.start_job()
    assert session.notices == [("error", panel.reason.text())]
    assert session.runner.job is None and panel.seen == []


def test_the_reason_comes_and_goes_with_the_obstacle(session, panel, predicted, catalogue):
    session.adopt(predicted)
    session.set_catalogue(catalogue)
    assert panel.seen == ["project", "catalogue"]
    assert panel.offered is session.opened
    assert panel.start.isEnabled() and panel.reason.text() == ""
    panel.obstacle_in_project = "Something is missing: add it."
    session.project_changed.emit()
    assert not panel.start.isEnabled()
    assert panel.reason.text() == "Something is missing: add it."


def test_a_job_of_the_panel_is_followed_from_start_to_end(qtbot, session, panel, predicted):
    session.adopt(predicted)
    panel.seen.clear()
    panel.start.click()
    assert panel.seen == ["before", "predict"]
    assert panel.running and not panel.start.isEnabled()
    assert panel.reason.text() == ""  # that it runs is what the strip says
    qtbot.waitUntil(lambda: session.runner.job is None, timeout=240_000)
    assert set(panel.seen[2:-1]) == {"event"}
    assert panel.seen[-1] is Finished
    assert not panel.running and panel.start.isEnabled()


def test_jobs_of_other_panels_only_stand_in_the_way(qtbot, session, panel, predicted):
    session.adopt(predicted)
    panel.seen.clear()
    session.start(SuggestJob(project=str(predicted.folder), run="001-fake"))
    assert not panel.running and not panel.start.isEnabled()
    assert panel.reason.text() == session.runner.busy
    qtbot.waitUntil(lambda: session.runner.job is None, timeout=240_000)
    assert panel.seen == [] and panel.start.isEnabled()


def test_a_mistake_in_the_form_is_said_and_nothing_starts(session, panel, predicted, monkeypatch):
    session.adopt(predicted)
    monkeypatch.setattr(panel, "why_not", lambda opened: "")
    panel.obstacle_in_project = "late"
    panel.start_job()
    assert session.notices[-1] == ("error", "It cannot be done: do something else.")
    assert session.runner.job is None

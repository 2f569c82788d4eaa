"""What all panels have in common that start a job."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.widgets import Sentence, button
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished, Started
from napari_emda.project.job_files import Job

NO_PROJECT = "There is no project yet: choose your layers in Data."


class JobStarter(QWidget):
    """The sentence that says why a job cannot start, and the button that starts it.

    A panel makes its widgets, puts `reason` and `start` among them and calls `listen` at the end.
    It says `why_not` and which `job` to start. What it offers, and what it does with the project
    and its jobs, it says where that is more than nothing: in `offer`, `before_start` and the
    methods that begin with ``on_``.

    Args:
        session: of the dock.
        kind: of the jobs, such as ``train``.
        start: the text of the button.
        tip: its tooltip.

    Attributes:
        reason: why the job cannot start.
        start: the button.
    """

    def __init__(self, session: Session, kind: str, *, start: str, tip: str) -> None:
        super().__init__()
        self._session = session
        self._kind = kind
        self.reason = Sentence()
        self.start = button(start, tip, self.start_job)

    # -- what a panel says -------------------------------------------------------------------

    @abstractmethod
    def why_not(self, opened: OpenProject) -> str:
        """Why the job cannot start now, in one sentence; empty when it can."""

    @abstractmethod
    def job(self, opened: OpenProject) -> Job:
        """What to start; an EmdaError is shown to the user."""

    @property
    def no_project(self) -> str:
        """Why there is nothing to be done before a project is open."""
        return NO_PROJECT

    def offer(self, opened: OpenProject | None) -> None:
        """Bring lists and fields up to date with what there is."""

    def before_start(self, opened: OpenProject) -> None:
        """Bring on view what the job is about."""

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """Methods and strategies were read."""

    def on_project(self, opened: OpenProject) -> None:
        """A project was opened."""

    def on_started(self, job: Job) -> None:
        """A job of this kind began."""

    def on_event(self, opened: OpenProject, event: Any) -> None:
        """A job of this kind says something."""

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """A job of this kind is over."""

    # -- what all panels do ------------------------------------------------------------------

    def listen(self) -> None:
        """Follow the project and its jobs from now on, when all widgets are there."""
        session = self._session
        session.catalogue_changed.connect(self._on_catalogue)
        session.project_opened.connect(self.on_project)
        session.project_changed.connect(self.update_state)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)
        session.runner.ended.connect(self._on_ended)
        self.update_state()

    @property
    def running(self) -> bool:
        """Whether a job of this kind runs."""
        job = self._session.runner.job
        return job is not None and job.kind == self._kind

    def obstacle(self) -> str:
        """Why the job cannot start now, be it that there is no project; empty when it can."""
        opened = self._session.opened
        return self.no_project if opened is None else self.why_not(opened)

    def says_why(self) -> bool:
        """Whether the reason is to be seen: it would be that the job runs already."""
        return not self.running

    def update_state(self) -> None:
        """Offer what there is, and grey out what cannot be done, with the reason above it."""
        self.offer(self._session.opened)
        obstacle = self.obstacle()
        self.reason.show_text(obstacle if self.says_why() else "", "hint")
        self.start.setEnabled(not obstacle)

    def start_job(self) -> None:
        """Start the job in the background, or say why not."""
        opened = self._session.opened
        obstacle = self.obstacle()
        if opened is None or obstacle:
            self._session.say(obstacle, "error")
            return
        with self._session.telling():
            self.before_start(opened)
            self._session.start(self.job(opened))

    def _on_catalogue(self, catalogue: Catalogue) -> None:
        self.on_catalogue(catalogue)
        self.update_state()

    def _on_started(self, job: Job) -> None:
        self.update_state()
        if self.running:
            self.on_started(job)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Started):  # the run's folder is there now
            self.update_state()
        if self._session.opened is not None and self.running:
            self.on_event(self._session.opened, event)

    def _on_ended(self, last: Finished | Failed) -> None:
        opened = self._session.opened
        job = self._session.runner.last_job
        if opened is not None and job is not None and job.kind == self._kind:
            self.on_ended(opened, job, last)
        self.update_state()


class JobPanel(JobStarter):
    """A form, the reason why not, the button that starts the job, and its progress.

    Args:
        session: of the dock.
        kind: of the jobs, such as ``train``.
        start: the text of the button.
        tip: its tooltip.
        stop: what the button says that stops the job.
        pause: whether the job can be paused.

    Attributes:
        strip: the progress of the jobs of this kind, whoever has started them.
    """

    def __init__(
        self,
        session: Session,
        kind: str,
        *,
        start: str,
        tip: str,
        stop: str = "Stop",
        pause: bool = False,
    ) -> None:
        super().__init__(session, kind, start=start, tip=tip)
        self.strip = JobStrip(session.runner, kind, stop=stop, pause=pause)

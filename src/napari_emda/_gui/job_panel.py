"""What all panels have in common that start a job."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QComboBox, QMessageBox, QWidget

from napari_emda._gui.common.widgets import Sentence, button, refill
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished, Started
from napari_emda.project.job_files import Job
from napari_emda.project.region import AUDIT

NO_PROJECT = "There is no project yet: choose your layers in Data."


class JobStarter(QWidget):
    """A button that starts a job, and a sentence that says why the job cannot start.

    A subclass creates its widgets, places `reason` and `start` among them and calls `listen` at the
    end of its ``__init__``. It must define `why_not` and `job`. It may override `offer` (fill lists
    and fields), `before_start`, and the methods that begin with ``on_``.

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
        self._tip = tip
        self.reason = Sentence()
        self.start = button(start, tip, self.start_job)

    # -- defined by each panel -------------------------------------------------------------------

    @abstractmethod
    def why_not(self, opened: OpenProject) -> str:
        """Why the job cannot start now, in one sentence; empty if it can."""

    @abstractmethod
    def job(self, opened: OpenProject) -> Job:
        """The job to start; an EmdaError is shown to the user."""

    @property
    def no_project(self) -> str:
        """Why the job cannot start while no project is open."""
        return NO_PROJECT

    def offer(self, opened: OpenProject | None) -> None:
        """Update lists and fields for the current project, runs and annotations."""

    def may_start(self, opened: OpenProject) -> bool:
        """Whether the user agrees, if a question is due."""
        return True

    def before_start(self, opened: OpenProject) -> None:
        """Show what the job works on."""

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """The methods and strategies were read."""

    def on_project(self, opened: OpenProject) -> None:
        """A project was opened."""

    def on_started(self, job: Job) -> None:
        """A job of this kind began."""

    def on_event(self, opened: OpenProject, event: Any) -> None:
        """A job of this kind sent an event."""

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """A job of this kind ended."""

    # -- common to all panels ------------------------------------------------------------------

    def listen(self) -> None:
        """Connect to the session and update; call it when all widgets exist."""
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
        """Whether a job of this kind is running."""
        job = self._session.runner.job
        return job is not None and job.kind == self._kind

    def obstacle(self) -> str:
        """Why the job cannot start now, including that no project is open; empty if it can."""
        opened = self._session.opened
        return self.no_project if opened is None else self.why_not(opened)

    def says_why(self) -> bool:
        """Whether to show the reason."""
        # While the job runs, the reason would be "it is running", which the strip shows better.
        return not self.running

    def update_state(self) -> None:
        """Update the lists; disable the button if the job cannot start, and show the reason."""
        self.offer(self._session.opened)
        self.review()

    def review(self) -> None:
        """Disable the button if the job cannot start, and show the reason."""
        obstacle = self.obstacle()
        self.reason.show_text(obstacle if self.says_why() else "", "hint")
        self.start.setEnabled(not obstacle)
        # A button that is off says why, where there is no sentence.
        self.start.setToolTip(obstacle or self._tip)

    def start_job(self) -> None:
        """Start the job in the background, or say why not."""
        # Checked again: the button's state may be older than what has happened since.
        opened = self._session.opened
        obstacle = self.obstacle()
        if opened is None or obstacle:
            self._session.say(obstacle, "error")
            return
        if not self.may_start(opened):
            return
        with self._session.showing_errors():
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
        # With its start a run gets a folder, and so appears in the lists of runs.
        if isinstance(event, Started):
            self.update_state()
        if self._session.opened is not None and self.running:
            self.on_event(self._session.opened, event)

    def _on_ended(self, last: Finished | Failed) -> None:
        # The runner has no current job any more when it says that one has ended.
        opened = self._session.opened
        job = self._session.runner.last_job
        if opened is not None and job is not None and job.kind == self._kind:
            self.on_ended(opened, job, last)
        self.update_state()


def may_suggest(parent: QWidget, opened: OpenProject) -> bool:
    """Ask whether new patches may replace those of an audit that is not done; True without one."""
    regions = opened.project.regions.all()
    pending = sum(r.strategy == AUDIT and r.state == "suggested" for r in regions)
    if not pending:
        return True
    patches = "1 patch of the audit is" if pending == 1 else f"{pending} patches of the audit are"
    question = QMessageBox(parent)
    question.setWindowTitle("The audit is not done")
    question.setText(
        f"{patches} not done yet. New patches take their place; those that are done still count."
    )
    drop = question.addButton("Drop them and go on", QMessageBox.ButtonRole.AcceptRole)
    keep = question.addButton("Go on with the audit", QMessageBox.ButtonRole.RejectRole)
    question.setDefaultButton(keep)
    question.exec()
    return question.clickedButton() is drop


class JobPanel(JobStarter):
    """A form, the reason why not, the button that starts the job, and its progress.

    Args:
        session: of the dock.
        kind: of the jobs, such as ``train``.
        start: the text of the button.
        tip: its tooltip.
        stop: the text of the button that stops the job.
        pause: whether the job can be paused.

    Attributes:
        strip: the progress of all jobs of this kind, whichever panel has started them.
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


def offer_runs(
    box: QComboBox, opened: OpenProject | None, *, before: Sequence[str] = (), newest: bool = True
) -> None:
    """List the runs in a combo box, those that were interrupted with a remark.

    Args:
        box: to fill; `chosen_name` returns the chosen run.
        opened: the project; None for no run.
        before: entries before the runs.
        newest: whether a new model is chosen, because users want to use it.
    """
    runs = opened.runs if opened is not None else []
    texts = [opened.project.runs.in_words(run) for run in runs] if opened is not None else []
    refill(box, [*before, *runs], prefer_first=newest, texts=[*before, *texts])

"""The second panel: choose a method, train it in the background, watch it improve."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_emda._gui.common.choice_box import ChoiceBox
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import (
    Drawer,
    Sentence,
    button,
    column,
    labelled,
    narrow,
    refill,
)
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue, offered, summaries
from napari_emda._gui.session import Session
from napari_emda._gui.train.curves import Curves
from napari_emda._gui.train.live_preview import show_preview, show_translation
from napari_emda._gui.train.network_form import NetworkForm
from napari_emda._gui.train.start_from import StartFrom
from napari_emda.data.box import Box
from napari_emda.events import Failed, Finished, Preview, Started, Translated
from napari_emda.project.comparison import BASELINE, missing
from napari_emda.project.job_files import Job, TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.requirements import UNLABELLED
from napari_emda.settings.training import PROFILES, TrainSettings

# The initial choice: the first of them that is installed.
DEFAULT_METHODS = ("auto", "source_only")
# Seconds between two requests for a preview: often enough to follow the user through sections,
# seldom enough not to slow down the training.
VIEW_SECONDS = 0.7
# The settings that are shown outside Advanced.
_BASIC = ("steps", "profile")
# Shown until the child process has listed the methods, which takes seconds.
_READING = "Reading the list of methods …"


class TrainPanel(JobPanel):
    """Method and settings, start and stop, losses, and previews of the current section."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "train",
            start="Start",
            tip="Train in the background; the viewer stays usable.",
            stop="Stop and keep",
            pause=True,
        )
        self._forms: dict[str, SettingsForm] = {}
        self.method = ChoiceBox()
        self.method.setToolTip("The method by which the network learns.")
        self.sentence = Sentence()
        schema = TrainSettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _BASIC)
        elsewhere = (*_BASIC, "network")
        self.advanced = SettingsForm(schema, lambda field: field.name not in elsewhere)
        self.network = NetworkForm(session)
        self.method_box = QWidget()
        self.start_from = StartFrom(session)
        self.interrupted = narrow(QComboBox())
        self.interrupted.setAccessibleName("interrupted trainings")
        self.interrupted.setToolTip("The trainings that were interrupted, the newest first.")
        self.interrupted.currentTextChanged.connect(lambda _: self._name_resume())
        self.resume = button(
            "Resume", "Continue this training from its last checkpoint.", self.resume_training
        )
        self.curves = Curves()
        self.compare = button(
            "Compare with no adaptation",
            "Train the same without using the target, to see whether adaptation helped.",
            self.train_without_adaptation,
        )
        self._asked: Box | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(int(VIEW_SECONDS * 1000))
        self._timer.timeout.connect(self._ask_preview)
        self._build()
        session.closing.connect(self._stop_asking)
        self.method.currentTextChanged.connect(self._on_method)
        self.main["profile"].changed.connect(self._on_profile)
        self.start_from.box.currentTextChanged.connect(lambda _: self._on_start_from())
        # The default profile: sets the forms, which are still at the plain defaults.
        self._on_profile("fast")
        self.listen()

    def _build(self) -> None:
        self._method_forms = QVBoxLayout(self.method_box)
        self._method_forms.setContentsMargins(0, 0, 0, 0)
        inside = QWidget()
        column(inside, self.start_from, self.network, self.method_box, self.advanced.native)
        self.interrupted.hide()
        self.resume.hide()
        self.compare.hide()
        column(
            self,
            labelled(("method", self.method)),
            self.sentence,
            self.main.native,
            Drawer("Advanced", inside),
            self.reason,
            self.start,
            self.interrupted,
            self.resume,
            self.strip,
            self.curves,
            self.compare,
        )

    # -- settings ----------------------------------------------------------------------------

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """List the methods, keeping the choice."""
        before = self.method.currentText()
        self.offer(self._session.opened)
        wanted = [name for name in (before, *DEFAULT_METHODS) if name in catalogue.methods]
        if wanted:
            self.method.setCurrentText(wanted[0])
        if self._session.opened is not None:
            self.on_project(self._session.opened)
        self._on_start_from()

    def offer(self, opened: OpenProject | None) -> None:
        """List the methods, the recommended ones that the project can use first."""
        catalogue = self._session.catalogue
        if catalogue is not None:
            available = opened.project.available if opened is not None else None
            groups = offered(catalogue.methods, available)
            self.method.offer(*groups, summaries(catalogue.methods))

    def on_project(self, opened: OpenProject) -> None:
        """Choose a method that the project can use."""
        if not opened.project.available.labelled:
            # Does nothing until the methods are read; `on_catalogue` then calls this again.
            self.method.setCurrentText(UNLABELLED)
            return
        catalogue = self._session.catalogue
        chosen = catalogue.methods.get(self.method.currentText()) if catalogue is not None else None
        if catalogue is not None and chosen is not None and chosen.missing(opened.project):
            first, _ = offered(catalogue.methods, opened.project.available)
            if first:
                self.method.setCurrentText(first[0])

    def _on_method(self, name: str) -> None:
        catalogue = self._session.catalogue
        method = catalogue.methods.get(name) if catalogue is not None else None
        if method is None:
            return
        self.sentence.show_text(method.summary)
        for form in self._forms.values():
            form.native.hide()
        if name not in self._forms:
            self._forms[name] = SettingsForm(method.schema)
            self._method_forms.addWidget(self._forms[name].native)
        self._forms[name].native.setVisible(bool(self._forms[name].fields))
        self.update_state()

    def _on_profile(self, profile: str) -> None:
        # What the last profile has set and this one does not must go back to its default.
        governed = {key for values in PROFILES.values() for key in values}
        for form in (self.main, self.advanced):
            form.reset(governed)
            form.set_values(PROFILES.get(profile, {}))
        self._on_start_from()

    def _on_start_from(self) -> None:
        """Use the network of the profile, or the fixed one of the run to start from."""
        before = self.start_from.job()
        if before is None:
            self.network.set_profile(self.main.values()["profile"])
            if not self.advanced["context"].enabled:
                self.advanced.reset(["context"])
            self.advanced.lock(())
        else:
            self.network.fix(before.settings.network, before.network_settings)
            # The weights fit as many sections as the network has seen.
            self.advanced.set_values({"context": before.settings.context})
            self.advanced.lock(["context"])

    def settings(self) -> TrainSettings:
        """The training settings in the forms."""
        values = {**self.main.values(), **self.advanced.values(), "network": self.network.name}
        return TrainSettings.parse(values)

    def method_settings(self) -> dict[str, Any]:
        """The settings of the chosen method that differ from its defaults."""
        form = self._forms.get(self.method.currentText())
        return form.changed_values() if form is not None else {}

    # -- starting ----------------------------------------------------------------------------

    @property
    def no_project(self) -> str:
        """The reason without a project; until the methods are read, that they are being read."""
        return super().no_project if self._session.catalogue is not None else _READING

    def why_not(self, opened: OpenProject) -> str:
        """Why no training can start now, in one sentence; empty if it can."""
        session = self._session
        if session.catalogue is None:
            return _READING
        if session.runner.busy:
            return session.runner.busy
        method = session.catalogue.methods.get(self.method.currentText())
        if method is None:
            return "Choose a method."
        return method.missing(opened.project)

    def job(self, opened: OpenProject) -> TrainJob:
        """A training with the settings in the forms."""
        return TrainJob(
            project=str(opened.project.folder),
            method=self.method.currentText(),
            settings=self.settings(),
            method_settings=self.method_settings(),
            network_settings=self.network.values(),
            start_from=self.start_from.run,
        )

    def update_state(self) -> None:
        """Update the state, and offer to resume or to compare if that is possible."""
        catalogue = self._session.catalogue
        method = catalogue.methods.get(self.method.currentText()) if catalogue else None
        if method is not None and method.requirements.model != "none":
            self.start_from.choose_latest()
        super().update_state()
        self.start.setVisible(not self.running)
        opened = self._session.opened
        idle = opened if not self._session.runner.busy else None
        interrupted = idle.project.runs.interrupted() if idle is not None else []
        refill(self.interrupted, interrupted, prefer_first=True)
        # With a single one there is nothing to choose.
        self.interrupted.setVisible(len(interrupted) > 1)
        self.resume.setVisible(bool(interrupted))
        self._name_resume()
        unfinished = idle is not None and idle.project.runs.newest_was_interrupted
        self.compare.setVisible(not unfinished and self._without_adaptation() is not None)

    def _name_resume(self) -> None:
        """Say which run is resumed and from where."""
        opened = self._session.opened
        run = self.interrupted.currentText()
        if opened is not None and run:
            state = opened.project.run(run).state
            self.resume.setText(f"Resume {run} from step {state.step} of {state.steps}")

    def resume_training(self) -> None:
        """Continue the chosen run that was interrupted."""
        opened = self._session.opened
        run = self.interrupted.currentText()
        if opened is not None and run:
            with self._session.showing_errors():
                self._session.start(opened.project.runs.resume_job(run))

    def _without_adaptation(self) -> TrainJob | None:
        """The missing baseline that would show whether adaptation helped; None while a job runs."""
        opened = self._session.opened
        catalogue = self._session.catalogue
        if opened is None or catalogue is None or self._session.runner.busy:
            return None
        project = opened.project
        run = project.runs.latest()
        baseline = catalogue.methods.get(BASELINE)
        if run is None or baseline is None or baseline.missing(project):
            return None
        return missing(project, run) if catalogue.learns_classes(project, run) else None

    def train_without_adaptation(self) -> None:
        """Train the baseline of the latest run."""
        job = self._without_adaptation()
        if job is not None:
            with self._session.showing_errors():
                self._session.start(job)

    # -- while it runs -----------------------------------------------------------------------

    def on_started(self, job: Job) -> None:
        """Start drawing curves and requesting previews."""
        if isinstance(job, TrainJob):
            self.curves.begin(job)
            self._asked = None
            self._timer.start()

    def _stop_asking(self) -> None:
        self._timer.stop()

    def _ask_preview(self) -> None:
        """Request a preview of the current section, if the view has changed."""
        session = self._session
        opened = session.opened
        if opened is None or session.runner.paused or opened.annotating:
            # A preview would cover the paint. Forgotten, so that one is requested right afterwards.
            self._asked = None
            return
        with session.showing_errors():
            target = opened.target
            box = opened.section_on_view(target)
            if box != self._asked:
                session.runner.say("preview", volume=target, box=list(box.bounds))
                self._asked = box

    def on_event(self, opened: OpenProject, event: Any) -> None:
        """Draw the losses and the previews."""
        self.curves.take(event)
        # A request before the start may have been lost: ask again.
        if isinstance(event, Started):
            self._asked = None
            runner = self._session.runner
            if runner.attached and runner.job is not None and runner.run:
                self.curves.recall(RunFolder.of(runner.job.project, runner.run))
        elif isinstance(event, Preview):
            show_preview(opened, event)
        elif isinstance(event, Translated):
            show_translation(opened, event)

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Mark the model that was kept, and stop requesting previews."""
        self._timer.stop()
        self.curves.end(last)

"""The second panel: choose a method, train it in the background, see it improve."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_emda._gui.common.adapters import section_on_view
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, Sentence, button, column, labelled
from napari_emda._gui.process import requirements
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session, in_short, tone_of
from napari_emda._gui.train.curves import Curves
from napari_emda._gui.train.live_preview import show_preview, show_translation
from napari_emda._gui.train.start_from import NETWORK, StartFrom
from napari_emda.data.box import Box
from napari_emda.events import Failed, Finished, Preview, Started, Translated
from napari_emda.project import runs
from napari_emda.project.comparison import BASELINE, missing
from napari_emda.project.job_files import TrainJob
from napari_emda.settings.training import PROFILES, TrainSettings

DEFAULT_METHODS = ("auto", "source_only")
VIEW_SECONDS = 0.7
_IN_SIGHT = ("steps", "profile")


class TrainPanel(QWidget):
    """Method and settings, start and stop, the loss curve, the live preview of the section on view."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._forms: dict[str, SettingsForm] = {}
        self.method = QComboBox()
        self.method.setToolTip("How the network is taught.")
        self.sentence = Sentence()
        schema = TrainSettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _IN_SIGHT)
        self.advanced = SettingsForm(schema, lambda field: field.name not in _IN_SIGHT)
        self.method_box, self.curves = QWidget(), Curves()
        self.start_from = StartFrom(session)
        self.reason = Sentence()
        self.start = button(
            "Start", "Train in the background; you can go on looking around.", self.start_training
        )
        self.resume = button(
            "Resume", "Go on with the last training from its last checkpoint.", self.resume_training
        )
        self.strip = JobStrip(session.runner, "train", stop="Stop and keep", pause=True)
        self.outcome = Sentence()
        self.compare = button(
            "Compare with no adaptation",
            "Train the same without looking at the target, to see whether adapting helped.",
            self.train_without_adaptation,
        )
        self._asked: Box | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(int(VIEW_SECONDS * 1000))
        self._timer.timeout.connect(self._ask_preview)
        self._build()
        self._connect()
        self._on_profile("fast")
        self.update_state()

    def _build(self) -> None:
        self._method_forms = QVBoxLayout(self.method_box)
        self._method_forms.setContentsMargins(0, 0, 0, 0)
        inside = QWidget()
        column(inside, self.start_from, self.method_box, self.advanced.native)
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
            self.resume,
            self.strip,
            self.curves,
            self.outcome,
            self.compare,
        )

    def _connect(self) -> None:
        session = self._session
        session.catalogue_changed.connect(self._fill_methods)
        session.adopted.connect(self._on_project)
        session.project_changed.connect(self.update_state)
        session.closing.connect(self._stop_asking)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)
        session.runner.ended.connect(self._on_ended)
        self.method.currentTextChanged.connect(self._on_method)
        self.main["profile"].changed.connect(self._on_profile)
        self.start_from.box.currentTextChanged.connect(lambda _: self._on_start_from())

    # -- settings ------------------------------------------------------------------------------------------------

    def _fill_methods(self) -> None:
        catalogue = self._session.catalogue
        assert catalogue is not None
        before = self.method.currentText()
        self.method.clear()
        for name, method in catalogue.methods.items():
            self.method.addItem(name)
            self.method.setItemData(self.method.count() - 1, method.summary, 3)  # Qt.ToolTipRole
        wanted = [name for name in (before, *DEFAULT_METHODS) if name in catalogue.methods]
        if wanted:
            self.method.setCurrentText(wanted[0])
        self._on_project()
        self.update_state()

    def _on_project(self) -> None:
        """Choose what needs no labels where there are none."""
        project = self._session.project
        if project is not None and not runs.labelled(project):
            self.method.setCurrentText(
                requirements.UNLABELLED
            )  # which leaves all as it is while no method is known

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
        governed = {key for values in PROFILES.values() for key in values}
        for form in (self.main, self.advanced):
            form.reset(governed)
            form.set_values(PROFILES.get(profile, {}))
        self._on_start_from()

    def _on_start_from(self) -> None:
        """The network is the profile's, or the one to start from, which cannot be changed."""
        profile, network = (
            PROFILES.get(self.main.values()["profile"], {}),
            self.start_from.network(),
        )
        self.advanced.reset(NETWORK)
        self.advanced.set_values({key: profile[key] for key in NETWORK & profile.keys()} | network)
        self.advanced.lock(network)

    def settings(self) -> TrainSettings:
        """What is set in the form."""
        return TrainSettings.parse({**self.main.values(), **self.advanced.values()})

    def method_settings(self) -> dict[str, Any]:
        """What is set for the chosen method, defaults left out."""
        form = self._forms.get(self.method.currentText())
        return form.changed_values() if form is not None else {}

    # -- starting ------------------------------------------------------------------------------------------------

    def why_not(self) -> str:
        """Why no training can start now, in one sentence; empty when it can."""
        session, project = self._session, self._session.project
        if session.catalogue is None:
            return "Reading the list of methods …"
        if session.runner.busy:
            return session.runner.busy
        if project is None:
            return "There is no project yet: choose your layers in Data."
        method = session.catalogue.methods.get(self.method.currentText())
        if method is None:
            return "Choose a method."
        return requirements.unmet(project, method)

    def update_state(self) -> None:
        """Grey out what cannot be done, with the reason above it."""
        why = self.why_not()
        training = self._session.runner.job is not None and self._session.runner.job.kind == "train"
        self.reason.show_text("" if training else why, "hint")
        self.start.setEnabled(not why)
        self.start.setVisible(not training)
        project = self._session.project
        idle = project is not None and not self._session.runner.busy
        cut = runs.unfinished(project) if project is not None and idle else None
        self.compare.setVisible(idle and cut is None and self._without_adaptation() is not None)
        self.resume.setVisible(cut is not None)
        if cut is not None:
            self.resume.setText(f"Resume {cut[0]} at step {cut[1]} of {cut[2]}")

    def start_training(self) -> None:
        """Start a training with what is set."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            self._session.start(
                TrainJob(
                    project=str(project.folder),
                    method=self.method.currentText(),
                    settings=self.settings(),
                    method_settings=self.method_settings(),
                    start_from=self.start_from.run,
                )
            )

    def resume_training(self) -> None:
        """Go on with the run that was cut short."""
        project = self._session.project
        cut = runs.unfinished(project) if project is not None else None
        if project is not None and cut is not None:
            with self._session.telling():
                self._session.start(runs.resume_job(project, cut[0]))

    def _without_adaptation(self) -> TrainJob | None:
        """The training that would tell whether the latest run's adapting helped, unless there is one."""
        project, catalogue = self._session.project, self._session.catalogue
        run = runs.latest(project) if project is not None else None
        if project is None or run is None or catalogue is None or BASELINE not in catalogue.methods:
            return None
        if requirements.unmet(
            project, catalogue.methods[BASELINE]
        ) or not requirements.learns_classes(project, run, catalogue):
            return None
        return missing(project, run)

    def train_without_adaptation(self) -> None:
        """Train what the latest run is to be compared with."""
        job = self._without_adaptation()
        if job is not None and not self._session.runner.busy:
            with self._session.telling():
                self._session.start(job)

    # -- while it runs -------------------------------------------------------------------------------------------

    def _on_started(self, job: object) -> None:
        self.update_state()
        if isinstance(job, TrainJob):
            self.outcome.show_text("")
            self.curves.begin(job)
            self._asked = None
            self._timer.start()

    def _stop_asking(self) -> None:
        self._timer.stop()

    def _ask_preview(self) -> None:
        """Tell the child what is on view, when that has changed."""
        session, project = self._session, self._session.project
        if (
            project is None or session.runner.paused or session.annotating
        ):  # a preview would hide the paint
            self._asked = None
            return
        with session.telling():
            entry = project.target()
            shape = session.shape(entry.name)
            box = section_on_view(session.viewer, session.place(entry.name), shape)
            if box != self._asked:
                session.runner.say("preview", volume=entry.name, box=list(box.bounds))
                self._asked = box

    def _on_event(self, event: object) -> None:
        job = self._session.runner.job
        if job is None or job.kind != "train":
            return
        self.curves.take(event)
        if isinstance(event, Started):
            self._asked = None
        elif isinstance(event, Preview):
            show_preview(self._session, event)
        elif isinstance(event, Translated):
            show_translation(self._session, event)

    def _on_ended(self, last: Finished | Failed) -> None:
        if self._timer.isActive():  # it was a training
            self._timer.stop()
            self.outcome.show_text(in_short(last.text), tone_of(last))
            self.curves.end(last)
        self.update_state()

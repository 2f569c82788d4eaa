"""Training on from the last model with the new annotations."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QSpinBox, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, labelled
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session
from napari_emda.events import Finished, Started
from napari_emda.project import runs

FINE_TUNING = "finetune"
ROUND_STEPS = {"standard": 1000}
"""Optimiser steps of a round by profile: what a user waits for between two rounds, some minutes on a GPU."""
FEW_STEPS = 100
"""Of the other profiles: less than a minute even on one core."""


class RetrainBox(QWidget):
    """Method, steps and the button that starts from the latest run."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._run: str | None = None
        self.method, self.steps = QComboBox(), QSpinBox()
        self.method.setToolTip(
            "How to go on; fine-tuning learns from your patches, keeping the source in mind."
        )
        self.steps.setRange(1, 1_000_000)
        self.steps.setSingleStep(50)
        self.steps.setValue(FEW_STEPS)
        self.steps.setToolTip("Optimiser steps.")
        self.reason = Sentence()
        self.go = button(
            "Retrain", "Train on from the last model, with your patches.", self.retrain
        )
        fields = labelled(("retrain with", self.method), ("steps", self.steps))
        self.strip = JobStrip(session.runner, "train", stop="Stop and keep", pause=True)
        column(self, fields, self.reason, self.go, self.strip)
        session.catalogue_changed.connect(self._fill)
        session.project_changed.connect(self.update_state)
        session.runner.started.connect(lambda job: self.update_state())
        session.runner.happened.connect(
            lambda event: self.update_state() if isinstance(event, Started) else None
        )
        session.runner.ended.connect(self._on_ended)
        self.update_state()

    def _fill(self) -> None:
        catalogue = self._session.catalogue
        assert catalogue is not None
        self.method.clear()
        self.method.addItems(list(catalogue.methods))
        self._run = None
        self.update_state()

    def _propose(self) -> None:
        """Method and steps to start from, once per run."""
        project = self._session.project
        run = runs.latest(project) if project is not None else None
        if project is None or run is None or run == self._run or not self.method.count():
            return
        job = runs.train_job(project, run)
        last = job.method if job is not None else ""
        self.method.setCurrentText(FINE_TUNING if self.method.findText(FINE_TUNING) >= 0 else last)
        if job is not None:
            few = min(job.settings.steps, ROUND_STEPS.get(job.settings.profile, FEW_STEPS))
            self.steps.setValue(few if job.start_from is None else job.settings.steps)
        self._run = run

    def why_not(self) -> str:
        """Why retraining cannot start now; empty when it can."""
        session, project = self._session, self._session.project
        if project is None or runs.latest(project) is None:
            return "Retraining starts from a model: train one first."
        if session.runner.busy:
            return session.runner.busy
        if not runs.annotated(project):
            return "Retraining learns from your patches: press Done on one first."
        return ""

    def update_state(self) -> None:
        """Grey out what cannot be done, with the reason above it."""
        self._propose()
        why, job = self.why_not(), self._session.runner.job
        self.reason.show_text("" if job is not None and job.kind == "train" else why, "hint")
        self.go.setEnabled(not why)

    def retrain(self) -> None:
        """Start from the latest run's network."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            self._session.start(
                runs.retrain_job(project, self.method.currentText(), self.steps.value())
            )

    def _on_ended(self, last: object) -> None:
        self._run = None if isinstance(last, Finished) else self._run
        self.update_state()

"""Training on from the last model with the new annotations."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QSpinBox

from napari_emda._gui.common.widgets import column, labelled
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished
from napari_emda.project.job_files import Job, TrainJob

FINE_TUNING = "finetune"
"""The method to go on with: it learns from annotated patches."""
ROUND_STEPS = {"standard": 1000}
"""Optimiser steps of a round by profile: some minutes on a GPU, as a user waits for them."""
FEW_STEPS = 100
"""Of the other profiles: less than a minute even on one core."""


class RetrainBox(JobPanel):
    """Method, steps and the button that starts from the latest run."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "train",
            start="Retrain",
            tip="Train on from the last model, with your patches.",
            stop="Stop and keep",
            pause=True,
        )
        self._proposed_for: str | None = None
        self.method = QComboBox()
        self.method.setToolTip(
            "How to go on; fine-tuning learns from your patches, keeping the source in mind."
        )
        self.steps = QSpinBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setSingleStep(50)
        self.steps.setValue(FEW_STEPS)
        self.steps.setToolTip("Optimiser steps.")
        fields = labelled(("retrain with", self.method), ("steps", self.steps))
        column(self, fields, self.reason, self.start, self.strip)
        self.listen()

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """Offer the methods."""
        self.method.clear()
        self.method.addItems(list(catalogue.methods))
        self._proposed_for = None

    def offer(self, opened: OpenProject | None) -> None:
        """Method and steps to start from, once per run: the user may choose others."""
        run = opened.project.runs.latest() if opened is not None else None
        if opened is None or run in (None, self._proposed_for) or not self.method.count():
            return
        self._proposed_for = run
        job = opened.project.run(run).training()
        last = job.method if job is not None else ""
        self.method.setCurrentText(FINE_TUNING if self.method.findText(FINE_TUNING) >= 0 else last)
        if job is not None:
            few = min(job.settings.steps, ROUND_STEPS.get(job.settings.profile, FEW_STEPS))
            self.steps.setValue(few if job.start_from is None else job.settings.steps)

    @property
    def no_project(self) -> str:
        """What is missing, be it that no project is open."""
        return "Retraining starts from a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why retraining cannot start now; empty when it can."""
        if not opened.runs:
            return self.no_project
        if self._session.runner.busy:
            return self._session.runner.busy
        if not opened.project.regions.any_annotated():
            return "Retraining learns from your patches: press Done on one first."
        return ""

    def job(self, opened: OpenProject) -> TrainJob:
        """Train on from the latest run's network."""
        return opened.project.runs.retrain_job(self.method.currentText(), self.steps.value())

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Propose anew: a run that was resumed has the same name as before."""
        if isinstance(last, Finished):
            self._proposed_for = None

"""Retraining of the last model with the new annotations."""

from __future__ import annotations

from dataclasses import replace

from napari_emda._gui.common.choice_box import ChoiceBox
from napari_emda._gui.common.number_boxes import WholeNumberBox
from napari_emda._gui.common.widgets import column, labelled
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue, offered, summaries
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished
from napari_emda.project.job_files import Job, TrainJob
from napari_emda.settings.requirements import FIXED, TAUGHT

# The method that is proposed, because it learns from annotated patches.
FINE_TUNING = "finetune"
# Optimiser steps of a round by profile: some minutes on a GPU, because the user waits for it.
ROUND_STEPS = {"standard": 1000}
# Optimiser steps with the other profiles: less than a minute even on one core.
FEW_STEPS = 100


class RetrainBox(JobPanel):
    """Method, steps and the button that starts from the latest run."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "train",
            start="Retrain",
            tip="Continue training the last model, with your patches.",
            stop="Stop and keep",
            pause=True,
        )
        self._proposed_for: str | None = None
        self.method = ChoiceBox()
        self.method.setToolTip(
            "The method of retraining; fine-tuning learns from your patches and from the source."
        )
        self.steps = WholeNumberBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setSingleStep(50)
        self.steps.setValue(FEW_STEPS)
        self.steps.setToolTip("Number of optimiser steps.")
        fields = labelled(("retrain with", self.method), ("steps", self.steps))
        column(self, fields, self.reason, self.start, self.strip)
        self.listen()

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """Propose a method again, from those that were read."""
        self._proposed_for = None

    def offer(self, opened: OpenProject | None) -> None:
        """Propose method and steps, once per run, so that the user's choice stays."""
        catalogue = self._session.catalogue
        run = opened.project.runs.latest() if opened is not None else None
        if opened is None or run is None or catalogue is None:
            # Without a model there is nothing to retrain, and so no method to choose.
            self.method.offer((), (), {})
            return
        # As it will be when the first patch is done.
        available = replace(opened.project.available, labelled=True, annotated=True)
        self.method.offer(*offered(catalogue.methods, available), summaries(catalogue.methods))
        if run == self._proposed_for:
            return
        self._proposed_for = run
        job = opened.project.run(run).training()
        last = job.method if job is not None else ""
        self.method.setCurrentText(FINE_TUNING if FINE_TUNING in catalogue.methods else last)
        if job is not None and job.method == FIXED:
            # The model of another program is not trained: it teaches a new network.
            self.method.setCurrentText(TAUGHT)
            self.steps.setValue(job.settings.steps)
        elif job is not None:
            # The first retraining is short; later ones repeat the steps of the one before.
            few = min(job.settings.steps, ROUND_STEPS.get(job.settings.profile, FEW_STEPS))
            self.steps.setValue(few if job.start_from is None else job.settings.steps)

    @property
    def no_project(self) -> str:
        """The reason without a project, and without a model."""
        return "Retraining starts from a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why retraining cannot start now; empty if it can."""
        if not opened.runs:
            return self.no_project
        if self._session.runner.busy:
            return self._session.runner.busy
        if not opened.project.regions.any_annotated():
            return "Retraining learns from your patches: press Done on one first."
        return ""

    def says_why(self) -> bool:
        """Whether to show the reason: not to somebody who is doing what it asks for."""
        opened = self._session.opened
        return super().says_why() and not (opened is not None and opened.annotating)

    def job(self, opened: OpenProject) -> TrainJob:
        """A training that starts from the latest run's network."""
        return opened.project.runs.retrain_job(self.method.currentText(), self.steps.value())

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Propose again: a resumed run keeps its name, so `offer` would not notice it."""
        if isinstance(last, Finished):
            self._proposed_for = None

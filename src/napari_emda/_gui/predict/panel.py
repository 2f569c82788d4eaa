"""The panel that segments a whole volume in the background and shows the mask."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox, QWidget

from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, column, labelled, refill
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import (
    hide,
    is_of,
    roles,
    show_classes,
    show_clusters,
    shown_already,
)
from napari_emda._gui.predict.lazy_layers import Clusters
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished, TileDone
from napari_emda.project.job_files import Job, PredictJob
from napari_emda.settings.objects import ObjectSettings
from napari_emda.settings.prediction import PredictSettings


class PredictPanel(JobPanel):
    """Run and volume, start and stop, threshold and smallest object of the mask."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "predict",
            start="Predict",
            tip="Segment the whole volume in the background, block by block.",
        )
        self.run = QComboBox()
        self.run.setToolTip("The trained model; the newest is at the top.")
        self.volume = QComboBox()
        self.volume.setToolTip("What is segmented.")
        self.checkpoint = QComboBox()
        self.checkpoint.setToolTip(
            "Which state of the model: 'selected' is the one whose answer in the target looked "
            "best, 'last' that of the last step; numbers are steps that were kept."
        )
        self.form = SettingsForm(PredictSettings.model_json_schema())
        self.threshold = QDoubleSpinBox()
        limits = ObjectSettings.model_json_schema()["properties"]
        # A threshold lies between its limits, which it may not reach; the box shows two decimals.
        self.threshold.setRange(
            limits["threshold"]["exclusiveMinimum"] + 0.01,
            limits["threshold"]["exclusiveMaximum"] - 0.01,
        )
        self.threshold.setSingleStep(limits["threshold"]["step"])
        self.threshold.setValue(session.mask.threshold)
        self.threshold.setToolTip(
            "Probability from which a voxel belongs to the mask. With several classes it is that "
            "of the most probable one against background alone; at 0.5 the most probable class "
            "wins."
        )
        self.smallest = QSpinBox()
        self.smallest.setRange(limits["minimum_size"]["minimum"], limits["minimum_size"]["maximum"])
        self.smallest.setSingleStep(limits["minimum_size"]["step"])
        self.smallest.setSuffix(" pixels")
        self.smallest.setToolTip(
            "Smaller objects are left out; on view they are measured in the section, in exports "
            "through all sections."
        )
        self._stopped: tuple[str | None, str | None] | None = None
        self._build()
        self.run.currentTextChanged.connect(lambda _: self._on_run())
        self.volume.currentTextChanged.connect(lambda _: self._name_button())
        for box in (self.threshold, self.smallest):
            box.valueChanged.connect(lambda _: self._on_mask_changed())
        self.listen()

    def _build(self) -> None:
        model = labelled(("model", self.run), ("volume", self.volume))
        mask = labelled(("threshold", self.threshold), ("smallest object", self.smallest))
        inside = QWidget()
        column(inside, labelled(("checkpoint", self.checkpoint)), self.form.native)
        column(self, model, Drawer("Advanced", inside), self.reason, self.start, self.strip, mask)

    def on_project(self, opened: OpenProject) -> None:
        """Show the newest prediction of each volume of the project."""
        project = opened.project
        for entry in project.volumes.entries:
            volume = entry.name
            clustering = project.predictions.newest_clustering(volume)
            predicting = project.predictions.newest_run(volume)
            with self._session.telling():
                if clustering is not None:
                    show_clusters(opened, clustering, volume)
                if predicting is not None:
                    show_classes(opened, predicting, volume)
                    if predicting != clustering:
                        # The colours of two models over each other tell nothing.
                        hide(opened, volume, ("clusters",))

    # -- the job -----------------------------------------------------------------------------

    def why_not(self, opened: OpenProject) -> str:
        """Why nothing can be predicted now; empty when it can."""
        return self._session.runner.busy if opened.runs else self.no_project

    @property
    def no_project(self) -> str:
        """What is missing, be it that no project is open."""
        return "Predicting needs a model: train one first."

    def offer(self, opened: OpenProject | None) -> None:
        """The runs and volumes that there are."""
        refill(self.run, opened.runs if opened is not None else [], prefer_first=True)
        refill(self.volume, opened.volumes if opened is not None else [])
        self._on_run()

    def _on_run(self) -> None:
        """Offer the chosen run's models."""
        opened = self._session.opened
        run = self.run.currentText()
        models = opened.project.run(run).models() if opened is not None and run else []
        refill(self.checkpoint, models)
        self._name_button()

    def _name_button(self) -> None:
        begun = self._stopped == (self.run.currentText(), self.volume.currentText())
        self.start.setText("Continue" if begun else "Predict")

    def before_start(self, opened: OpenProject) -> None:
        """Show the volume whose prediction is about to appear, unless a patch is on view."""
        volume = self.volume.currentText()
        image = opened.image(volume)
        if opened.annotating or image is None or image.visible:
            return
        opened.show_only(volume)
        opened.show_section(volume)

    def job(self, opened: OpenProject) -> PredictJob:
        """Segment the chosen volume; blocks that are done already are not done again."""
        return PredictJob(
            project=str(opened.project.folder),
            run=self.run.currentText(),
            checkpoint=self.checkpoint.currentText() or "selected",
            volume=self.volume.currentText(),
            settings=PredictSettings.parse(self.form.values()),
        )

    def on_event(self, opened: OpenProject, event: Any) -> None:
        """Show what is predicted as it comes."""
        if isinstance(event, TileDone):
            with self._session.telling():
                self._show_block(opened, event)

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Show what is on disk now, also when all of it had been there before."""
        if not isinstance(job, PredictJob):
            return
        done = isinstance(last, Finished) and last.status == "done"
        self._stopped = None if done else (job.run, job.volume)
        if job.volume is not None:
            self._show_result(opened, job.run or "", job.volume)

    # -- layers ------------------------------------------------------------------------------

    def _show_block(self, opened: OpenProject, event: TileDone) -> None:
        """Draw again what lies in the block, if it is on view."""
        run = self._session.runner.run
        if not shown_already(opened, run, event.volume):
            self.show_prediction(opened, run, event.volume)
            return
        first, end = event.box[:2]
        if first <= opened.section_on_view(event.volume).start[0] < end:
            self._redraw(opened, event.volume)

    def _redraw(self, opened: OpenProject, volume: str) -> None:
        for role in roles(opened):
            layer: Any = opened.output(role, volume)
            if layer is not None and isinstance(layer.data, Clusters):
                layer.data.forget()
            if layer is not None and layer.visible:
                layer.refresh()

    def show_prediction(self, opened: OpenProject, run: str, volume: str) -> None:
        """Show what a run predicts, and no other run: clusters, classes, or both once named."""
        show_clusters(opened, run, volume)
        show_classes(opened, run, volume)
        others = [role for role in ("mask", "clusters") if not is_of(opened, run, role, volume)]
        hide(opened, volume, others)

    def _show_result(self, opened: OpenProject, run: str, volume: str) -> None:
        if shown_already(opened, run, volume):
            self._redraw(opened, volume)
            if not opened.annotating and is_of(opened, run, "mask", volume):
                self._reveal(opened, volume)
        else:
            with self._session.telling():
                self.show_prediction(opened, run, volume)

    def _on_mask_changed(self) -> None:
        mask = self._session.mask
        mask.threshold = self.threshold.value()
        mask.smallest = self.smallest.value()
        opened = self._session.opened
        if opened is None:
            return
        for entry in opened.project.volumes.entries:
            layer: Any = opened.output("mask", entry.name)
            if layer is not None:
                layer.data.threshold = mask.threshold
                layer.data.smallest = mask.smallest
                layer.refresh()
                self._reveal(opened, entry.name)

    def _reveal(self, opened: OpenProject, volume: str) -> None:
        """Show the mask of a volume that is on view; coming to a patch has hidden it."""
        mask = opened.output("mask", volume)
        image = opened.image(volume)
        if mask is not None and image is not None and image.visible:
            show(mask)

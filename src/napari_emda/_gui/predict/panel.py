"""The panel that segments a whole volume in the background and shows its mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, chosen_name, column, labelled, narrow, refill
from napari_emda._gui.job_panel import JobPanel, offer_runs
from napari_emda._gui.mask_boxes import smallest_box, threshold_box
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import (
    hide,
    is_of,
    roles,
    show_classes,
    show_clusters,
    show_not_predicted,
    showing_classes,
    shown_already,
)
from napari_emda._gui.predict.lazy_layers import Clusters
from napari_emda._gui.predict.part import PartChoice
from napari_emda._gui.predict.where_box import WhereBox
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished, TileDone
from napari_emda.project.job_files import Job, PredictJob
from napari_emda.settings.prediction import PredictSettings


class PredictPanel(JobPanel):
    """Model and volume, start and stop, and the settings of the mask."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "predict",
            start="Predict",
            tip="Segment the volume, or a part of it, in the background, block by block.",
        )
        self.run = narrow(QComboBox())
        self.run.setToolTip("The trained model; the newest comes first.")
        self.volume = narrow(QComboBox())
        self.volume.setToolTip("The volume to segment.")
        self.part = PartChoice()
        self.checkpoint = narrow(QComboBox())
        self.checkpoint.setToolTip(
            "Which state of the model to use: 'selected' is the one that the training chose, "
            "'last' that of the last step; numbers are other steps that were kept."
        )
        self.form = SettingsForm(PredictSettings.model_json_schema())
        self.where = WhereBox(session)
        self.threshold = threshold_box(session)
        self.smallest = smallest_box(session)
        self._stopped: tuple[str | None, str | None, str] | None = None
        self._build()
        self.run.currentTextChanged.connect(lambda _: self._on_run())
        self.volume.currentTextChanged.connect(lambda _: self._on_part())
        self.part.changed.connect(self._on_part)
        self.where.changed.connect(self.review)
        # The mask is computed where it is shown, so it can follow the boxes at once.
        session.mask_changed.connect(self._on_mask_changed)
        self.listen()

    def _build(self) -> None:
        model = labelled(("model", self.run), ("volume", self.volume), ("part", self.part))
        mask = labelled(("threshold", self.threshold), ("smallest object", self.smallest))
        inside = QWidget()
        boxes = labelled(("saved model", self.checkpoint), ("where", self.where))
        column(inside, boxes, self.form.native)
        column(self, model, Drawer("Advanced", inside), self.reason, self.start, self.strip, mask)

    def on_project(self, opened: OpenProject) -> None:
        """Show the newest prediction of each volume of the project."""
        project = opened.project
        # Volume by volume: a damaged prediction is reported and the others are shown.
        for entry in project.volumes.entries:
            volume = entry.name
            clustering = project.predictions.newest_clustering(volume)
            predicting = project.predictions.newest_run(volume)
            with self._session.showing_errors():
                if clustering is not None:
                    show_clusters(opened, clustering, volume)
                if predicting is not None:
                    show_classes(opened, predicting, volume)
                    if predicting != clustering:
                        # The colours of two models on top of each other would be meaningless.
                        hide(opened, volume, ("clusters",))
                if run := predicting or clustering:
                    show_not_predicted(opened, run, volume)

    # -- the job -----------------------------------------------------------------------------

    def why_not(self, opened: OpenProject) -> str:
        """Why nothing can be predicted now; empty if it can."""
        if not opened.runs:
            return self.no_project
        part = self.part.problem(opened, self.volume.currentText())
        return self._session.runner.busy or part or self.where.problem

    @property
    def no_project(self) -> str:
        """The reason without a project, and without a model."""
        return "Predicting needs a model: train one first."

    def offer(self, opened: OpenProject | None) -> None:
        """List runs and volumes."""
        offer_runs(self.run, opened)
        refill(self.volume, opened.volumes if opened is not None else [])
        self._on_run()

    def _on_run(self) -> None:
        """List the checkpoints of the chosen run."""
        opened = self._session.opened
        run = chosen_name(self.run)
        models = opened.project.run(run).models() if opened is not None and run else []
        refill(self.checkpoint, models)
        self._name_button()

    def _name_button(self) -> None:
        # A stopped prediction continues: its finished blocks are kept on disk.
        opened = self._session.opened
        volume = self.volume.currentText()
        begun = False
        if self._stopped is not None and opened is not None and volume:
            chosen = (chosen_name(self.run), volume, self.part.text(opened, volume))
            begun = self._stopped == chosen
        self.start.setText("Continue" if begun else "Predict")

    def _on_part(self) -> None:
        self._name_button()
        self.review()

    def before_start(self, opened: OpenProject) -> None:
        """Show the volume that will be predicted, unless a patch is on view."""
        volume = self.volume.currentText()
        image = opened.image(volume)
        # A visible volume is where the user is looking: the view is left alone.
        if opened.annotating or image is None or image.visible:
            return
        opened.show_only(volume)
        opened.show_section(volume)

    def job(self, opened: OpenProject) -> PredictJob:
        """The prediction of the chosen volume; finished blocks are not predicted again."""
        return PredictJob(
            project=str(opened.project.folder),
            run=chosen_name(self.run),
            checkpoint=self.checkpoint.currentText() or "selected",
            volume=self.volume.currentText(),
            box=self.part.text(opened, self.volume.currentText()),
            settings=PredictSettings.parse(self.form.values()),
        )

    def on_event(self, opened: OpenProject, event: Any) -> None:
        """Show each predicted block."""
        if isinstance(event, TileDone):
            with self._session.showing_errors():
                self._show_block(opened, event)

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Show the prediction on disk, also if all of it was there before."""
        if not isinstance(job, PredictJob):
            return
        done = isinstance(last, Finished) and last.status == "done"
        self._stopped = None if done else (job.run, job.volume, job.box)
        if job.volume is not None:
            self._show_result(opened, job.run or "", job.volume)
        if done and opened.auditing:
            self._session.say(f"{last.text} The mask stays hidden until the audit is done.", "done")
        elif done and opened.annotating:
            # The mask stays hidden, because it would lie over the paint of the patch.
            self._session.say(f"{last.text} Press M on the canvas to see the mask.", "done")

    # -- layers ------------------------------------------------------------------------------

    def _show_block(self, opened: OpenProject, event: TileDone) -> None:
        """Redraw the layers if the block contains the current section."""
        run = self._session.runner.run
        if not shown_already(opened, run, event.volume):
            self._session.in_turns(self._showing(opened, run, event.volume))
            return
        first, end = event.box[:2]
        if first <= opened.section_on_view(event.volume).start[0] < end:
            self._redraw(opened, event.volume)

    def _redraw(self, opened: OpenProject, volume: str) -> None:
        for role in roles():
            layer: Any = opened.output(role, volume)
            if layer is not None and isinstance(layer.data, Clusters):
                layer.data.forget()
            # A hidden layer is read when it is shown.
            if layer is not None and layer.visible:
                layer.refresh()

    def show_prediction(self, opened: OpenProject, run: str, volume: str) -> None:
        """Show one run's prediction and hide others: clusters, classes, or both once named."""
        for _ in self._showing(opened, run, volume):
            pass

    def _showing(self, opened: OpenProject, run: str, volume: str) -> Iterator[None]:
        # Several blocks may have come before the first of these steps.
        if shown_already(opened, run, volume):
            return
        show_clusters(opened, run, volume)
        yield
        yield from showing_classes(opened, run, volume)
        others = [role for role in ("mask", "clusters") if not is_of(opened, run, role, volume)]
        hide(opened, volume, others)

    def _show_result(self, opened: OpenProject, run: str, volume: str) -> None:
        if shown_already(opened, run, volume):
            self._redraw(opened, volume)
            if not opened.annotating and is_of(opened, run, "mask", volume):
                self._reveal(opened, volume)
        else:
            with self._session.showing_errors():
                self.show_prediction(opened, run, volume)
        with self._session.showing_errors():
            show_not_predicted(opened, run, volume)

    def _on_mask_changed(self) -> None:
        mask = self._session.mask
        opened = self._session.opened
        if opened is None:
            return
        for entry in opened.project.volumes.entries:
            layer: Any = opened.output("mask", entry.name)
            if layer is not None:
                # The mask is computed where it is sliced: only the current section is read.
                layer.data.threshold = mask.threshold
                layer.data.smallest = mask.smallest
                layer.refresh()
                self._reveal(opened, entry.name)

    def _reveal(self, opened: OpenProject, volume: str) -> None:
        """Show the mask of a visible volume, which going to a patch may have hidden."""
        mask = opened.output("mask", volume)
        image = opened.image(volume)
        seen = image is not None and image.visible and not opened.auditing
        if mask is not None and seen:
            show(mask)

"""The fourth panel: segment a whole volume in the background and look at the mask."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox, QWidget

from napari_emda._gui.common.adapters import look_at, section_on_view, show
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, Sentence, button, column, labelled, refill
from napari_emda._gui.predict.layers import hide, roles, show_classes, show_clusters, shown_already
from napari_emda._gui.predict.lazy_layers import Clusters
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.events import Finished, Started, TileDone
from napari_emda.project import runs
from napari_emda.project.job_files import PredictJob
from napari_emda.project.runs import volume_names
from napari_emda.settings.prediction import PredictSettings


class PredictPanel(QWidget):
    """Run and volume, start and stop, threshold and smallest object of the mask."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.run, self.volume = QComboBox(), QComboBox()
        self.run.setToolTip("The trained model; the newest is at the top.")
        self.volume.setToolTip("What is segmented.")
        self.checkpoint = QComboBox()
        self.checkpoint.setToolTip(
            "Which state of the model: 'selected' is the one whose answer in the target looked best, 'last' that of "
            "the last step; numbers are steps that were kept."
        )
        self.form = SettingsForm(PredictSettings.model_json_schema())
        self.reason = Sentence()
        self.start = button(
            "Predict", "Segment the whole volume in the background, block by block.", self.predict
        )
        self.strip = JobStrip(session.runner, "predict", stop="Stop")
        self.threshold, self.smallest = QDoubleSpinBox(), QSpinBox()
        self.threshold.setRange(0.01, 0.99)
        self.threshold.setSingleStep(0.05)
        self.threshold.setValue(session.threshold)
        self.threshold.setToolTip(
            "Probability from which a voxel belongs to the mask. With several classes it is that of the most probable "
            "one against background alone; at 0.5 the most probable class wins."
        )
        self.smallest.setRange(0, 1_000_000)
        self.smallest.setSingleStep(10)
        self.smallest.setSuffix(" pixels")
        self.smallest.setToolTip(
            "Smaller objects are left out; on view they are measured in the section, in exports through all sections."
        )
        self._stopped: tuple[str, str] | None = None
        self._build()
        self._connect()
        self.update_state()

    def _build(self) -> None:
        model = labelled(("model", self.run), ("volume", self.volume))
        mask = labelled(("threshold", self.threshold), ("smallest object", self.smallest))
        inside = QWidget()
        column(inside, labelled(("checkpoint", self.checkpoint)), self.form.native)
        column(self, model, Drawer("Advanced", inside), self.reason, self.start, self.strip, mask)

    def _connect(self) -> None:
        session = self._session
        session.adopted.connect(self._on_project)
        session.project_changed.connect(self.update_state)
        session.runner.started.connect(lambda job: self.update_state())
        session.runner.happened.connect(self._on_event)
        session.runner.ended.connect(self._on_ended)
        self.run.currentTextChanged.connect(lambda _: self._on_run())
        self.volume.currentTextChanged.connect(lambda _: self._name_button())
        for box in (self.threshold, self.smallest):
            box.valueChanged.connect(lambda _: self._on_mask_changed())

    def _on_project(self) -> None:
        """Show the newest prediction of each volume of the project."""
        project = self._session.project
        assert project is not None
        for name in [entry.name for entry in project.entries]:
            clustering, predicting = (
                runs.clustered_with(project, name),
                runs.predicted_with(project, name),
            )
            with self._session.telling():
                if clustering is not None:
                    show_clusters(self._session, clustering, name)
                if predicting is not None:
                    show_classes(self._session, predicting, name)
                    if (
                        predicting != clustering
                    ):  # colours of two models over each other tell nothing
                        hide(self._session, name, ("clusters",))

    def why_not(self) -> str:
        """Why nothing can be predicted now; empty when it can."""
        project = self._session.project
        if project is None or runs.latest(project) is None:
            return "Predicting needs a model: train one first."
        return self._session.runner.busy

    def update_state(self) -> None:
        """Offer the runs and volumes that there are; grey out what cannot be done."""
        project = self._session.project
        names = [] if project is None else list(reversed(project.runs()))
        volumes = volume_names(project)
        refill(self.run, names, prefer_first=True)
        refill(self.volume, volumes)
        self._on_run()
        why, job = self.why_not(), self._session.runner.job
        mine = job is not None and job.kind == "predict"
        self.reason.show_text("" if mine else why, "hint")
        self.start.setEnabled(not why)

    def _on_run(self) -> None:
        """Offer the chosen run's models."""
        project, run = self._session.project, self.run.currentText()
        refill(
            self.checkpoint, runs.checkpoints(project, run) if project is not None and run else []
        )
        self._name_button()

    def _name_button(self) -> None:
        begun = self._stopped == (self.run.currentText(), self.volume.currentText())
        self.start.setText("Continue" if begun else "Predict")

    def predict(self) -> None:
        """Segment the chosen volume; blocks that are done already are not done again."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            self._bring_on_view(self.volume.currentText())
            self._session.start(
                PredictJob(
                    project=str(project.folder),
                    run=self.run.currentText(),
                    checkpoint=self.checkpoint.currentText() or "selected",
                    volume=self.volume.currentText(),
                    settings=PredictSettings.parse(self.form.values()),
                )
            )

    def _bring_on_view(self, volume: str) -> None:
        """Show the volume whose prediction is about to appear, unless a patch is on view."""
        session, image = self._session, self._session.image(volume)
        if session.annotating or image is None or image.visible:
            return
        session.show_only(volume)
        place, shape = session.place(volume), session.shape(volume)
        z = section_on_view(session.viewer, place, shape).start[0]
        look_at(session.viewer, place, Box((z, 0, 0), (z + 1, *shape[1:])))

    # -- layers --------------------------------------------------------------------------------------------------

    def _on_event(self, event: object) -> None:
        job, session = self._session.runner.job, self._session
        if isinstance(event, Started):
            self.update_state()
        if not isinstance(event, TileDone) or job is None or session.project is None:
            return
        if job.kind == "predict":
            with session.telling():
                self._refresh(event)

    def _refresh(self, event: TileDone) -> None:
        """Draw again what lies in the block, if it is on view."""
        session, run = self._session, self._session.runner.run
        if not shown_already(session, run, event.volume):
            self.show_prediction(run, event.volume)
            return
        z = section_on_view(
            session.viewer, session.place(event.volume), session.shape(event.volume)
        ).start[0]
        if event.box[0] <= z < event.box[1]:
            self._redraw(event.volume)

    def _redraw(self, volume: str) -> None:
        session = self._session
        for role in roles(session):
            layer: Any = session.output(role, volume)
            if layer is not None and isinstance(layer.data, Clusters):
                layer.data.forget()
            if layer is not None and layer.visible:
                layer.refresh()

    def show_prediction(self, run: str, volume: str) -> None:
        """Show what a run says of a volume: clusters, classes, or both once clusters are named; and no other run."""
        show_clusters(self._session, run, volume)
        show_classes(self._session, run, volume)
        hide(
            self._session,
            volume,
            [role for role in ("mask", "clusters") if not self._is_of(run, role, volume)],
        )

    def _is_of(self, run: str, role: str, volume: str) -> bool:
        layer = self._session.output(role, volume)
        return layer is not None and layer.metadata.get("run") == run

    def _on_mask_changed(self) -> None:
        session = self._session
        session.threshold, session.smallest = self.threshold.value(), self.smallest.value()
        for entry in session.project.entries if session.project is not None else ():
            layer: Any = session.output("mask", entry.name)
            if layer is not None:
                layer.data.threshold, layer.data.smallest = session.threshold, session.smallest
                layer.refresh()
                self._reveal(entry.name)

    def _reveal(self, volume: str) -> None:
        """Show the mask of a volume that is on view; coming to a patch has hidden it."""
        mask, image = self._session.output("mask", volume), self._session.image(volume)
        if mask is not None and image is not None and image.visible:
            show(mask)

    def _on_ended(self, last: object) -> None:
        ended = self._session.runner.last_job
        if isinstance(ended, PredictJob):
            stopped = not (isinstance(last, Finished) and last.status == "done")
            self._stopped = (ended.run or "", ended.volume or "") if stopped else None
            if ended.volume is not None and self._session.project is not None:
                self._show_result(ended.run or "", ended.volume)
        self.update_state()

    def _show_result(self, run: str, volume: str) -> None:
        """What is on disk now, also when all of it had been there before."""
        if shown_already(self._session, run, volume):
            self._redraw(volume)
            if not self._session.annotating and self._is_of(run, "mask", volume):
                self._reveal(volume)
        else:
            with self._session.telling():
                self.show_prediction(run, volume)

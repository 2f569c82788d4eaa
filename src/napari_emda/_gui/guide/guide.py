"""Reads the panels, shows the next step, and presses the panel's own button for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton

from napari_emda._gui.annotate.panel import AnnotatePanel
from napari_emda._gui.common.widgets import Drawer
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.export.panel import ExportPanel
from napari_emda._gui.guide.next_step import Action, NextStep, Work, next_step, place
from napari_emda._gui.guide.step_line import StepLine
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda._gui.session import Session
from napari_emda._gui.train.panel import TrainPanel
from napari_emda.events import Finished
from napari_emda.project.job_files import Job

# The panel that shows the progress of each kind of job.
_PROGRESS = {
    "train": "Train",
    "suggest": "Annotate",
    "predict": "Predict",
    "objects": "Objects",
    "export": "Export",
}


@dataclass(frozen=True)
class Panels:
    """The panels of the dock."""

    data: DataPanel
    train: TrainPanel
    annotate: AnnotatePanel
    predict: PredictPanel
    export: ExportPanel


class Guide:
    """Keeps the line at the top of the dock up to date.

    Args:
        session: of the dock.
        panels: whose state decides, and whose buttons are pressed.
        open_panel: opens the panel of that name and closes the others; brings a part of it, if one
            is given, into sight.

    Attributes:
        line: the widget.
    """

    def __init__(
        self,
        session: Session,
        panels: Panels,
        open_panel: Callable[[str, Drawer | None], object],
    ) -> None:
        self._session = session
        self._panels = panels
        self._open_panel = open_panel
        # Runs of which something was exported, and that the user has stopped, while the dock was
        # open; nothing on disk says so.
        self._exported = ""
        self._stopped = ""
        self.line = StepLine(self._act)
        annotate = panels.annotate
        self._buttons: dict[Action, tuple[str, QPushButton]] = {
            "use layers": ("Data", panels.data.use),
            "start": ("Train", panels.train.start),
            "resume": ("Train", panels.train.resume),
            "name clusters": ("Data", panels.data.naming.start),
            "use clusters": ("Data", panels.data.naming.use),
            "suggest": ("Annotate", annotate.suggest.start),
            "next": ("Annotate", annotate.painting.next),
            "done": ("Annotate", annotate.painting.done),
            "retrain": ("Annotate", annotate.retrain.start),
            "predict": ("Predict", panels.predict.start),
            "export": ("Export", panels.export.start),
        }
        # Many signals come together, and the state is read from files: once for all of them.
        self._soon = QTimer(self.line)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.refresh)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self._session
        for signal in (session.project_changed, session.catalogue_changed):
            signal.connect(self._refresh_soon)
        session.runner.started.connect(self._on_started)
        session.project_opened.connect(self._on_project)
        session.runner.ended.connect(self._on_ended)
        panels = self._panels
        # The reasons change with the forms: the line shows what the panels show.
        starters = (panels.train, panels.annotate.suggest, panels.annotate.retrain)
        more = (panels.predict, panels.export)
        said = (panels.data.missing, panels.data.naming.summary)
        self._said = (*said, *(panel.reason for panel in (*starters, *more)))
        for sentence in self._said:
            sentence.changed.connect(self._refresh_soon)

    def _on_project(self, opened: OpenProject) -> None:
        self._exported = self._stopped = ""
        patches = self._panels.annotate.patches
        if patches is not None:
            patches.changed.connect(self._refresh_soon)
        self._refresh_soon()

    def _on_started(self, job: Job) -> None:
        if job.kind == "train":
            # Going on with a model that was stopped shows that it was not meant to be the last.
            self._stopped = ""
        self._refresh_soon()

    def _on_ended(self, last: object) -> None:
        job = self._session.runner.last_job
        if job is not None and job.kind == "export" and isinstance(last, Finished):
            self._exported = self._model()
        stopped = isinstance(last, Finished) and last.status == "stopped"
        if job is not None and job.kind == "train" and stopped:
            # Whoever stops a training and keeps its model does not want to go on with it.
            self._stopped = self._model()
        self._refresh_soon()

    def _refresh_soon(self, *_: object) -> None:
        self._soon.start(0)

    def refresh(self) -> None:
        """Show the next step of the current state."""
        if self._session.closed:
            return
        with self._session.showing_errors():
            work = self.work()
            self.line.show_step(place(work), next_step(work))
            self._say_once()

    def _say_once(self) -> None:
        """Hide what a panel says while the line says the same."""
        for sentence in self._said:
            if sentence.text():
                sentence.setHidden(sentence.text() == self.line.sentence.text())

    # -- reading -----------------------------------------------------------------------------

    def work(self) -> Work:
        """The current state of the work."""
        opened = self._session.opened
        if opened is None:
            return Work(reasons=self._reasons())
        job = self._session.runner.job
        patches = self._panels.annotate.patches
        regions = patches.regions if patches is not None else []
        current = patches.current if patches is not None else None
        ids = [region.id for region in regions]
        model = self._model()
        target = next((entry.name for entry in opened.project.volumes.targets()), "")
        to_learn, learned = self._learning(opened, model)
        clusters = self._clusters(opened, model)
        return Work(
            project=opened.project.folder.name,
            volume=target,
            model=model,
            running=job.noun if job is not None else "",
            interrupted=not self._panels.train.resume.isHidden()
            and opened.project.runs.newest_was_interrupted
            and model != self._stopped,
            finds_clusters=clusters == "unnamed",
            clusters_named=clusters == "named",
            patches=len(regions),
            decided=sum(region.state != "suggested" for region in regions),
            on_view=1 + ids.index(current.id) if current is not None and current.id in ids else 0,
            auditing=opened.auditing,
            to_learn=to_learn,
            learned=learned,
            predicted=bool(model)
            and bool(target)
            and opened.project.predictions.of(model, target) is not None,
            exported=bool(model) and self._exported == model,
            reasons=self._reasons(),
        )

    def _model(self) -> str:
        opened = self._session.opened
        return (opened.project.runs.latest() or "") if opened is not None else ""

    @staticmethod
    def _learning(opened: OpenProject, model: str) -> tuple[bool, bool]:
        """Whether there are annotations that the model has not learned from, and that it has."""
        annotated = [region for region in opened.project.regions.all() if region.annotated]
        run = opened.project.run(model) if model else None
        if run is None:
            return bool(annotated), False
        # The job file is written when the training begins, and never again.
        file = run.job_file if run.job_file.is_file() else run.checkpoint
        began = file.stat().st_mtime
        return (
            any(region.time > began for region in annotated),
            any(region.time <= began for region in annotated),
        )

    def _clusters(self, opened: OpenProject, model: str) -> Literal["", "unnamed", "named"]:
        """Whether the model finds clusters, and whether some of them have a name."""
        catalogue = self._session.catalogue
        if not model or catalogue is None or catalogue.learns_classes(opened.project, model):
            return ""
        return "named" if opened.project.run(model).cluster_names() else "unnamed"

    def _reasons(self) -> dict[Action, str]:
        panels = self._panels
        annotate = panels.annotate
        data = panels.data
        return {
            "use layers": "" if data.use.isEnabled() else data.missing.text(),
            "use clusters": "" if data.naming.use.isEnabled() else data.naming.summary.text(),
            "start": panels.train.obstacle(),
            "suggest": annotate.suggest.obstacle(),
            "retrain": annotate.retrain.obstacle(),
            "predict": panels.predict.obstacle(),
            "export": panels.export.obstacle(),
        }

    # -- acting ------------------------------------------------------------------------------

    def _act(self, step: NextStep) -> None:
        """Open the panel of a step and press its button."""
        self.refresh()
        if self.line.step is None or self.line.step.action != step.action:
            # The work has gone on since the line was drawn: the user decides on what it says now.
            return
        if step.action == "watch":
            job = self._session.runner.job
            if job is not None and job.kind in _PROGRESS:
                self._open_panel(_PROGRESS[job.kind], None)
            return
        panel, button = self._buttons[step.action]
        naming = step.action in ("name clusters", "use clusters")
        self._open_panel(panel, self._panels.data.naming_drawer if naming else None)
        # Clusters that are on view wait to be named by the user.
        if step.action != "name clusters" or not self._panels.data.naming.found:
            button.click()

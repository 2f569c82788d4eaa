"""The part of the dock that gives clusters class names and uses them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_emda._gui.common.mouse import on_click
from napari_emda._gui.common.widgets import (
    Sentence,
    button,
    column,
    file_filter,
    labelled,
    narrow,
    refill,
    with_ending,
    wrapped,
)
from napari_emda._gui.data.cluster_naming import ClusterNaming
from napari_emda._gui.data.cluster_table import ClusterTable
from napari_emda._gui.job_panel import JobStarter, may_suggest
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import (
    hide,
    is_of,
    rename_classes,
    show_clusters,
    shown_already,
)
from napari_emda._gui.session import Session
from napari_emda.events import Failed, Finished
from napari_emda.io.writer import image_formats
from napari_emda.project.clusters import Names, shares
from napari_emda.project.job_files import ExportJob, Job, PredictJob, SuggestJob
from napari_emda.settings.suggestion import QuerySettings

# Side in pixels of the patches that begin with the named clusters, as suggested patches have by
# default; less in a smaller volume.
_PATCH = 128
# Random patches: the uncertainty of clusters says little about where the named class is missed (see
# docs/benchmark-few-labels.md).
_STRATEGY = "random"


class NameClusters(JobStarter):
    """Model and volume, the table of clusters, clicks in the image, and what names are used for.

    Attributes:
        model: the clusters of the open project, None before one is open.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "predict",
            start="Show clusters",
            tip="Find the clusters in the whole volume, block by block, and show them.",
        )
        self.model: ClusterNaming | None = None
        self.run = narrow(QComboBox())
        self.run.setToolTip(
            "A model that was trained without labels (method iic); the newest comes first."
        )
        self.volume = narrow(QComboBox())
        self.volume.setToolTip("The volume to show; cluster names apply to all volumes.")
        self.name = narrow(QComboBox())
        self.name.setToolTip("The class that you give to the clusters that you click.")
        self.pick = button(
            "Pick in the image",
            "Each click in the image names the cluster there, or removes its name.",
            lambda: None,
        )
        self.pick.setCheckable(True)
        self.table = ClusterTable(self.toggle)
        self.summary = Sentence()
        self.use = button(
            "Use as labels",
            "Suggest patches in which the named clusters are painted, to correct and accept in "
            "Annotate.",
            self.use_as_labels,
        )
        self.export = button(
            "Export the mask …", "Write the named clusters to a file, as classes.", self.export_mask
        )
        # Shown when there are clusters to name.
        self._fields = QWidget()
        column(
            self._fields,
            labelled(("model", self.run), ("volume", self.volume)),
            self.start,
            labelled(("name them", self.name)),
            # Below the class: beside it, the two would make the dock wider.
            self.pick,
            self.table,
            self.summary,
            wrapped(self.use, self.export),
            margin=0,
        )
        column(self, self.reason, self._fields)
        for box in (self.run, self.volume):
            box.currentTextChanged.connect(lambda _: self._on_chosen())
        # On the viewer, not on a layer: the click counts whichever layer is selected.
        self._clicks = on_click(self._on_click, lambda viewer: self._picking())
        session.viewer.mouse_drag_callbacks.append(self._clicks)
        session.escaped.connect(self._stop_picking)
        session.closing.connect(self._close)
        self.listen()

    def _close(self) -> None:
        self._session.viewer.mouse_drag_callbacks.remove(self._clicks)

    def on_project(self, opened: OpenProject) -> None:
        """Use the clusters of the opened project."""
        self.model = ClusterNaming(opened.project)

    @property
    def found(self) -> bool:
        """Whether the clusters of the chosen model are predicted, and can be named."""
        return self.model is not None and self.model.clusters() is not None

    # -- choices -----------------------------------------------------------------------

    def _runs(self) -> list[str]:
        catalogue = self._session.catalogue
        return [] if self.model is None or catalogue is None else self.model.runs(catalogue)

    def _chosen(self) -> tuple[str, str]:
        return self.run.currentText(), self.volume.currentText()

    def _names(self, model: ClusterNaming) -> Names:
        with self._session.showing_errors():
            return model.names()
        return {}

    @property
    def no_project(self) -> str:
        """The reason without a project: layers are chosen above, in the same panel."""
        return "There is no project yet: choose your layers above."

    def why_not(self, opened: OpenProject) -> str:
        """Why there are no clusters to show; empty if there are."""
        if not self._runs():
            return (
                "Clusters come from a training without labels: choose the method iic in Train "
                "first."
            )
        return self._session.runner.busy

    def says_why(self) -> bool:
        """Not while a job runs, which its own panel shows."""
        return self._session.runner.job is None

    def offer(self, opened: OpenProject | None) -> None:
        """List runs, volumes and classes, and update the table."""
        before = self._chosen()
        self._fields.setVisible(bool(self._runs()))
        refill(self.run, self._runs(), prefer_first=True)
        refill(self.volume, opened.volumes if opened is not None else [])
        refill(self.name, list(opened.project.classes[1:]) if opened is not None else [])
        if self.model is not None:
            self.model.choose(*self._chosen())
        # Unchanged choices leave the layers alone, which the user may have hidden.
        if before == self._chosen():
            self._show_table()
        else:
            self._on_chosen()

    def _on_chosen(self) -> None:
        """Show the chosen clusters, so that the user sees what a click names."""
        opened = self._session.opened
        model = self.model
        if opened is not None and model is not None:
            model.choose(*self._chosen())
            self._bring_on_view(opened, model)
        self._show_table()

    def _bring_on_view(self, opened: OpenProject, model: ClusterNaming) -> None:
        run = model.run
        volume = model.volume
        if model.clusters() is None or shown_already(opened, run, volume):
            return
        mask = opened.output("mask", volume)
        of_clusters = any(is_of(opened, other, "mask", volume) for other in self._runs())
        with self._session.showing_errors():
            show_clusters(opened, run, volume)
            # A mask of a run with labels is of a better model, and stays.
            if mask is None or of_clusters:
                rename_classes(opened, run, volume)

    # -- the table ---------------------------------------------------------------------------

    def _show_table(self) -> None:
        model = self.model
        names = self._names(model) if model is not None else {}
        rows = model.rows(names) if model is not None else []
        self.table.show_rows(rows)
        self._say_what_is_named(model.in_words(names) if model is not None else "", bool(rows))
        # Not while a job runs: measuring would compete with it for the disk and the processor.
        if model is not None and rows and model.shares is None and not self._session.runner.busy:
            self._measure(model)

    def _say_what_is_named(self, named: str, found: bool) -> None:
        """Summarise the names, or say what to do next.

        Args:
            named: summary of the named clusters; empty if none is.
            found: whether the clusters are predicted.
        """
        if found:
            next_step = "No cluster has a name yet: click those that belong to the class."
        elif self._runs():
            next_step = "Press Show clusters to predict them in the whole volume."
        else:
            next_step = ""
        self.summary.show_text(named or next_step, "" if named else "hint")
        self.pick.setEnabled(found)
        for use in (self.use, self.export):
            use.setEnabled(found and bool(named) and not self._session.runner.busy)

    def _measure(self, model: ClusterNaming) -> None:
        prediction = model.prediction()
        clusters = None if prediction is None else prediction.clusters
        run = model.run
        volume = model.volume

        def done(measured: Any) -> None:
            model.keep_shares(run, volume, measured)
            # The user may have opened or chosen something else meanwhile.
            if model is self.model and (run, volume) == (model.run, model.volume):
                self._show_table()

        def failed(text: str) -> None:
            self._session.say(text, "error")

        if prediction is not None and clusters is not None:
            part = prediction.predicted
            self._session.in_background(lambda: shares(clusters, part), done, failed)

    # -- naming ------------------------------------------------------------------------------

    def toggle(self, cluster: int) -> None:
        """Give a cluster the chosen class, or remove its name, on disk and in the layers."""
        opened = self._session.opened
        model = self.model
        if opened is None or model is None or model.clusters() is None:
            return
        with self._session.showing_errors():
            model.toggle(cluster, self.name.currentText())
            rename_classes(opened, model.run, model.volume)
        self._show_table()
        self.table.selectRow(cluster - 1)

    def _stop_picking(self) -> None:
        self.pick.setChecked(False)

    def _picking(self) -> bool:
        return self.pick.isChecked() and self.pick.isEnabled()

    def _on_click(self, point: Sequence[float]) -> None:
        """Name the cluster under a click in the image."""
        opened = self._session.opened
        if opened is None or self.model is None:
            return
        if opened.viewer.dims.ndisplay == 3:
            self._session.say("Clusters can only be picked in sections: switch back to 2D first.")
            return
        # Integer indices are the centres of voxels, so rounding gives the voxel under the mouse.
        place = opened.place(self.model.volume)
        z, y, x = np.round(place.to_index(opened.viewer, point)).astype(int).tolist()
        cluster = self.model.cluster_at((z, y, x))
        if cluster is not None:
            self.toggle(cluster)

    # -- jobs --------------------------------------------------------------------------------

    def before_start(self, opened: OpenProject) -> None:
        """Show the blocks that are predicted already."""
        self._on_chosen()

    def job(self, opened: OpenProject) -> PredictJob:
        """The prediction of the volume; blocks that are predicted already are kept."""
        return PredictJob(
            project=str(opened.project.folder),
            run=self.run.currentText(),
            volume=self.volume.currentText(),
        )

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """Measure the shares of the clusters again."""
        if self.model is not None and isinstance(job, PredictJob):
            self.model.forget_shares(job.run or "", job.volume or "")

    def use_as_labels(self) -> None:
        """Suggest patches that begin with the named clusters."""
        opened = self._session.opened
        if opened is None or not may_suggest(self, opened):
            return
        run, volume = self._chosen()
        self.pick.setChecked(False)
        # They would cover the paint.
        hide(opened, volume, ("clusters", "mask"))
        with self._session.showing_errors():
            side = min(_PATCH, *opened.shape(volume)[1:])
            settings = QuerySettings.parse({"strategy": _STRATEGY, "patch": side})
            folder = str(opened.project.folder)
            self._session.start(
                SuggestJob(project=folder, run=run, volume=volume, settings=settings)
            )

    def export_mask(self) -> None:
        """Ask for a file and write the named clusters to it."""
        opened = self._session.opened
        if opened is None:
            return
        proposed = opened.project.folder.parent / f"{self.volume.currentText()}-mask.tif"
        formats = image_formats()
        to, selected = QFileDialog.getSaveFileName(
            self, "Export to", str(proposed), file_filter(formats)
        )
        if to:
            completed = with_ending(to, selected, formats)
            # The file dialog has asked whether to replace the file of the name that was typed.
            self.write_mask(opened, Path(completed), replace=completed == to)

    def write_mask(self, opened: OpenProject, to: Path, *, replace: bool = True) -> None:
        """Write the named clusters to a file, perhaps in place of an existing one."""
        with self._session.showing_errors():
            job = ExportJob(
                project=str(opened.project.folder),
                what="mask",
                to=str(to),
                run=self.run.currentText(),
                volume=self.volume.currentText(),
                settings=opened.mask.for_export(),
                overwrite=replace and to.exists(),
            )
            self._session.start(job)

"""Clusters that a model has found without labels: looked at, named after classes by clicks, and put to use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_emda._gui.common.palette import named_colour
from napari_emda._gui.common.widgets import Sentence, button, column, labelled, refill, row
from napari_emda._gui.predict.layers import hide, rename_classes, show_clusters, shown_already
from napari_emda._gui.process import requirements
from napari_emda._gui.session import Session
from napari_emda.data.probabilities import class_ids
from napari_emda.data.volume import Array
from napari_emda.project.clusters import shares
from napari_emda.project.job_files import ExportJob, PredictJob, SuggestJob
from napari_emda.project.runs import volume_names
from napari_emda.settings.suggestion import QuerySettings

_PATCH = 128
_ROWS = 10
"""Of the table at most; beyond them it scrolls."""
_STRATEGY = "random"
"""Where clusters are in uncertainty says little of where the named class is missed: see the benchmark."""


class NameClusters(QWidget):
    """Model and volume, the clusters with their shares and classes, clicks in the image, and the use of names."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._shares: dict[tuple[str | None, str | None], Any] = {}
        self.run, self.volume, self.name = QComboBox(), QComboBox(), QComboBox()
        self.run.setToolTip(
            "A model that was trained without labels (method iic); the newest is at the top."
        )
        self.volume.setToolTip("Where its clusters are looked at; their names hold in all volumes.")
        self.name.setToolTip("The class that clusters get when you click them.")
        self.reason, self.told = Sentence(), Sentence()
        self.show_them = button(
            "Show clusters",
            "Find the clusters in the whole volume, block by block, and show them.",
            self.show_clusters,
        )
        self.pick = button(
            "Pick in the image",
            "Each click in the image names the cluster there, or takes the name away.",
            lambda: None,
        )
        self.pick.setCheckable(True)
        self.table = self._empty_table()
        self.use = button(
            "Use as labels",
            "Suggest patches with the named clusters painted in, to be corrected and accepted in Annotate.",
            self.use_as_labels,
        )
        self.export = button(
            "Export the mask …", "Write the named clusters to a file as classes.", self.export_mask
        )
        fields = labelled(("model", self.run), ("volume", self.volume))
        naming = labelled(("name them", row(None, self.name, (self.pick, 0))))
        column(
            self,
            self.reason,
            fields,
            self.show_them,
            naming,
            self.table,
            self.told,
            row(None, self.use, self.export),
        )
        self._callbacks, self._on_click = session.viewer.mouse_drag_callbacks, self._clicks()
        self._callbacks.append(self._on_click)
        self._connect()
        self.update_state()

    def _empty_table(self) -> QTableWidget:
        table = QTableWidget(0, 3)
        table.setHorizontalHeaderLabels(["cluster", "share", "class"])
        table.setToolTip(
            "A click names the cluster, or takes its name away. Clusters without a name are background."
        )
        table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        across, down = table.horizontalHeader(), table.verticalHeader()
        assert across is not None
        assert down is not None
        across.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        down.hide()
        return table

    def _connect(self) -> None:
        session = self._session
        for signal in (session.project_changed, session.catalogue_changed):
            signal.connect(self.update_state)
        session.runner.started.connect(lambda job: self.update_state())
        session.runner.ended.connect(self._on_ended)
        session.closing.connect(lambda: self._callbacks.remove(self._on_click))
        self.table.cellClicked.connect(lambda line, _: self.toggle(line + 1))
        for box in (self.run, self.volume):
            box.currentTextChanged.connect(lambda _: self._on_chosen())

    # -- what there is -------------------------------------------------------------------------------------------

    def clustering(self) -> list[str]:
        """The runs that tell clusters apart, the newest first."""
        project, catalogue = self._session.project, self._session.catalogue
        if project is None or catalogue is None:
            return []
        return [
            run
            for run in reversed(project.runs())
            if not requirements.learns_classes(project, run, catalogue)
        ]

    def chosen(self) -> tuple[str, str]:
        """The run and the volume."""
        return self.run.currentText(), self.volume.currentText()

    def clusters(self) -> Array | None:
        """Stored probabilities of the clusters, (k, z, y, x); None before they were found."""
        project, (run, volume) = self._session.project, self.chosen()
        return project.clusters(run, volume) if project is not None and run and volume else None

    def names(self) -> dict[int, str]:
        """Class by cluster."""
        project, (run, _) = self._session.project, self.chosen()
        with self._session.telling():
            return project.names(run) if project is not None and run else {}
        return {}

    def _classes(self) -> tuple[str, ...]:
        return self._session.project.classes if self._session.project is not None else ()

    def why_not(self) -> str:
        """Why there is nothing to name; empty when there is."""
        if self._session.project is None:
            return "There is no project yet: choose your layers above."
        if not self.clustering():
            return "Clusters come from a training without labels: choose the method iic in Train first."
        return self._session.runner.busy

    def update_state(self) -> None:
        """Offer the runs, volumes and classes that there are; grey out what cannot be done."""
        project, runner, before = self._session.project, self._session.runner, self.chosen()
        refill(self.run, self.clustering(), prefer_first=True)
        refill(self.volume, volume_names(project))
        refill(self.name, list(self._classes()[1:]))
        why = self.why_not()
        self.reason.show_text("" if runner.job is not None else why, "hint")
        self.show_them.setEnabled(not why)
        (self._show_table if self.chosen() == before else self._on_chosen)()

    def _on_chosen(self) -> None:
        """Bring the clusters of the list on view, where they were found already: a click names what is seen."""
        session, (run, volume) = self._session, self.chosen()
        if self.clusters() is not None and not shown_already(session, run, volume):
            mask = session.output("mask", volume)
            with session.telling():
                show_clusters(session, run, volume)
                if (
                    mask is None or mask.metadata.get("run") in self.clustering()
                ):  # else it is of a better model
                    rename_classes(session, run, volume)
        self._show_table()

    def _on_ended(self, last: object) -> None:
        job = self._session.runner.last_job
        if isinstance(job, PredictJob):
            self._shares.pop((job.run, job.volume), None)
        self.update_state()

    # -- the table -----------------------------------------------------------------------------------------------

    def _show_table(self) -> None:
        clusters, names, key = self.clusters(), self.names(), self.chosen()
        count = 0 if clusters is None else clusters.shape[0]
        self.table.setRowCount(count)
        self.table.setVisible(count > 0)
        self.table.setFixedHeight((1 + min(count, _ROWS)) * self.table.rowHeight(0) + 4)
        known = self._shares.get(key)
        for line in range(count):
            share = "…" if known is None else f"{known[line]:.1%}"
            for at, text in enumerate((f"cluster {line + 1}", share, names.get(line + 1, ""))):
                self.table.setItem(line, at, QTableWidgetItem(text))
            swatch = QPixmap(16, 16)
            swatch.fill(QColor(named_colour(line + 1, names, self._classes())))
            item = self.table.item(line, 0)
            assert item is not None
            item.setData(Qt.ItemDataRole.DecorationRole, swatch)
        self._tell(names, known)
        if clusters is not None and known is None and self._session.runner.job is None:
            self._measure(clusters, key)

    def _measure(self, clusters: Array, key: tuple[str, str]) -> None:
        def done(found: Any) -> None:
            self._shares[key] = found
            if self.chosen() == key:
                self._show_table()

        self._session.in_background(
            lambda: shares(clusters), done, lambda text: self._session.say(text, "error")
        )

    def _tell(self, names: dict[int, str], known: Any) -> None:
        there = self.clusters() is not None
        parts = []
        for name in dict.fromkeys(names.values()):
            members = [cluster for cluster, own in names.items() if own == name]
            share = (
                ""
                if known is None
                else f", {sum(known[cluster - 1] for cluster in members):.1%} of the voxels"
            )
            parts.append(f"{name}: {len(members)} cluster{'s' if len(members) > 1 else ''}{share}")
        first = "Press Show clusters to find them in the whole volume." if self.clustering() else ""
        nothing = (
            "No cluster has a name yet: click those that belong to the class." if there else first
        )
        self.told.show_text(
            "; ".join(parts) + "." if parts else nothing, "hint" if not parts else ""
        )
        busy = self._session.runner.busy
        for each in (self.use, self.export):
            each.setEnabled(there and bool(parts) and not busy)
        self.pick.setEnabled(there)

    # -- naming --------------------------------------------------------------------------------------------------

    def toggle(self, cluster: int) -> None:
        """Name a cluster after the chosen class, or take that name away; on disk at once, on view, too."""
        session, project, (run, volume) = self._session, self._session.project, self.chosen()
        if project is None or self.clusters() is None:
            return
        names, name = self.names(), self.name.currentText()
        if names.get(cluster) == name:
            del names[cluster]
        else:
            names[cluster] = name
        with session.telling():
            project.name_clusters(run, volume, names)
            rename_classes(session, run, volume)
        self._show_table()
        self.table.selectRow(cluster - 1)

    def cluster_at(self, point: Any) -> int | None:
        """The cluster at a point of the world; None outside the volume, and where nothing is predicted yet."""
        session, clusters = self._session, self.clusters()
        if clusters is None:
            return None
        z, y, x = (
            np.round(session.place(self.chosen()[1]).to_index(session.viewer, point))
            .astype(int)
            .tolist()
        )
        if not all(0 <= i < n for i, n in zip((z, y, x), clusters.shape[1:], strict=True)):
            return None
        return int(class_ids(np.asarray(clusters[:, z : z + 1, y, x]))[0]) or None

    def _clicks(self) -> Any:
        """A mouse callback for the viewer: while that is asked for, a click without a drag names what is under it."""

        def on_press(viewer: Any, event: Any) -> Iterator[None]:
            yield
            moved = False
            while event.type == "mouse_move":
                moved = True
                yield
            wanted = (
                self.pick.isChecked() and self.pick.isEnabled() and not moved and event.button == 1
            )
            if wanted and viewer.dims.ndisplay == 3:
                self._session.say(
                    "Clusters are picked in a section: go back to two dimensions first."
                )
                wanted = False
            cluster = self.cluster_at(event.position) if wanted else None
            if cluster is not None:
                self.toggle(cluster)

        return on_press

    # -- jobs ----------------------------------------------------------------------------------------------------

    def show_clusters(self) -> None:
        """Find the clusters in the volume, unless that was done, and show them."""
        session, project, (run, volume) = self._session, self._session.project, self.chosen()
        if why := self.why_not():
            session.say(why, "error")
            return
        assert project is not None
        with session.telling():
            self._on_chosen()
            session.start(PredictJob(project=str(project.folder), run=run, volume=volume))

    def use_as_labels(self) -> None:
        """Have patches suggested that begin with the named clusters."""
        session, project, (run, volume) = self._session, self._session.project, self.chosen()
        assert project is not None
        self.pick.setChecked(False)
        hide(session, volume, ("clusters", "mask"))  # which would lie over what is painted
        with session.telling():
            side = min(_PATCH, *session.shape(volume)[1:])
            settings = QuerySettings.parse({"strategy": _STRATEGY, "patch": side})
            session.start(
                SuggestJob(project=str(project.folder), run=run, volume=volume, settings=settings)
            )

    def export_mask(self) -> None:
        """Ask for a file, and write the named clusters to it."""
        project = self._session.project
        assert project is not None
        proposed = project.folder.parent / f"{self.volume.currentText()}-mask.tif"
        to, _ = QFileDialog.getSaveFileName(
            self, "Export to", str(proposed), "TIFF (*.tif);;OME-Zarr (*.zarr)"
        )
        if to:
            self.write_mask(Path(to if Path(to).suffix else f"{to}.tif"))

    def write_mask(self, to: Path) -> None:
        """Write the named clusters to a file, in place of the one that may be there."""
        session, project, (run, volume) = self._session, self._session.project, self.chosen()
        assert project is not None
        with session.telling():
            places = {"project": str(project.folder), "to": str(to), "run": run, "volume": volume}
            kept = {
                "threshold": session.threshold,
                "minimum_size": session.smallest,
                "overwrite": to.exists(),
            }
            session.start(ExportJob.parse({"what": "mask", **places, **kept}))

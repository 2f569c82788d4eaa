"""The panel that writes results to files of the user's choice."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit

from napari_emda._gui.common.widgets import button, column, labelled, narrow, refill, row
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session, in_short
from napari_emda.project.job_files import ExportJob

KINDS: dict[str, tuple[str, str, str]] = {
    "mask": ("mask (class of every voxel)", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "objects": ("objects (a number for each)", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "probabilities": ("probabilities", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "table": ("table of objects", ".csv", "CSV (*.csv)"),
    "model": ("model", ".zip", "Model package (*.zip)"),
}
"""What can be exported: words, usual suffix, filter of the file dialog."""


class ExportPanel(JobPanel):
    """What, from which model, where to."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "export",
            start="Export",
            tip="Write the file; predicts first what is not predicted yet.",
        )
        self.what = narrow(QComboBox())
        for kind, (words, _, _) in KINDS.items():
            self.what.addItem(words, kind)
        self.what.setToolTip("Files carry the voxel size, so that Fiji shows them in nanometres.")
        self.run = QComboBox()
        self.volume = QComboBox()
        self.path = QLineEdit()
        self.path.setToolTip("The file to write.")
        self.replace = QCheckBox("replace an existing file")
        browse = button("…", "Choose a file.", self._browse)
        browse.setFixedWidth(28)
        fields = labelled(
            ("what", self.what),
            ("model", self.run),
            ("volume", self.volume),
            ("file", row(None, self.path, (browse, 0))),
            ("", self.replace),
        )
        column(self, fields, self.reason, self.start, self.strip)
        for box in (self.what, self.run, self.volume):
            box.currentIndexChanged.connect(lambda _: self._propose())
        self.listen()

    def kind(self) -> str:
        """What is to be exported."""
        return str(self.what.currentData())

    def target(self) -> Path:
        """The file to write."""
        return Path(self.path.text().strip()).expanduser()

    def _propose(self) -> None:
        """A file name, as long as the user has typed none."""
        opened = self._session.opened
        if opened is None or self.path.isModified():
            return
        volume_and_kind = f"{self.volume.currentText()}-{self.kind()}"
        name = self.run.currentText() if self.kind() == "model" else volume_and_kind
        path = opened.project.folder.parent / f"{name}{KINDS[self.kind()][1]}"
        self.path.setText(in_short(path))

    @property
    def no_project(self) -> str:
        """What is missing, be it that no project is open."""
        return "Exporting needs a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why nothing can be exported now; empty when it can."""
        return self._session.runner.busy if opened.runs else self.no_project

    def offer(self, opened: OpenProject | None) -> None:
        """The models and volumes that there are."""
        refill(self.run, opened.runs if opened is not None else [], prefer_first=True)
        refill(self.volume, opened.volumes if opened is not None else [])
        self._propose()

    def _browse(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Export to", str(self.target()), KINDS[self.kind()][2]
        )
        if path:
            suffix = KINDS[self.kind()][1]
            self.path.setText(path if Path(path).suffix else path + suffix)
            self.path.setModified(True)
            self.replace.setChecked(Path(path).exists())  # the file dialog has asked

    def job(self, opened: OpenProject) -> ExportJob:
        """Write the file."""
        return ExportJob.model_validate(
            {
                "project": str(opened.project.folder),
                "what": self.kind(),
                "to": str(self.target()),
                "run": self.run.currentText(),
                "volume": self.volume.currentText(),
                "threshold": self._session.mask.threshold,
                "minimum_size": self._session.mask.smallest,
                "overwrite": self.replace.isChecked(),
            }
        )

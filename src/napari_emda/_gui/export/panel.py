"""The fifth panel: write results to files of the user's choice."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, labelled, refill, row
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session, in_short
from napari_emda.project import runs
from napari_emda.project.job_files import ExportJob
from napari_emda.project.runs import volume_names

KINDS: dict[str, tuple[str, str, str]] = {
    "mask": ("mask (class of every voxel)", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "objects": ("objects (a number for each)", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "probabilities": ("probabilities", ".tif", "TIFF (*.tif);;OME-Zarr (*.zarr)"),
    "table": ("table of objects", ".csv", "CSV (*.csv)"),
    "model": ("model", ".zip", "Model package (*.zip)"),
}
"""What can be exported: words, usual suffix, filter of the file dialog."""


class ExportPanel(QWidget):
    """What, from which model, where to."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.what, self.run, self.volume = QComboBox(), QComboBox(), QComboBox()
        for kind, (words, _, _) in KINDS.items():
            self.what.addItem(words, kind)
        self.what.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.what.setMinimumContentsLength(12)
        self.what.setToolTip("Files carry the voxel size, so that Fiji shows them in nanometres.")
        self.path = QLineEdit()
        self.path.setToolTip("The file to write.")
        self.replace = QCheckBox("replace an existing file")
        self.reason = Sentence()
        self.go = button(
            "Export", "Write the file; predicts first what is not predicted yet.", self.export
        )
        self.strip = JobStrip(session.runner, "export", stop="Stop")
        browse = button("…", "Choose a file.", self._browse)
        browse.setFixedWidth(28)
        fields = labelled(
            ("what", self.what),
            ("model", self.run),
            ("volume", self.volume),
            ("file", row(None, self.path, (browse, 0))),
            ("", self.replace),
        )
        column(self, fields, self.reason, self.go, self.strip)
        self._connect()
        self.update_state()

    def _connect(self) -> None:
        session = self._session
        session.project_changed.connect(self.update_state)
        session.runner.started.connect(lambda job: self.update_state())
        session.runner.ended.connect(lambda last: self.update_state())
        for box in (self.what, self.run, self.volume):
            box.currentIndexChanged.connect(lambda _: self._propose())

    def kind(self) -> str:
        """What is to be exported."""
        return str(self.what.currentData())

    def target(self) -> Path:
        """The file to write."""
        return Path(self.path.text().strip()).expanduser()

    def _propose(self) -> None:
        """A file name, as long as the user has typed none."""
        project = self._session.project
        if project is not None and not self.path.isModified():
            name = (
                self.run.currentText()
                if self.kind() == "model"
                else f"{self.volume.currentText()}-{self.kind()}"
            )
            self.path.setText(in_short(project.folder.parent / f"{name}{KINDS[self.kind()][1]}"))

    def why_not(self) -> str:
        """Why nothing can be exported now; empty when it can."""
        project = self._session.project
        if project is None or runs.latest(project) is None:
            return "Exporting needs a model: train one first."
        return self._session.runner.busy

    def update_state(self) -> None:
        """Offer what there is; grey out what cannot be done."""
        project = self._session.project
        refill(
            self.run, [] if project is None else list(reversed(project.runs())), prefer_first=True
        )
        refill(self.volume, volume_names(project))
        why, job = self.why_not(), self._session.runner.job
        self.reason.show_text("" if job is not None and job.kind == "export" else why, "hint")
        self.go.setEnabled(not why)
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

    def export(self) -> None:
        """Write the file in the background."""
        session, project = self._session, self._session.project
        if why := self.why_not():
            session.say(why, "error")
            return
        assert project is not None
        with session.telling():
            session.start(
                ExportJob.model_validate(
                    {
                        "project": str(project.folder),
                        "what": self.kind(),
                        "to": str(self.target()),
                        "run": self.run.currentText(),
                        "volume": self.volume.currentText(),
                        "threshold": session.threshold,
                        "minimum_size": session.smallest,
                        "overwrite": self.replace.isChecked(),
                    }
                )
            )

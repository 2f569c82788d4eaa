"""The panel that writes results to files of the user's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog

from napari_emda._gui.common.forms import fields, make_widget
from napari_emda._gui.common.text_box import TextBox
from napari_emda._gui.common.widgets import (
    Drawer,
    Sentence,
    chosen_name,
    column,
    file_button,
    file_filter,
    labelled,
    narrow,
    refill,
    row,
    show_row,
    with_ending,
)
from napari_emda._gui.export.hand_on import HandOn
from napari_emda._gui.job_panel import JobPanel, offer_runs
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue, Export
from napari_emda._gui.session import Session, in_short
from napari_emda.project.job_files import ExportJob
from napari_emda.settings.objects import SeparationSettings

# Shown until the child process has listed the exports, which takes seconds.
_READING = "Reading the list of exports …"
# The entry for all classes.
_ALL_CLASSES = "all"

# Exports of a model alone, which belong to no volume.
_OF_RUN = ("model", "model_file")


class ExportPanel(JobPanel):
    """Kind of result, model and volume, and the file to write."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "export",
            start="Export",
            tip="Write the file; a volume that is not predicted yet is predicted first.",
        )
        self.what = narrow(QComboBox())
        self.what.setToolTip("Files carry the voxel size, so that Fiji shows them in nanometres.")
        self.sentence = Sentence()
        self.class_name = narrow(QComboBox())
        self.class_name.setToolTip("The class whose objects or probability are exported.")
        self.run = narrow(QComboBox())
        self.run.setToolTip("The trained model whose result is exported.")
        self.volume = narrow(QComboBox())
        self.volume.setToolTip("The volume whose result is exported.")
        schema = SeparationSettings.model_json_schema()["properties"]
        (setting,) = fields({"properties": {"separate": schema["separate"]}})
        self.separate = make_widget(setting)
        self.path = TextBox("The file to write.")
        self.replace = QCheckBox("replace an existing file")
        self.replace.setToolTip("Untick it to keep a file of that name.")
        browse = file_button("Choose a file.", self._browse)
        choices = labelled(
            ("what", self.what),
            ("class", self.class_name),
            ("model", self.run),
            ("volume", self.volume),
            ("separate", self.separate.native),
            ("file", row(None, self.path, (browse, 0))),
            ("", self.replace),
        )
        self.hand_on = HandOn(session)
        column(
            self,
            self.sentence,
            choices,
            self.reason,
            self.start,
            self.strip,
            Drawer("Hand on the project", self.hand_on),
        )
        self.what.currentIndexChanged.connect(lambda _: self.update_state())
        # The proposed file name contains the model or the volume.
        for box in (self.run, self.volume):
            box.currentIndexChanged.connect(lambda _: self._propose())
        self.separate.changed.connect(self._on_separate)
        session.mask_changed.connect(self._show_separate)
        self.listen()

    def _on_separate(self, value: float) -> None:
        # The objects that are looked at in Objects are those that are exported.
        self._session.set_mask(separate=float(value))

    def _show_separate(self) -> None:
        self.separate.value = self._session.mask.separate

    @property
    def chosen(self) -> Export | None:
        """The chosen export; None until the list is read."""
        catalogue = self._session.catalogue
        return None if catalogue is None else catalogue.exports.get(self.what.currentText())

    @property
    def _accepted(self) -> dict[str, Any]:
        """The settings of the chosen export, by name."""
        chosen = self.chosen
        settings: dict[str, Any] = {} if chosen is None else chosen.schema.get("properties", {})
        return settings

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """List the exports."""
        refill(self.what, list(catalogue.exports))

    def target(self) -> Path:
        """The file to write."""
        return Path(self.path.text().strip()).expanduser()

    def _propose(self) -> None:
        """Propose a file name, unless the user has typed one."""
        opened = self._session.opened
        chosen = self.chosen
        if opened is None or chosen is None or self.path.isModified():
            return
        # The run names its model.
        of_volume = f"{self.volume.currentText()}-{chosen.name}"
        name = chosen_name(self.run) if chosen.name in _OF_RUN else of_volume
        self.path.setText(in_short(opened.project.folder.parent / f"{name}{chosen.suffix}"))

    @property
    def no_project(self) -> str:
        """The reason without a project, and without a model."""
        return "Exporting needs a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why nothing can be exported now; empty if it can."""
        if not opened.runs:
            return self.no_project
        return self._session.runner.busy if self.chosen is not None else _READING

    def offer(self, opened: OpenProject | None) -> None:
        """List models, volumes and classes."""
        # The newest model is what users want to export, so a new one is chosen.
        offer_runs(self.run, opened)
        refill(self.volume, opened.volumes if opened is not None else [])
        show_row(self.what, shown=self.what.count() > 0)
        chosen = self.chosen
        self.sentence.show_text(chosen.summary if chosen is not None else "")
        classes = list(opened.project.classes[1:]) if opened is not None else []
        show_row(self.separate.native, shown="separate" in self._accepted)
        # With a single class there is nothing to choose.
        choosable = chosen is not None and chosen.classes != "all" and len(classes) > 1
        if chosen is not None and chosen.classes == "all or one":
            classes.insert(0, _ALL_CLASSES)
        refill(self.class_name, classes if choosable else [])
        self._propose()

    def _browse(self) -> None:
        chosen = self.chosen
        if chosen is None:
            return
        path, selected = QFileDialog.getSaveFileName(
            self, "Export to", str(self.target()), file_filter(chosen.formats)
        )
        if path:
            completed = with_ending(path, selected, chosen.formats)
            self.path.setText(completed)
            self.path.setModified(True)
            # The file dialog has asked whether to replace the file of the name that was typed.
            self.replace.setChecked(completed == path and Path(path).exists())

    def job(self, opened: OpenProject) -> ExportJob:
        """The export, with the settings of the mask that the user sees.

        Raises:
            DataError: the file cannot be written, or exists and is not to be replaced.
        """
        chosen = self.chosen
        if chosen is not None:
            # Here, and again by the job: nobody waits for a process to hear that a file exists.
            suffixes = [suffix for group in chosen.formats.values() for suffix in group]
            opened.project.claim(self.target(), suffixes, overwrite=self.replace.isChecked())
        class_name = self.class_name.currentText()
        values = opened.mask.for_export()
        # Exporters without a threshold, such as the model, take none of them.
        accepted = self._accepted
        return ExportJob(
            project=str(opened.project.folder),
            what=self.what.currentText(),
            to=str(self.target()),
            run=chosen_name(self.run),
            volume=self.volume.currentText(),
            class_name=class_name if class_name not in ("", _ALL_CLASSES) else None,
            settings={name: value for name, value in values.items() if name in accepted},
            overwrite=self.replace.isChecked(),
        )

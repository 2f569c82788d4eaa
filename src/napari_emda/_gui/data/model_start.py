"""The choice of a model that takes the place of the source."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_emda._gui.common.widgets import (
    Sentence,
    button,
    column,
    file_button,
    labelled,
    narrow,
    row,
)
from napari_emda._gui.data.foreign_model import converted
from napari_emda._gui.data.gap_sentence import ChosenImage
from napari_emda._gui.session import Session
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import EmdaError
from napari_emda.project.foreign_package import is_foreign
from napari_emda.project.model_file import StoredModel, model_at
from napari_emda.project.model_import import check_model
from napari_emda.project.my_models import ListedModel, by_gap, folder_of_models, my_models

_START = "Start from a model"
_SOURCE = "Use a source instead"
_NONE = "choose a model"


@dataclass(frozen=True)
class _Found:
    """The user's models, and why some files are none."""

    models: list[ListedModel]
    unreadable: list[str]


class ModelStart(QWidget):
    """A button, and behind it a list of the user's models, those first that know the target's look.

    Args:
        session: of the dock.
        stop: set when the dock is closed.

    Attributes:
        on: whether a model takes the place of the source.
        path: of the chosen model; None as long as there is none, or if it cannot be used.
        model: what its file says.
    """

    chosen = Signal()
    """Another model was chosen, or none."""

    def __init__(self, session: Session, stop: threading.Event) -> None:
        super().__init__()
        self._session = session
        self._stop = stop
        self.on = False
        self.path: Path | None = None
        self.model: StoredModel | None = None
        self._listed: list[ListedModel] = []
        self._target: ChosenImage | None = None
        # Of packages of other programs: their files, until the dock is closed, and what was said.
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._notices: dict[Path, list[str]] = {}
        self._reading = False
        session.closing.connect(self._close)
        self.toggle = button(
            _START, "Start from a trained model, without the volume it learnt from.", self.switch
        )
        self.box = narrow(QComboBox())
        self.box.setToolTip(
            f"Your own models, in {folder_of_models()}: those first that know the look of the "
            "target."
        )
        self.box.setPlaceholderText(_NONE)
        self.box.currentIndexChanged.connect(self._on_index)
        browse = file_button("Choose a model's file or package.", self._browse)
        self._choice = labelled(("model", row(None, self.box, (browse, 0))))
        self._choice.hide()
        self.sentence = Sentence()
        column(self, self.toggle, self._choice, self.sentence, margin=0)

    def switch(self) -> None:
        """Start from a model, or from a source again."""
        self.on = not self.on
        self.toggle.setText(_SOURCE if self.on else _START)
        self._choice.setVisible(self.on)
        self.box.setPlaceholderText(_NONE)
        self._choose(None)
        if self.on:
            self._list()

    def compare(self, target: ChosenImage | None) -> None:
        """Order the models by how much this target differs from what they know."""
        if target != self._target:
            self._target = target
            if self.on:
                self._list()

    # -- the list ----------------------------------------------------------------------------

    def _list(self) -> None:
        """Read the models and measure the target in the background."""
        target = self._target

        def work() -> _Found:
            models, unreadable = my_models()
            if target is not None and target.spacing is not None and models:
                models = by_gap(models, target.volume("target", self._stop))
            return _Found(models, unreadable)

        def done(found: _Found) -> None:
            # The user may have chosen another target meanwhile.
            if target == self._target and self.on:
                self._show(found)

        self._session.in_background(work, done, self._fail)

    def _show(self, found: _Found) -> None:
        self._listed = found.models
        paths = [listed.path for listed in found.models]
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItems([_entry(listed) for listed in found.models])
            self.box.setCurrentIndex(paths.index(self.path) if self.path in paths else -1)
        if self._reading:
            return
        if not found.models and self.path is None:
            self.sentence.show_text(
                "You have no models of your own yet: choose a file, or export one as model_file "
                f"to {folder_of_models()}.",
                "hint",
            )
        elif found.unreadable:
            self.sentence.show_text(" ".join(found.unreadable), "hint")
        elif self.path in paths:
            self._describe(found.models[paths.index(self.path)])

    def _on_index(self, index: int) -> None:
        if 0 <= index < len(self._listed):
            listed = self._listed[index]
            self._choose(listed)

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "A model", str(folder_of_models()), "Models (*.safetensors *.zip)"
        )
        if path:
            self.open(Path(path))

    def open(self, path: Path) -> None:
        """Choose a model by its file."""
        target = self._target

        def work() -> ListedModel:
            usable = self._usable(path, target)
            # Packages are unpacked, which takes a while.
            with (
                tempfile.TemporaryDirectory() as folder,
                model_at(usable, Path(folder) / "a") as file,
            ):
                listed = ListedModel(usable, file.model)
            if target is None or target.spacing is None:
                return listed
            return by_gap([listed], target.volume("target", self._stop))[0]

        def done(listed: ListedModel) -> None:
            self._reading = False
            if self.on:
                with QSignalBlocker(self.box):
                    self.box.setCurrentIndex(-1)
                self.box.setPlaceholderText(path.name)
                self._choose(listed)

        self._reading = True
        self.sentence.show_text(f"Reading {path.name} …")
        self._session.in_background(work, done, self._fail)

    def _usable(self, path: Path, target: ChosenImage | None) -> Path:
        """The file, or one of ours that predicts as a package of another program does."""
        if not is_foreign(path):
            return path
        own = None
        if target is not None and target.spacing is not None:
            own = VoxelGrid(target.spacing)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="napari-emda-")
        usable, notices = converted(path, Path(self._folder.name), own, self._stop)
        self._notices[usable] = notices
        return usable

    def _close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    # -- the choice --------------------------------------------------------------------------

    def _choose(self, listed: ListedModel | None) -> None:
        self.path = None if listed is None else listed.path
        self.model = None if listed is None else listed.model
        self.sentence.show_text("")
        if listed is not None:
            self._describe(listed)
        self.chosen.emit()

    def _describe(self, listed: ListedModel) -> None:
        """Say what the model is, or why it does not suit the target."""
        target = self._target
        tone = "note"
        text = " ".join([_in_words(listed), *self._notices.get(listed.path, [])])
        if target is not None and target.spacing is not None:
            pixel = VoxelGrid(target.spacing).pixel_size
            try:
                notices = check_model(listed.model, listed.model.classes, pixel, target.image.name)
            except EmdaError as error:
                notices = [str(error)]
            if notices:
                tone = "hint"
                text = " ".join([text, *notices])
        self.sentence.show_text(text, tone)

    def _fail(self, text: str) -> None:
        self._reading = False
        self._choose(None)
        self.sentence.show_text(text, "error")


def _entry(listed: ListedModel) -> str:
    structure = ", ".join(listed.model.classes[1:])
    domain_gap = "" if listed.domain_gap is None else f" – gap: {listed.domain_gap.size}"
    return f"{listed.name} ({structure}){domain_gap}"


def _in_words(listed: ListedModel) -> str:
    """What a model segments, where, at which pixel size, and how well it suits the target."""
    model = listed.model
    about = model.description
    parts = [f"{', '.join(model.classes[1:])}, pixels of {model.pixel_size:g} {model.unit}"]
    parts += [about.tissue] if about.tissue else []
    parts += [] if about.score is None else [f"IoU {about.score:.2f}"]
    parts += [f"licence {about.licence}"] if about.licence else []
    domain_gap = "" if listed.domain_gap is None else f" {listed.domain_gap.in_words()}"
    return f"{listed.name}: {'; '.join(parts)}.{domain_gap}"

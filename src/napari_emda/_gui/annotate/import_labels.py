"""Existing labels, to import as annotations or to begin patches with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.label_placement import labels_on, labels_to_learn
from napari_emda._gui.common.layer_volumes import array_of, numbers_of
from napari_emda._gui.common.widgets import Sentence, button, column, labelled, narrow
from napari_emda._gui.data.label_numbers import BACKGROUND, SECTIONS, LabelNumbers
from napari_emda._gui.data.layer_widgets import LayerChoice
from napari_emda._gui.data.masks import LABEL_LAYERS, MaskLayers
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.data.array import Array
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels
from napari_emda.data.label_question import Question
from napari_emda.errors import DataError
from napari_emda.io.checks import LabelsInDoubt

# What patches can begin with: entries of the list, and values of `Tools.start`.
_BEGIN = {"the prediction": "prediction", "nothing": "nothing", "the labels above": "labels"}
_UNANNOTATED = "0 not annotated, 1 the first class"
# Annotations are labelled in part as a rule, and classes count from 1.
_ZERO = {
    _UNANNOTATED: LabelMeaning(ignore=(0,)),
    SECTIONS: LabelMeaning(labelled_sections=True),
    BACKGROUND: LabelMeaning(),
}


class ImportBox(QWidget):
    """A labels layer, the button that imports it, and what patches begin with.

    Args:
        session: of the dock.
        tools: gets what patches begin with.
        annotations: returns the annotation layer of a volume; None while no project is open.
    """

    def __init__(
        self, session: Session, tools: Tools, annotations: Callable[[str], Labels | None]
    ) -> None:
        super().__init__()
        self._session = session
        self._tools = tools
        self._annotations = annotations
        self._masks = MaskLayers(session)
        self.labels = LayerChoice(session.viewer, Labels, self._masks.refusal, also=self._masks)
        self.labels.setToolTip(
            f"Labels of a target, from another program or drawn in napari. {LABEL_LAYERS}"
        )
        self.numbers = LabelNumbers(session, self.labels, _ZERO, self._classes)
        self.begin = narrow(QComboBox())
        self.begin.addItems(list(_BEGIN))
        self.begin.setToolTip("What a patch shows at first, for you to correct.")
        self.take = button(
            "Import as annotations",
            "Copy the labels into the annotations where nothing is annotated yet; trainings use "
            "them.",
            self.import_labels,
        )
        self.hint = Sentence()
        column(
            self,
            labelled(("labels", self.labels), ("", self.numbers)),
            self.take,
            self.hint,
            labelled(("begin with", self.begin)),
        )
        for signal in (self.labels.chosen, self.begin.currentTextChanged, self.numbers.changed):
            signal.connect(lambda *_: self._on_begin())
        self.labels.enables(self.numbers)
        self._layers = session.viewer.layers.events
        for event in (self._layers.inserted, self._layers.removed, self._layers.renamed):
            event.connect(self.refresh)
        session.mask_found.connect(self.refresh)
        session.closing.connect(self._close)
        session.project_changed.connect(self.refresh)
        self.refresh()

    def _close(self) -> None:
        for event in (self._layers.inserted, self._layers.removed, self._layers.renamed):
            event.disconnect(self.refresh)

    def refresh(self, event: Any = None) -> None:
        """List the current labels layers, without those of the dock."""
        self.labels.refresh(lambda layer: not self._session.is_output(layer))
        self._on_begin()

    def _classes(self) -> tuple[str, ...]:
        opened = self._session.opened
        # Before a project is open nothing is imported; most projects have two classes.
        return ("background", "foreground") if opened is None else opened.project.classes

    def _on_begin(self) -> None:
        chosen = _BEGIN[self.begin.currentText()]
        layer = self.labels.layer()
        asks = self.numbers.asks
        text = ""
        opened = self._session.opened is not None
        self.take.setEnabled(opened and layer is not None and not asks)
        if chosen != "labels":
            self._tools.start = chosen
        elif layer is None or asks:
            self._tools.start = "prediction"
        else:
            text = self._begin_with(layer)
        if chosen == "labels" and layer is None:
            text = "Choose the labels with which patches begin."
        if not self.labels.layers():
            text = "Open your labels in napari first."
        text = " ".join(filter(None, [text, self.labels.left_out_in_words]))
        self.hint.show_text(text, "hint")

    def _begin_with(self, layer: Layer) -> str:
        """Begin patches with labels; returns why that is not possible."""
        opened = self._session.opened
        self._tools.start = "prediction"
        if opened is None:
            return ""
        try:
            volume = self._volume_of(opened, layer)
            labels, meaning = self._labels_for(opened, volume, layer)
        except DataError as error:
            return str(error)
        self._tools.start = MeantLabels(labels, meaning, len(self._classes()))
        return ""

    def import_labels(self) -> None:
        """Copy the chosen labels into the annotations of the target that they fit."""
        session = self._session
        opened = session.opened
        layer = self.labels.layer()
        if opened is None or not isinstance(layer, Image | Labels):
            session.say("Choose a layer of labels first.", "error")
            return
        try:
            volume = self._volume_of(opened, layer)
        except DataError as error:
            session.say(str(error), "error")
            return
        painting = self._annotations(volume)
        if painting is None:
            return
        self.take.setEnabled(False)
        self._copy(opened, layer, volume, painting)

    @staticmethod
    def _volume_of(opened: OpenProject, layer: Layer) -> str:
        """The target to which labels belong: they do not state it, so the first that they fit.

        Raises:
            DataError: they fit none.
        """
        shape = array_of(layer).shape
        size = " x ".join(map(str, shape))
        reason = (
            f"No target has the {size} voxels of '{layer.name}': choose the labels of a target."
        )
        for entry in opened.project.volumes.targets():
            image = opened.image(entry.name)
            fits = opened.shape(entry.name) == shape
            try:
                moved = None if image is None else labels_on(image, layer)
            except DataError as error:
                # Of the right shape, they are labels of this target that lie elsewhere.
                reason = str(error) if fits else reason
                continue
            if fits or moved is not None:
                return entry.name
        raise DataError(reason)

    def _labels_for(
        self, opened: OpenProject, volume: str, layer: Layer
    ) -> tuple[Array, LabelMeaning]:
        """Labels on the voxels of a volume, and the meaning of their numbers."""
        image = opened.image(volume)
        meaning = self.numbers.meaning
        if image is None:
            return numbers_of(layer), meaning
        return labels_to_learn(image, layer, meaning, len(self._classes()))

    def _copy(
        self, opened: OpenProject, layer: Image | Labels, volume: str, painting: Labels
    ) -> None:
        """Copy in the background; painting is disabled while the labels are written."""
        session = self._session
        labels, meaning = self._labels_for(opened, volume, layer)
        mode = painting.mode
        painting.editable = False

        def paint_again() -> None:
            painting.editable = True
            painting.mode = mode  # napari resets the mode of a layer that cannot be edited

        def take() -> int | Question:
            # In the worker thread: a stored volume may take minutes.
            try:
                opened.project.annotations.import_labels(labels, volume, meaning=meaning)
            except LabelsInDoubt as unclear:
                return unclear.question
            return sum(bool(np.asarray(labels[z]).any()) for z in range(labels.shape[0]))

        def done(labelled: int | Question) -> None:
            paint_again()
            if isinstance(labelled, Question):
                self.numbers.ask(labelled)
                return
            painting.refresh()
            sections = f"{labelled} of {opened.shape(volume)[0]} sections hold labels"
            session.say(
                f"'{layer.name}' was imported as annotations of '{volume}': {sections}.", "done"
            )
            session.project_changed.emit()

        def failed(text: str) -> None:
            paint_again()
            session.say(text, "error")

        session.in_background(take, done, failed)

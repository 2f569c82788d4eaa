"""Labels that the user has already: as annotations, or as what patches begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.annotate.paint import Paint
from napari_emda._gui.common.adapters import array_of, refusal
from napari_emda._gui.common.widgets import Sentence, button, column, labelled, narrow
from napari_emda._gui.data.label_zero import BACKGROUND, SECTIONS
from napari_emda._gui.data.layer_widgets import LayerChoice
from napari_emda._gui.session import Session

_BEGIN = {"the model's answer": "prediction", "nothing": "nothing", "the labels above": "labels"}
_UNANNOTATED = "0 not annotated, 1 the first class"
_ZERO: dict[str, Any] = {
    _UNANNOTATED: "unannotated",
    SECTIONS: "unannotated",
    BACKGROUND: "background",
}


class ImportBox(QWidget):
    """A layer of labels, the button that takes it, and what patches begin with."""

    def __init__(self, session: Session, paint: Paint) -> None:
        super().__init__()
        self._session, self._paint = session, paint
        self.labels = LayerChoice(session.viewer, Labels, refusal)
        self.labels.setToolTip(
            "Labels of a target: its own, of another program, or drawn in napari."
        )
        self.label_zero, self.begin = narrow(QComboBox()), QComboBox()
        self.label_zero.addItems(list(_ZERO))
        self.label_zero.setToolTip(
            "Whether nobody looked at what is 0, or somebody looked and it is background: everywhere, or in those "
            "sections that hold any label. Classes count from 1."
        )
        self.begin.addItems(list(_BEGIN))
        self.begin.setToolTip(
            "What is painted in a patch when you come to it, ready to be corrected."
        )
        self.take = button(
            "Take as annotations",
            "Copy the labels into the annotations wherever nothing is annotated yet; training learns from them.",
            self.import_labels,
        )
        self.told = Sentence()
        column(
            self,
            labelled(("labels", self.labels), ("", self.label_zero)),
            self.take,
            self.told,
            labelled(("patches begin with", self.begin)),
        )
        for signal in (self.labels.chosen, self.begin.currentTextChanged):
            signal.connect(lambda *_: self._on_begin())
        self._layers = session.viewer.layers.events
        for event in (self._layers.inserted, self._layers.removed, self._layers.renamed):
            event.connect(self.refresh)
        session.closing.connect(self._close)
        session.project_changed.connect(self.refresh)
        self.refresh()

    def _close(self) -> None:
        for event in (self._layers.inserted, self._layers.removed, self._layers.renamed):
            event.disconnect(self.refresh)

    def refresh(self, event: Any = None) -> None:
        """Offer the labels that there are now, but for our own."""
        self.labels.refresh(lambda layer: not self._session.is_output(layer))
        self.take.setEnabled(self._session.project is not None and bool(self.labels.layers()))

    def _on_begin(self) -> None:
        chosen, layer = _BEGIN[self.begin.currentText()], self.labels.layer()
        self._paint.start = (
            chosen if chosen != "labels" else layer if isinstance(layer, Labels) else "prediction"
        )
        lost = chosen == "labels" and layer is None
        self.told.show_text(
            "Choose the labels that patches are to begin with." if lost else "", "hint"
        )

    def _volume(self, labels: Labels) -> str | None:
        """The target of the labels' shape."""
        project = self._session.project
        assert project is not None
        shape = tuple(array_of(labels).shape)
        return next(
            (entry.name for entry in project.targets() if self._session.shape(entry.name) == shape),
            None,
        )

    def import_labels(self) -> None:
        """Copy the chosen labels into the annotations of the target that they fit."""
        session, layer = self._session, self.labels.layer()
        if session.project is None or not isinstance(layer, Labels):
            session.say("Choose a layer of labels first.", "error")
            return
        volume = self._volume(layer)
        if volume is None:
            shape = " x ".join(map(str, array_of(layer).shape))
            session.say(
                f"No target has the {shape} voxels of '{layer.name}': choose the labels of a target.",
                "error",
            )
            return
        project, meaning, painting = (
            session.project,
            self.label_zero.currentText(),
            self._paint.layer(volume),
        )
        mode, painting.editable = (
            painting.mode,
            False,
        )  # nobody paints where the labels are just being written

        def again() -> None:
            painting.editable = True
            painting.mode = mode  # napari takes the tools of what cannot be edited away

        def take() -> int:
            project.import_labels(
                array_of(layer), volume, _ZERO[meaning], whole_sections=meaning == SECTIONS
            )
            labels = array_of(layer)
            return sum(bool(np.asarray(labels[z]).any()) for z in range(labels.shape[0]))

        def done(labelled: int) -> None:
            again()
            painting.refresh()
            where = f"{labelled} of {session.shape(volume)[0]} sections hold some"
            session.say(
                f"The labels of '{layer.name}' are annotations of '{volume}' now: {where}.", "done"
            )
            session.project_changed.emit()

        def failed(text: str) -> None:
            again()
            session.say(text, "error")

        self.take.setEnabled(False)
        session.in_background(take, done, failed)

"""Which part of a volume is predicted: all of it, the section or what is on view, or a box."""

from __future__ import annotations

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_emda._gui.common.text_box import TextBox
from napari_emda._gui.common.widgets import name_control, narrow
from napari_emda._gui.open_project import OpenProject
from napari_emda.data.box import Box
from napari_emda.errors import DataError

_WHOLE = "whole volume"
_SECTION = "this section"
_VIEW = "what is in view"
_BOX = "a box"


class PartChoice(QWidget):
    """A list of parts, and a line for the box if that is chosen.

    Attributes:
        what: the list.
        box: the line.
        changed: another part was chosen or typed.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.what = narrow(QComboBox())
        self.what.addItems([_WHOLE, _SECTION, _VIEW, _BOX])
        self.what.setToolTip(
            "The part to segment, in blocks of 512 x 512 voxels; you can add more of the volume "
            "later, and what is not segmented stays grey."
        )
        self.box = TextBox(
            "The box, in voxels: z0:z1,y0:y1,x0:x1; an end left out is the volume's."
        )
        self.box.setPlaceholderText("z0:z1,y0:y1,x0:x1")
        name_control(self.box, "box")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.what)
        rows.addWidget(self.box)
        self.box.hide()
        self.what.currentTextChanged.connect(self._on_what)
        self.box.textChanged.connect(lambda _: self.changed.emit())

    def _on_what(self, what: str) -> None:
        self.box.setVisible(what == _BOX)
        self.changed.emit()

    def text(self, opened: OpenProject, volume: str) -> str:
        """The box to predict, z0:z1,y0:y1,x0:x1; empty for the whole volume."""
        what = self.what.currentText()
        if what == _BOX:
            return self.box.text().strip()
        if what == _WHOLE:
            return ""
        on_view = opened.section_on_view(volume)
        if what == _VIEW:
            return str(on_view)
        return str(Box.whole(opened.shape(volume)).in_sections(on_view.start[0], on_view.stop[0]))

    def problem(self, opened: OpenProject, volume: str) -> str:
        """Why the box cannot be predicted, in a sentence; empty if it can."""
        if self.what.currentText() != _BOX or not volume:
            return ""
        if not self.box.text().strip():
            return "Type the box to segment, as z0:z1,y0:y1,x0:x1 in voxels."
        try:
            Box.parse(self.box.text().strip(), opened.shape(volume))
        except DataError as error:
            return str(error)
        return ""

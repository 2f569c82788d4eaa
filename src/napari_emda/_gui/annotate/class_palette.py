"""Buttons for the classes, in their colours, and for the sizes of the brush."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_emda._gui.annotate.tools import BRUSHES, Tools
from napari_emda._gui.common.widgets import button, column, row
from napari_emda.data.class_colours import class_colour

# Classes that have a digit, from 1 on, as their key.
_MOST_KEYS = 9


class ClassPalette(QWidget):
    """A button per class, in its colour, and one per brush; those in use are checked."""

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self.classes: list[QPushButton] = []
        self.brushes = {size: self._brush(size) for size in BRUSHES}
        self._box = QWidget()
        self._grid = QGridLayout(self._box)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        column(
            self,
            self._box,
            row(None, (QLabel("brush"), 0), *self.brushes.values(), (QLabel("pixels"), 0)),
        )
        tools.changed.connect(self._mark)

    def _brush(self, size: int) -> QPushButton:
        tip = f"A brush of {size} pixels; Q takes the next one."
        name = f"brush of {size} pixels"
        brush = button(str(size), tip, partial(self._tools.select_brush, size), name=name)
        brush.setCheckable(True)
        return brush

    def show_classes(self, names: Sequence[str]) -> None:
        """Show a button for each of these classes."""
        for old in self.classes:
            old.deleteLater()
        self.classes = []
        for index, name in enumerate(names):
            key = str(index + 1) if index < _MOST_KEYS else ""
            text = f"{name}   {key}" if key else name
            choice = button(
                text,
                f"Paint {name}{f' ({key})' if key else ''}.",
                partial(self._tools.select_class, index),
                name=f"paint {name}",
            )
            choice.setCheckable(True)
            # A bar at the side: a coloured button would make its text unreadable in some themes.
            choice.setStyleSheet(f"border-left: 10px solid {class_colour(index)};")
            self._grid.addWidget(choice, index // 2, index % 2)
            self.classes.append(choice)
        self._mark()

    def _mark(self) -> None:
        for index, choice in enumerate(self.classes):
            choice.setChecked(index == self._tools.class_index)
        for size, choice in self.brushes.items():
            choice.setChecked(size == self._tools.brush)

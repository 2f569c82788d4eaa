"""What to paint with: the classes with their colours, and sizes of the brush."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_emda._gui.annotate.paint import BRUSHES, Paint
from napari_emda._gui.common.palette import class_colour
from napari_emda._gui.common.widgets import button, column, row

_MOST_KEYS = 9


class ClassPalette(QWidget):
    """A button per class in its colour, with its key, and one per brush; those in use are pressed down."""

    def __init__(self, paint: Paint) -> None:
        super().__init__()
        self._paint = paint
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
        paint.chosen.connect(self._mark)

    def _brush(self, size: int) -> QPushButton:
        tip = f"A brush of {size} pixels; Q takes the next one."
        made = button(str(size), tip, partial(self._paint.select_brush, size))
        made.setCheckable(True)
        return made

    def show_classes(self, names: Sequence[str]) -> None:
        """Offer these classes."""
        for old in self.classes:
            old.deleteLater()
        self.classes = []
        for index, name in enumerate(names):
            key = str(index + 1) if index < _MOST_KEYS else ""
            text = f"{name}   {key}" if key else name
            made = button(
                text,
                f"Paint {name}{f' ({key})' if key else ''}.",
                partial(self._paint.select_class, index),
            )
            made.setCheckable(True)
            made.setStyleSheet(f"border-left: 10px solid {class_colour(index)};")
            self._grid.addWidget(made, index // 2, index % 2)
            self.classes.append(made)
        self._mark()

    def _mark(self) -> None:
        for index, each in enumerate(self.classes):
            each.setChecked(index == self._paint.class_index)
        for size, each in self.brushes.items():
            each.setChecked(size == self._paint.brush)

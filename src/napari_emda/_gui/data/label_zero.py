"""What 0 means in labels that somebody chose."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.adapters import array_of
from napari_emda._gui.common.widgets import Sentence, column, narrow
from napari_emda._gui.data.layer_widgets import LayerChoice
from napari_emda._gui.data.project_setup import Stoppable
from napari_emda._gui.session import Session
from napari_emda.data.array import Array
from napari_emda.data.volume import LabelsZero

BACKGROUND = "0 means background"
SECTIONS = "0 means background in labelled sections"
UNANNOTATED = "0 not annotated, 1 background"
_MOST = 64
"""Sections that are read: enough to tell that half are empty, and quick on a network drive, too."""


class LabelZero(QWidget):
    """The choice, with a hint when background is said of sections that hold nothing else.

    Args:
        session: of the dock.
        labels: what is chosen.
    """

    def __init__(self, session: Session, labels: LayerChoice) -> None:
        super().__init__()
        self._session = session
        self._labels = labels
        self._stop = threading.Event()
        self._empty: tuple[int, int] | None = None
        self.box = narrow(QComboBox())
        self.box.addItems([BACKGROUND, SECTIONS, UNANNOTATED])
        self.box.setToolTip(
            "What the value 0 stands for in the labels: background everywhere, background in the "
            "sections that hold any label (nobody looked at the others), or not annotated (then 2 "
            "is the first class)."
        )
        self.hint = Sentence()
        column(self, self.box, self.hint, margin=0)
        self.box.currentTextChanged.connect(lambda _: self._tell())
        labels.chosen.connect(self._count)
        session.closing.connect(self._stop.set)

    @property
    def meaning(self) -> LabelsZero:
        """What is said of the sections that hold a label."""
        return "unannotated" if self.box.currentText() == UNANNOTATED else "background"

    @property
    def labelled_sections_only(self) -> bool:
        """Whether nobody looked at the other sections."""
        return self.box.currentText() == SECTIONS

    def _count(self) -> None:
        layer = self._labels.layer()
        self._empty = None
        self._tell()
        if isinstance(layer, Labels) and not self._stop.is_set():
            array = Stoppable(array_of(layer), self._stop)
            self._session.in_background(
                lambda: empty_sections(array), partial(self._show, layer), lambda text: None
            )

    def _show(self, layer: Labels, found: tuple[int, int]) -> None:
        if layer is self._labels.layer():
            self._empty = found
            self._tell()

    def _tell(self) -> None:
        empty, seen = self._empty or (0, 1)
        text = ""
        if self.box.currentText() == BACKGROUND and seen / 2 <= empty < seen:
            text = (
                f"{empty} of {seen} sections hold no label. If nobody looked at them, say "
                f"'{SECTIONS}'."
            )
        self.hint.show_text(text, "hint")


def empty_sections(labels: Array) -> tuple[int, int]:
    """How many sections hold no label, and how many were read: all, or 64 spread evenly."""
    section_count = labels.shape[0]
    sections: Any = np.unique(
        np.linspace(0, section_count - 1, min(section_count, _MOST)).round().astype(int)
    ).tolist()
    return sum(not np.asarray(labels[z]).any() for z in sections), len(sections)

"""What the value 0 means in the chosen labels."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Layer
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.layer_volumes import array_of
from napari_emda._gui.common.widgets import Sentence, column, narrow
from napari_emda._gui.data.layer_widgets import LayerChoice
from napari_emda._gui.data.project_setup import Stoppable
from napari_emda._gui.session import Session
from napari_emda.data.array import Array
from napari_emda.data.volume import LabelsZero

BACKGROUND = "0 means background"
SECTIONS = "0 means background in labelled sections"
UNANNOTATED = "0 not annotated, 1 background"
# Sections that are read at most: enough to see whether half of them are empty, and quick even on a
# network drive.
_MOST_SECTIONS = 64


class LabelZero(QWidget):
    """The choice, with a hint if 0 is said to be background and many sections hold nothing else.

    Args:
        session: of the dock.
        labels: the choice of the labels layer.
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
            "What the value 0 means in the labels: background everywhere; background in the "
            "sections that hold any label, the others being unlabelled; or not annotated (then 1 "
            "is background and 2 the first class)."
        )
        self.hint = Sentence()
        column(self, self.box, self.hint, margin=0)
        self.box.currentTextChanged.connect(lambda _: self._show_hint())
        labels.chosen.connect(self._count)
        session.closing.connect(self._stop.set)

    @property
    def meaning(self) -> LabelsZero:
        """The meaning of 0 in the sections that hold a label."""
        return "unannotated" if self.box.currentText() == UNANNOTATED else "background"

    @property
    def labelled_sections_only(self) -> bool:
        """Whether sections without a label are unlabelled."""
        return self.box.currentText() == SECTIONS

    def _count(self) -> None:
        layer = self._labels.layer()
        self._empty = None
        self._show_hint()
        # In the background, because it reads sections, perhaps over a network.
        if layer is not None and not self._stop.is_set():
            array = Stoppable(array_of(layer), self._stop)
            self._session.in_background(
                lambda: empty_sections(array), partial(self._show, layer), lambda text: None
            )

    def _show(self, layer: Layer, found: tuple[int, int]) -> None:
        # The user may have chosen other labels meanwhile.
        if layer is self._labels.layer():
            self._empty = found
            self._show_hint()

    def _show_hint(self) -> None:
        empty, seen = self._empty or (0, 1)
        text = ""
        # Half or more: in volumes labelled throughout, few sections hold no structure at all.
        # Labels that are empty everywhere are reported by the checks.
        if self.box.currentText() == BACKGROUND and seen / 2 <= empty < seen:
            text = (
                f"{empty} of {seen} sections hold no label. If they are unlabelled rather than "
                f"empty, choose '{SECTIONS}'."
            )
        self.hint.show_text(text, "hint")


def empty_sections(labels: Array) -> tuple[int, int]:
    """How many sections hold no label, and how many were read: all, or 64 evenly spaced ones."""
    section_count = labels.shape[0]
    sections: Any = np.unique(
        np.linspace(0, section_count - 1, min(section_count, _MOST_SECTIONS)).round().astype(int)
    ).tolist()
    return sum(not np.asarray(labels[z]).any() for z in sections), len(sections)

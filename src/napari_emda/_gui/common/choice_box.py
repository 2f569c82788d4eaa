"""A combo box that shows recommended entries first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox

from napari_emda._gui.common.widgets import narrow, show_row

# The last entry; choosing it lists the others as well.
MORE = "More …"


class ChoiceBox(QComboBox):
    """Lists recommended entries, and the others after the user has chosen *More …*.

    `setCurrentText` chooses any entry, listed or not.
    """

    def __init__(self) -> None:
        super().__init__()
        narrow(self)
        self._recommended: list[str] = []
        self._others: list[str] = []
        self._tips: Mapping[str, str] = {}
        self._last = ""
        # First of all slots, so that the entry before *More …* is known when that is chosen.
        self.currentTextChanged.connect(self._remember)
        self.activated.connect(self._on_activated)

    def offer(
        self, recommended: Sequence[str], others: Sequence[str], tips: Mapping[str, str]
    ) -> None:
        """Offer these entries, keeping the choice if it is among them.

        Args:
            recommended: listed first; if there are none, the others are listed at once.
            others: listed after *More …*.
            tips: a sentence about each entry.
        """
        first = list(recommended or others)
        show_row(self, shown=bool(first))
        rest = [name for name in others if name not in first]
        # Called at every change of the project: an unchanged list must not close an open menu.
        if (first, rest) != (self._recommended, self._others):
            self._recommended = first
            self._others = rest
            self._tips = tips
            self._list(everything=self.currentText() in rest)

    def setCurrentText(self, text: str | None) -> None:
        """Choose an entry, listing all of them if it is not among those listed."""
        if text in self._others and self.findText(text or "") < 0:
            self._list(everything=True)
        super().setCurrentText(text)

    def _list(self, *, everything: bool) -> None:
        # *More …* itself is no choice.
        before = self._last
        with QSignalBlocker(self):
            self.clear()
            self.addItems(self._recommended)
            if everything and self._others:
                self.insertSeparator(self.count())
                self.addItems(self._others)
            elif self._others:
                self.addItem(MORE)
            for index in range(self.count()):
                tip = self._tips.get(self.itemText(index), "")
                self.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
            super().setCurrentText(before)
        if self.currentText() != before:
            self.currentTextChanged.emit(self.currentText())

    def _remember(self, text: str) -> None:
        if text != MORE:
            self._last = text

    def _on_activated(self, index: int) -> None:
        if self.itemText(index) == MORE:
            self._list(everything=True)
            # Others have heard of the entry *More …*.
            self.currentTextChanged.emit(self.currentText())
            self.showPopup()

"""Small widgets that several panels are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

_NO_LIMIT = 16_777_215  # Qt's QWIDGETSIZE_MAX
TONES = {"note": "#4b8fd6", "done": "#3f9e6b", "error": "#d9534f", "hint": "#c9922f"}
"""Colours of what is said."""


class Sentence(QLabel):
    """Wrapped text of a tone: note, done, error or hint; takes no room when it is empty."""

    def __init__(self, text: str = "", tone: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.show_text(text, tone)

    def show_text(self, text: str, tone: str = "") -> None:
        """Show a text, or hide when it is empty."""
        colour = TONES.get(tone)
        self.setStyleSheet(
            f"border-left: 3px solid {colour}; padding: 2px 0 2px 6px;" if colour else ""
        )
        self.setText(text)
        if not text:
            self.hide()
        elif self.parent() is not None:  # without a parent it would open as a window
            self.show()


class Notices(QFrame):
    """The latest thing the dock has to say, at its top; a click on the cross takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self._text = Sentence()
        self._tone = ""
        self._close = button("✕", "Dismiss", self.clear)
        self._close.setFixedWidth(24)
        row(self, self._text, (self._close, 0))
        self.hide()

    def show_text(self, text: str, tone: str) -> None:
        """Show a sentence until the next one comes."""
        self._tone = tone
        self._text.show_text(text, tone)
        self.setVisible(bool(text))

    def clear(self) -> None:
        """Take the sentence away."""
        self.show_text("", "")

    def clear_note(self) -> None:
        """Take the sentence away if it was no more than a note."""
        if self._tone == "note":
            self.clear()

    def text(self) -> str:
        """What is shown."""
        return self._text.text()


def button(text: str, tip: str, action: Callable[[], object]) -> QPushButton:
    """A button that never takes the keyboard from the canvas."""
    new = QPushButton(text)
    new.setToolTip(tip)
    new.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    new.clicked.connect(lambda: action())
    return new


def narrow(box: QComboBox) -> QComboBox:
    """A combo box that is no wider than the dock, however long its entries are."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    return box


def row(parent: QWidget | None, *items: QWidget | tuple[QWidget, int]) -> QWidget:
    """Widgets beside each other, each with stretch 1 unless given."""
    holder = parent or QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for item in items:
        widget, stretch = item if isinstance(item, tuple) else (item, 1)
        layout.addWidget(widget, stretch)
    return holder


def labelled(*rows: tuple[str, QWidget]) -> QWidget:
    """Widgets below each other, with their names in front."""
    holder = QWidget()
    form = QFormLayout(holder)
    form.setContentsMargins(0, 0, 0, 0)
    form.setSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, widget in rows:
        form.addRow(label, widget)
    return holder


def column(parent: QWidget, *widgets: QWidget, margin: int = 2) -> None:
    """Widgets below each other; without a margin they line up with those around the parent."""
    layout = QVBoxLayout(parent)
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(5)
    for widget in widgets:
        layout.addWidget(widget)


class Drawer(QCollapsible):
    """A collapsible part that opens at once and is as high as its content with wrapped text."""

    def __init__(self, title: str, content: QWidget, *, strong: bool = False) -> None:
        super().__init__(title, expandedIcon="▾", collapsedIcon="▸")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        inset = (6 if strong else 10, 0, 2, 4)
        for layout, margins in ((self.layout(), (0, 0, 0, 0)), (self.content().layout(), inset)):
            assert layout is not None
            layout.setContentsMargins(*margins)
            layout.setSpacing(2)
        weight = "font-weight: bold; padding: 5px;" if strong else "padding: 2px;"
        self.toggleButton().setStyleSheet(
            f"text-align: left; border: none; outline: none; {weight}"
        )
        self.toggleButton().setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.addWidget(content)
        content.removeEventFilter(
            self
        )  # which would fix the height at a hint that knows nothing of wrapped text
        self.collapse()

    def expand(self, animate: bool = False) -> None:
        """Show the content."""
        super().expand(animate=False)
        self.content().setMaximumHeight(_NO_LIMIT)
        self.content().show()

    def collapse(self, animate: bool = False) -> None:
        """Hide the content."""
        super().collapse(animate=False)
        self.content().hide()


def file_filter(formats: Mapping[str, Sequence[str]]) -> str:
    """What a file dialog offers.

    >>> file_filter({"TIFF": (".tif", ".tiff"), "OME-Zarr": (".zarr",)})
    'TIFF (*.tif *.tiff);;OME-Zarr (*.zarr)'
    """
    return ";;".join(
        f"{name} ({' '.join(f'*{suffix}' for suffix in suffixes)})"
        for name, suffixes in formats.items()
    )


def refill(box: QComboBox, names: list[str], *, prefer_first: bool = False) -> None:
    """Offer these names, keeping the choice while nothing new has come to the top."""
    if names == [box.itemText(index) for index in range(box.count())]:
        return
    before = box.currentText()
    with QSignalBlocker(box):
        box.clear()
        box.addItems(names)
        if before in names and not prefer_first:
            box.setCurrentText(before)

"""Small widgets that several panels use."""

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

# Qt's QWIDGETSIZE_MAX, which qtpy does not export: the height is not limited.
_NO_LIMIT = 16_777_215
# Colours of messages by tone, readable on napari's dark and light themes.
TONES = {"note": "#4b8fd6", "done": "#3f9e6b", "error": "#d9534f", "hint": "#c9922f"}


class Sentence(QLabel):
    """Wrapped text with a tone (note, done, error or hint); hidden when empty."""

    def __init__(self, text: str = "", tone: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # Texts contain names of files and layers, which must not be taken for HTML.
        self.setTextFormat(Qt.TextFormat.PlainText)
        # A long word, such as a path, must not widen the dock.
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
        elif self.parent() is not None:
            # Without a parent it would open as a window.
            self.show()


class Notices(QFrame):
    """The latest message, at the top of the dock, with a cross to dismiss it."""

    def __init__(self) -> None:
        super().__init__()
        self._text = Sentence()
        self._tone = ""
        self._close = button("✕", "Dismiss", self.clear)
        self._close.setFixedWidth(24)
        row(self, self._text, (self._close, 0))
        self.hide()

    def show_text(self, text: str, tone: str) -> None:
        """Show a message until the next one."""
        self._tone = tone
        self._text.show_text(text, tone)
        self.setVisible(bool(text))

    def clear(self) -> None:
        """Remove the message."""
        self.show_text("", "")

    def clear_note(self) -> None:
        """Remove the message if it is a note."""
        if self._tone == "note":
            self.clear()

    def text(self) -> str:
        """The message."""
        return self._text.text()


def button(text: str, tip: str, action: Callable[[], object]) -> QPushButton:
    """A button that does not take the keyboard focus from the canvas."""
    # The keys of the annotation round act on the canvas, also after a click in the dock.
    new = QPushButton(text)
    new.setToolTip(tip)
    new.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    # Qt passes whether the button is checked, which actions do not take.
    new.clicked.connect(lambda: action())
    return new


def narrow(box: QComboBox) -> QComboBox:
    """Make a combo box no wider than the dock, however long its entries are."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    return box


def row(parent: QWidget | None, *items: QWidget | tuple[QWidget, int]) -> QWidget:
    """Place widgets side by side, each with stretch 1 unless given."""
    holder = parent or QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for item in items:
        widget, stretch = item if isinstance(item, tuple) else (item, 1)
        layout.addWidget(widget, stretch)
    return holder


def labelled(*rows: tuple[str, QWidget]) -> QWidget:
    """Place widgets below each other, with labels in front."""
    holder = QWidget()
    form = QFormLayout(holder)
    form.setContentsMargins(0, 0, 0, 0)
    form.setSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, widget in rows:
        form.addRow(label, widget)
    return holder


def column(parent: QWidget, *widgets: QWidget, margin: int = 2) -> None:
    """Place widgets below each other; margin 0 aligns them with the parent's neighbours."""
    layout = QVBoxLayout(parent)
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(5)
    for widget in widgets:
        layout.addWidget(widget)


class Drawer(QCollapsible):
    """A collapsible part without animation, as high as its content with wrapped text."""

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
        # superqt's filter fixes the height at the size hint, which is wrong for wrapped text.
        content.removeEventFilter(self)
        self.collapse()

    def expand(self, animate: bool = False) -> None:
        """Show the content."""
        # superqt sets the maximum height to the size hint, which is wrong for wrapped text.
        super().expand(animate=False)
        self.content().setMaximumHeight(_NO_LIMIT)
        self.content().show()

    def collapse(self, animate: bool = False) -> None:
        """Hide the content."""
        super().collapse(animate=False)
        self.content().hide()


def file_filter(formats: Mapping[str, Sequence[str]]) -> str:
    """The filter string of a file dialog.

    >>> file_filter({"TIFF": (".tif", ".tiff"), "OME-Zarr": (".zarr",)})
    'TIFF (*.tif *.tiff);;OME-Zarr (*.zarr)'
    """
    return ";;".join(
        f"{name} ({' '.join(f'*{suffix}' for suffix in suffixes)})"
        for name, suffixes in formats.items()
    )


def refill(box: QComboBox, names: list[str], *, prefer_first: bool = False) -> None:
    """Fill a combo box, keeping the choice.

    Args:
        box: to fill.
        names: of the entries.
        prefer_first: choose the first name if the list has changed, as the newest run.
    """
    # Called at every change of the project: an unchanged list must not close an open menu.
    if names == [box.itemText(index) for index in range(box.count())]:
        return
    before = box.currentText()
    with QSignalBlocker(box):
        box.clear()
        box.addItems(names)
        if before in names and not prefer_first:
            box.setCurrentText(before)

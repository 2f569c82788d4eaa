"""Small widgets that several panels use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from psygnal import Signal
from qtpy.QtCore import QEvent, QRect, QSignalBlocker, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStyle,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible
from superqt.utils import QFlowLayout

from napari_emda.data.names import in_print

_UNFOCUSED = Qt.FocusPolicy.NoFocus
# Qt's QWIDGETSIZE_MAX, which qtpy does not export: the height is not limited.
_NO_LIMIT = 16_777_215
# Colours of messages by tone. Each has a contrast of at least 3 to 1 with the backgrounds of
# napari's dark and light themes, which WCAG 2.2 asks of everything but text.
TONES = {"note": "#3d85d1", "done": "#2f8f5b", "error": "#d9463f", "hint": "#a87400"}
# Shapes by tone, for those who cannot tell the colours apart.
_ICONS = {
    "note": QStyle.StandardPixmap.SP_MessageBoxInformation,
    "done": QStyle.StandardPixmap.SP_DialogApplyButton,
    "error": QStyle.StandardPixmap.SP_MessageBoxCritical,
    "hint": QStyle.StandardPixmap.SP_MessageBoxWarning,
}
# Pixels: the width of the bar, and the space above and below the text.
_BAR = 3
_TONE_MARGIN = 2
# What a screen reader says before the text.
_TONE_WORDS = {"note": "Note", "done": "Done", "error": "Error", "hint": "Hint"}
# The outline of the control that has the keyboard focus; contrast as above.
_FOCUS = "#2b7de0"
FOCUS_STYLE = f"""
QPushButton:focus, QComboBox:focus, QLineEdit:focus, QAbstractSpinBox:focus, QListView:focus,
QTableView:focus, QCheckBox:focus {{ border: 2px solid {_FOCUS}; }}
"""


class Sentence(QLabel):
    """Wrapped text with a tone (note, done, error or hint); hidden when empty.

    Attributes:
        tone: of the text; empty for plain text.
    """

    changed = Signal()
    """Another text is shown."""

    def __init__(self, text: str = "", tone: str = "") -> None:
        super().__init__()
        self.tone = ""
        self.setWordWrap(True)
        # napari's theme pads every widget, which Qt forgets when it computes the height of text.
        self.setStyleSheet("padding: 0px;")
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # Texts contain names of files and layers, which must not be taken for HTML.
        self.setTextFormat(Qt.TextFormat.PlainText)
        # A long word, such as a path, must not widen the dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.show_text(text, tone)

    def show_text(self, text: str, tone: str = "") -> None:
        """Show a text, or hide when it is empty; names of files in it may hold any character."""
        before = self.text()
        text = in_print(text)
        self.tone = tone if tone in TONES else ""
        self._leave_space_for_icon()
        self.setText(text)
        self.setAccessibleName(f"{_TONE_WORDS[tone]}: {text}" if tone in _TONE_WORDS else text)
        if not text:
            self.hide()
        elif self.parent() is not None:
            # Without a parent it would open as a window.
            self.show()
        if text != before:
            self.changed.emit()

    def _leave_space_for_icon(self) -> None:
        # Margins, not the padding of a style sheet, which Qt forgets when it wraps text.
        left = round(1.9 * self.fontMetrics().height()) if self.tone else 0
        self.setContentsMargins(left, _TONE_MARGIN, 0, _TONE_MARGIN)

    def changeEvent(self, event: QEvent | None) -> None:
        """Leave more space for the icon in a larger font."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._leave_space_for_icon()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the text, and before it a bar and the icon of its tone."""
        super().paintEvent(event)
        style = self.style()
        if self.tone and style is not None:
            # As high as a line of text, so that it grows with the font.
            side = self.fontMetrics().height()
            painter = QPainter(self)
            painter.fillRect(0, 0, _BAR, self.height(), QColor(TONES[self.tone]))
            icon = style.standardIcon(_ICONS[self.tone])
            icon.paint(painter, QRect(side // 2, _TONE_MARGIN, side, side))
            painter.end()


def button(text: str, tip: str, action: Callable[[], object], *, name: str = "") -> QPushButton:
    """A button that the Tab key reaches, that Enter presses, and that a click does not focus.

    Args:
        text: on the button.
        tip: what it does, in a sentence.
        action: called when it is pressed.
        name: for screen readers, where the text is a mere sign.
    """
    # The keys of the annotation round act on the canvas, also after a click in the dock.
    new = QPushButton(text)
    new.setToolTip(tip)
    new.setAccessibleName(name or text)
    new.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    # Outside dialogs, Qt's buttons know the space bar alone.
    new.setAutoDefault(True)
    # Qt passes whether the button is checked, which actions do not take.
    new.clicked.connect(lambda: action())
    return new


def file_button(tip: str, action: Callable[[], object]) -> QPushButton:
    """The small button ``…`` that opens a dialog to choose a file or a folder."""
    new = button("…", tip, action, name=tip)
    new.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return new


def narrow(box: QComboBox) -> QComboBox:
    """Make a combo box no wider than the dock, however long its entries are."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
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


class _FilledRows(QFlowLayout):
    """Rows of widgets, as many in each as fit, made wider to fill it."""

    def setGeometry(self, rect: QRect) -> None:
        """Place the widgets, then share out what is left of each row."""
        super().setGeometry(rect)
        places = (self.itemAt(index) for index in range(self.count()))
        items = [item for item in places if item is not None]
        for top in {item.geometry().y() for item in items}:
            line = [item for item in items if item.geometry().y() == top]
            spare = max(0, rect.right() - line[-1].geometry().right())
            # Whole pixels, of which none is lost.
            shifts = [spare * index // len(line) for index in range(len(line) + 1)]
            for item, left, right in zip(line, shifts, shifts[1:], strict=False):
                place = item.geometry()
                item.setGeometry(place.adjusted(left, 0, right, 0))


def wrapped(*widgets: QWidget) -> QWidget:
    """Place widgets side by side, in as many rows as a narrow dock needs."""
    holder = QWidget()
    layout = _FilledRows(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setHorizontalSpacing(4)
    layout.setVerticalSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    return holder


def labelled(*rows: tuple[str | None, QWidget]) -> QWidget:
    """Place widgets below each other, with labels in front; one without label is as wide as both.

    An empty label leaves its place free.
    """
    holder = QWidget()
    form = QFormLayout(holder)
    form.setContentsMargins(0, 0, 0, 0)
    form.setSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for label, widget in rows:
        if label is None:
            form.addRow(widget)
        else:
            form.addRow(label, widget)
        if label:
            name_control(widget, label)
    return holder


def name_control(widget: QWidget, name: str) -> None:
    """Give a control, or the first one in a row, a name for screen readers, if it has none."""
    inner = widget.findChildren(QWidget)
    controls = (control for control in (widget, *inner) if control.focusPolicy() != _UNFOCUSED)
    control = next(controls, None)
    if control is not None and not control.accessibleName():
        control.setAccessibleName(name)


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
        weight = "font-weight: bold; padding: 4px;" if strong else "padding: 2px;"
        heading = self.toggleButton()
        heading.setStyleSheet(
            f"QPushButton {{ text-align: left; border: 2px solid transparent; {weight} }}"
            f"QPushButton:focus {{ border-color: {_FOCUS}; }}"
        )
        heading.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        heading.setAutoDefault(True)
        heading.setAccessibleName(title)
        heading.setToolTip(f"Open or close the part '{title}'.")
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

    def set_open(self, opened: bool) -> None:
        """Show or hide the content."""
        if opened:
            self.expand()
        else:
            self.collapse()


def file_filter(formats: Mapping[str, Sequence[str]]) -> str:
    """The filter string of a file dialog.

    >>> file_filter({"TIFF": (".tif", ".tiff"), "OME-Zarr": (".zarr",)})
    'TIFF (*.tif *.tiff);;OME-Zarr (*.zarr)'
    """
    return ";;".join(
        f"{name} ({' '.join(f'*{suffix}' for suffix in suffixes)})"
        for name, suffixes in formats.items()
    )


def with_ending(path: str, chosen: str, formats: Mapping[str, Sequence[str]]) -> str:
    """A path with the ending of the chosen format, unless it has one of any format.

    Args:
        path: as it was typed into a file dialog.
        chosen: the filter that was chosen there, see `file_filter`.
        formats: see `file_filter`.

    >>> with_ending("a.v2", "HDF5 (*.h5)", {"TIFF": (".tif",), "HDF5": (".h5",)})
    'a.v2.h5'
    """
    every = [suffix for suffixes in formats.values() for suffix in suffixes]
    if path.lower().endswith(tuple(every)):
        return path
    name = chosen.partition(" (")[0]
    return path + formats.get(name, every)[0]


def refill(
    box: QComboBox,
    names: Sequence[str],
    *,
    prefer_first: bool = False,
    texts: Sequence[str] | None = None,
) -> None:
    """Fill a combo box, keeping the choice.

    Args:
        box: to fill.
        names: of the entries; `chosen_name` returns one of them.
        prefer_first: choose the first name if the list has changed, as the newest run.
        texts: that are shown; by default the names.
    """
    shown = list(names if texts is None else texts)
    show_row(box, shown=bool(shown))
    # Called at every change of the project: an unchanged list must not close an open menu.
    if shown == [box.itemText(index) for index in range(box.count())]:
        return
    before = chosen_name(box)
    with QSignalBlocker(box):
        box.clear()
        for text, name in zip(shown, names, strict=True):
            box.addItem(text, name)
        if before in names and not prefer_first:
            box.setCurrentIndex(list(names).index(before))


def show_row(box: QWidget, *, shown: bool) -> None:
    """Show a control of `labelled` with its label, or neither: a list without entries says nothing.

    Args:
        box: a control; one that stands elsewhere stays as it is.
        shown: whether to show it.
    """
    parent = box.parentWidget()
    form = parent.layout() if parent is not None else None
    if isinstance(form, QFormLayout) and form.indexOf(box) >= 0:
        form.setRowVisible(box, shown)


def chosen_name(box: QComboBox) -> str:
    """The name of the chosen entry, which may be shown with a remark; empty if there is none."""
    name = box.currentData()
    return name if isinstance(name, str) else box.currentText()

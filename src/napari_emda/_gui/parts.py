"""Small widgets that several panels are made of."""

from __future__ import annotations

import time
from collections.abc import Callable

from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_emda._gui.jobs import Runner
from napari_emda.events import Started, Stepped, TileDone

TONES = {"note": "#4b8fd6", "done": "#3f9e6b", "error": "#d9534f", "hint": "#c9922f"}


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
        self.setStyleSheet(f"border-left: 3px solid {colour}; padding: 2px 0 2px 6px;" if colour else "")
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
        self._close = button("✕", "Dismiss", self.clear)
        self._close.setFixedWidth(24)
        row(self, self._text, (self._close, 0))
        self.hide()

    def show_text(self, text: str, tone: str) -> None:
        """Show a sentence until the next one comes."""
        self._text.show_text(text, tone)
        self.setVisible(bool(text))

    def clear(self) -> None:
        """Take the sentence away."""
        self.show_text("", "")

    def text(self) -> str:
        """What is shown."""
        return self._text.text()


def button(text: str, tip: str, action: Callable[[], object]) -> QPushButton:
    """A button that never takes the keyboard from the canvas."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.clicked.connect(lambda: action())
    return made


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


def column(parent: QWidget, *widgets: QWidget) -> None:
    """Widgets below each other."""
    layout = QVBoxLayout(parent)
    layout.setContentsMargins(2, 2, 2, 2)
    layout.setSpacing(5)
    for widget in widgets:
        layout.addWidget(widget)


class Drawer(QCollapsible):
    """A collapsible part that opens at once and takes only the room it needs."""

    def __init__(self, title: str, content: QWidget, *, strong: bool = False) -> None:
        super().__init__(title, expandedIcon="▾", collapsedIcon="▸")
        self.setDuration(0)
        inset = (6 if strong else 10, 0, 2, 4)
        for layout, margins in ((self.layout(), (0, 0, 0, 0)), (self.content().layout(), inset)):
            assert layout is not None
            layout.setContentsMargins(*margins)
            layout.setSpacing(2)
        weight = "font-weight: bold; padding: 5px;" if strong else "padding: 2px;"
        self.toggleButton().setStyleSheet(f"text-align: left; border: none; outline: none; {weight}")
        self.toggleButton().setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.addWidget(content)

    def open(self) -> None:
        """Show the content."""
        self.expand(animate=False)

    def close_up(self) -> None:
        """Hide the content."""
        self.collapse(animate=False)


class LayerChoice(QComboBox):
    """A combo box of the viewer's layers of some kind that can be used; says why others are left out.

    Args:
        viewer: whose layers.
        kind: the type of layer.
        refusal: why a layer cannot be used, None when it can.
    """

    chosen = Signal()

    def __init__(self, viewer: ViewerModel, kind: type[Layer], refusal: Callable[[Layer], str | None]) -> None:
        super().__init__()
        self._viewer, self._kind, self._refusal = viewer, kind, refusal
        self._layers: list[Layer] = []
        self.left_out: dict[str, str] = {}
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentIndexChanged.connect(lambda _: self.chosen.emit())

    def refresh(self, offered: Callable[[Layer], bool] = lambda layer: True) -> None:
        """Read the viewer's layers again, keeping the choice if it is still there."""
        before = self.layer()
        fitting = [layer for layer in self._viewer.layers if isinstance(layer, self._kind) and offered(layer)]
        self.left_out = {layer.name: why for layer in fitting if (why := self._refusal(layer)) is not None}
        self._layers = [layer for layer in fitting if layer.name not in self.left_out]
        with QSignalBlocker(self):
            self.clear()
            self.addItems([layer.name for layer in self._layers])
            self.setCurrentIndex(self._layers.index(before) if before in self._layers else -1)
        if self.layer() is not before:
            self.chosen.emit()

    def layer(self) -> Layer | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def layers(self) -> list[Layer]:
        """All that are offered."""
        return list(self._layers)

    def choose(self, layer: Layer | None) -> None:
        """Choose one of them, or none."""
        self.setCurrentIndex(self._layers.index(layer) if layer in self._layers else -1)


class VoxelSize(QWidget):
    """Three numbers z, y, x in nanometres; 0 stands for not known."""

    edited = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._boxes = []
        for axis in "zyx":
            box = QDoubleSpinBox()
            box.setRange(0, 1e6)
            box.setDecimals(3)
            box.setPrefix(f"{axis} ")
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
            box.setToolTip(f"Size of a voxel along {axis}, in nanometres.")
            box.setMinimumWidth(50)
            box.valueChanged.connect(lambda _: self.edited.emit())
            self._boxes.append(box)
        row(self, *self._boxes, (QLabel("nm"), 0))

    def value(self) -> tuple[float, float, float] | None:
        """The voxel size; None while one of the three is missing."""
        z, y, x = (box.value() for box in self._boxes)
        return (z, y, x) if z and y and x else None

    def set_value(self, spacing: tuple[float, float, float] | None) -> None:
        """Show a voxel size."""
        for box, size in zip(self._boxes, spacing or (0, 0, 0), strict=True):
            with QSignalBlocker(box):
                box.setValue(size)
        self.edited.emit()


def duration(seconds: float) -> str:
    """A time in words: 45 s, 3 min, 2.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class JobStrip(QWidget):
    """Progress of one kind of job, with the time left and the buttons that steer it; hidden while none runs."""

    def __init__(self, runner: Runner, kind: str, *, stop: str, pause: bool = False) -> None:
        super().__init__()
        self._runner, self._kind = runner, kind
        self._first: tuple[int, float] | None = None
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.pause = button("Pause", "Hold the job, keeping its memory.", self._pause)
        if not pause:
            self.pause.hide()
        self.stop = button(stop, "End the job after what it is doing; what it has is kept.", self._stop)
        column(self, self.bar, row(None, self.pause, self.stop))
        self.hide()
        runner.started.connect(self._on_started)
        runner.happened.connect(self._on_event)
        runner.ended.connect(self._on_ended)

    def _mine(self) -> bool:
        return self._runner.job is not None and self._runner.job.kind == self._kind

    def _on_started(self, job: object) -> None:
        if self._mine():
            self._first = None
            self.bar.setRange(0, 0)
            self.bar.setFormat("Getting ready …")
            self.pause.setText("Pause")
            for each in (self.pause, self.stop):
                each.setEnabled(True)
            self.show()

    def _on_event(self, event: object) -> None:
        if not self._mine():
            return
        if isinstance(event, Started):
            self.bar.setFormat(f"Started on {event.device}")
        elif isinstance(event, Stepped):
            left = (event.steps - event.step) / event.rate if event.rate else None
            self._advance(event.step, event.steps, left, "steps")
        elif isinstance(event, TileDone):
            now = time.monotonic()
            self._first = self._first or (event.done, now)
            done = event.done - self._first[0]
            left = (now - self._first[1]) / done * (event.total - event.done) if done else None
            self._advance(event.done, event.total, left, "blocks")

    def _advance(self, done: int, total: int, left: float | None, unit: str) -> None:
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        time_left = "paused" if self._runner.paused else "" if left is None else f"{duration(left)} left"
        self.bar.setFormat(f"{done} of {total} {unit}" + (f" · {time_left}" if time_left else ""))

    def _on_ended(self, last: object) -> None:
        self.hide()

    def _pause(self) -> None:
        self._runner.say("resume" if self._runner.paused else "pause")
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        self.bar.setFormat("Paused" if self._runner.paused else "Going on …")

    def _stop(self) -> None:
        self._runner.say("stop")
        self.bar.setFormat("Stopping and keeping what there is …")
        for each in (self.pause, self.stop):
            each.setEnabled(False)

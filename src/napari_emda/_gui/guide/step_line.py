"""The line at the top of the dock."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QFrame, QLabel, QSizePolicy

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.guide.next_step import NextStep


class StepLine(QFrame):
    """Where the user is, what comes next, and the button for it.

    Args:
        act: called with the next step when the button is pressed.

    Attributes:
        where: project, volume and model; cut off where the dock is narrow, whole in its tooltip.
        sentence: what to do next, or why it is not possible yet.
        button: for the next step.
    """

    def __init__(self, act: Callable[[NextStep], object]) -> None:
        super().__init__()
        self.step: NextStep | None = None
        self.where = _Elided()
        self.sentence = Sentence()
        self.button = button("…", "", lambda: act(self.step) if self.step is not None else None)
        font = self.button.font()
        font.setBold(True)
        self.button.setFont(font)
        column(self, row(None, self.where, (self.button, 0)), self.sentence, margin=2)

    def show_step(self, where: str, step: NextStep) -> None:
        """Show a place and a step."""
        self.step = step
        self.where.show_text(where)
        self.sentence.show_text(step.sentence, "" if step.possible else "hint")
        self.button.setText(step.button)
        self.button.setAccessibleName(f"Next step: {step.button}")
        self.button.setToolTip(f"The next step. {step.sentence}")
        self.button.setEnabled(step.possible)


class _Elided(QLabel):
    """A line of text that is drawn with … where it does not fit."""

    def __init__(self) -> None:
        super().__init__()
        # The text must not widen the dock.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def show_text(self, text: str) -> None:
        """Show a text."""
        self.setText(text)
        self.setToolTip(text)
        self.setAccessibleName(text)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the text, cut off at its beginning: the model and the volume stay."""
        # Drawn rather than set, because another text would ask for another layout.
        mode = Qt.TextElideMode.ElideLeft
        text = self.fontMetrics().elidedText(self.text(), mode, self.width())
        painter = QPainter(self)
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, text)
        painter.end()

"""A progress bar that moves calmly while the share of the work that is done is unknown."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QRect, QTimer
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import QProgressBar, QStyle, QStyleOptionProgressBar, QStylePainter, QWidget

# Milliseconds between two positions. Qt moves such a bar 30 times a second, and whatever moves in a
# window with a canvas lets OpenGL draw all of the window: without a graphics card that takes a
# third of a core, from the very job for which one waits.
_INTERVAL = 250

# Positions from one end to the other.
_POSITIONS = 8


class ProgressBar(QProgressBar):
    """A progress bar; with a range from 0 to 0, a block in it moves to and fro.

    Args:
        parent: the widget that holds it.
        clock: seconds from any zero; tests give their own.
    """

    def __init__(
        self, parent: QWidget | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName("Progress")
        self._clock = clock
        self._next = QTimer(self)
        self._next.setInterval(_INTERVAL)
        self._next.setSingleShot(True)
        self._next.timeout.connect(self.update)

    @property
    def is_moving(self) -> bool:
        """Whether the share is unknown."""
        return self.minimum() == self.maximum() == 0

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw a share as Qt does, and else the block where it is by now."""
        if not self.is_moving:
            super().paintEvent(event)
            return
        option = QStyleOptionProgressBar()
        self.initStyleOption(option)
        painter = QStylePainter(self)
        # As full bars: only a bar without a range is moved by Qt.
        option.maximum = option.progress = 1
        painter.drawControl(QStyle.ControlElement.CE_ProgressBarGroove, option)
        option.rect = self._block()
        painter.drawControl(QStyle.ControlElement.CE_ProgressBarContents, option)
        painter.end()
        # Painting asks for the next one, so that a bar that nobody sees does nothing.
        if not self._next.isActive():
            self._next.start()

    def _block(self) -> QRect:
        turn = int(self._clock() * 1000 / _INTERVAL) % (2 * _POSITIONS)
        position = min(turn, 2 * _POSITIONS - turn)
        inside = self.rect().adjusted(1, 1, -1, -1)  # the frame stays
        width = inside.width() // 4
        left = inside.left() + (inside.width() - width) * position // _POSITIONS
        return QRect(left, inside.top(), width, inside.height())

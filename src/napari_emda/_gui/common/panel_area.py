"""The part of the dock that scrolls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import QEvent, QObject, QPoint, QSize, Qt
from qtpy.QtWidgets import QScrollArea, QWidget

# Pixels that stay free around a control that has the focus: its outline is seen, too.
_MARGIN = 4


class PanelArea(QScrollArea):
    """Scrolls its content up and down only: it is never narrower than the content can be."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        # Its controls are reached by Tab; the area itself would be a stop without a sight.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(content)
        # Scrolls to what was shown last, and where the bar was then.
        self._show_again: Callable[[], None] | None = None
        self._placed = 0
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.rangeChanged.connect(lambda *_: self._follow())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the content, whose least width changes when parts of it open and close."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def show_from_top(self, part: QWidget) -> None:
        """Scroll until a part of the content begins at the top, and keep it there."""
        self._scroll(partial(self._top, part), partial(self.show_from_top, part))

    def show_all_of(self, part: QWidget) -> None:
        """Scroll until a part of the content is seen, or its beginning if it is too high."""
        self._scroll(partial(self._nearest, part), partial(self.show_all_of, part))

    def show_focused(self, control: QWidget) -> None:
        """Scroll until a control that has got the keyboard focus is seen, with its outline."""
        # What was shown before must not come back and push it out of sight.
        self._show_again = None
        self.ensureWidgetVisible(control, _MARGIN, _MARGIN)

    def _scroll(self, place: Callable[[], int], again: Callable[[], None]) -> None:
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.setValue(place())
            self._placed = bar.value()
            self._show_again = again

    def _follow(self) -> None:
        # The content may have been too short to scroll, and grows, as with the curves of a
        # training. Whoever has scrolled since is left alone.
        bar = self.verticalScrollBar()
        if bar is not None and self._show_again is not None and bar.value() == self._placed:
            self._show_again()

    def _nearest(self, part: QWidget) -> int:
        """The position of the bar, nearest to the current one, at which a part is seen."""
        bar = self.verticalScrollBar()
        view = self.viewport()
        if bar is None or view is None:
            return 0
        top = self._top(part)
        lowest = top + part.height() - view.height()
        return min(top, max(bar.value(), lowest))

    def _top(self, part: QWidget) -> int:
        content = self.widget()
        return 0 if content is None else part.mapTo(content, QPoint(0, 0)).y()

    def minimumSizeHint(self) -> QSize:
        """As narrow as the content allows, beside the scroll bar."""
        content = self.widget()
        bar = self.verticalScrollBar()
        width = 0 if content is None else content.minimumSizeHint().width()
        # The height of a few lines: the rest scrolls.
        height = 6 * self.fontMetrics().height()
        return QSize(width + (0 if bar is None else bar.sizeHint().width()), height)

"""Where the keyboard focus goes: into the dock and back by a key, and on when its control goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QKeySequence
from qtpy.QtGui import QShortcut as _QShortcut  # type: ignore[attr-defined]  # on Qt 5 elsewhere
from qtpy.QtWidgets import QApplication, QWidget

from napari_emda._gui.common.panel_area import PanelArea

# The key that goes to the next pane in file managers, browsers and office programs. The Tab key
# alone does not lead from napari's slider any further.
KEY = "F6"


class KeyboardFocus(QObject):
    """Lets users of the keyboard reach the dock, and never lose their place in it.

    Args:
        dock: that holds the controls.
        area: the part of it that scrolls.
        canvas: the widget to go back to; None if there is none.
        places: where the focus may go, the best place first.
        best: the control among them that is preferred as soon as it can be pressed.
    """

    def __init__(
        self,
        dock: QWidget,
        area: PanelArea,
        canvas: Callable[[], QWidget | None],
        places: Callable[[], Iterable[QWidget]],
        best: QWidget,
    ) -> None:
        super().__init__(dock)
        self._dock = dock
        self._area = area
        self._canvas = canvas
        self._places = places
        self._best = best
        # In the dock: which control had the focus last, and where the focus waits for `best`.
        self._last: QWidget | None = None
        self._waiting: QWidget | None = None
        # Later, when a change of the dock is complete, and once for all that it hides.
        self._lost = QTimer(self)
        self._lost.setSingleShot(True)
        self._lost.timeout.connect(self._find_place)
        _QShortcut(QKeySequence(KEY), dock).activated.connect(self.cross)
        best.installEventFilter(self)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.focusChanged.connect(self._on_focus)

    def release(self) -> None:
        """Stop watching the focus."""
        self._lost.stop()
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.focusChanged.disconnect(self._on_focus)

    def cross(self) -> None:
        """Go from the canvas into the dock, to the last control there, or back to the canvas."""
        canvas = self._canvas()
        if self._is_inside(QApplication.focusWidget()):
            if canvas is not None:
                canvas.setFocus()
        elif self._last is not None and _can_have_focus(self._last):
            self._last.setFocus(Qt.FocusReason.ShortcutFocusReason)
        else:
            self._find_place()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Go to the best place when it can be pressed again and the focus waits for it."""
        changed = event is not None and event.type() == QEvent.Type.EnabledChange
        if changed and self._waiting is not None and self._waiting is QApplication.focusWidget():
            self._lost.start(0)
        return False

    def _is_inside(self, widget: QWidget | None) -> bool:
        return widget is not None and self._dock.isAncestorOf(widget)

    def _on_focus(self, old: QWidget | None, new: QWidget | None) -> None:
        # A control that was hidden or disabled was not left by the user: Qt went to the next one,
        # which may be out of sight or belong to another step.
        if self._is_inside(old) and old is not None and not _can_have_focus(old):
            self._lost.start(0)
        elif self._is_inside(new) and new is not None:
            self._last = new
            self._bring_in_sight(new)

    def _bring_in_sight(self, control: QWidget) -> None:
        # Qt scrolls for the Tab key only if it comes from within the area. A control that is
        # clicked stays below the mouse.
        clicked = QApplication.mouseButtons() != Qt.MouseButton.NoButton
        if self._area.isAncestorOf(control) and not clicked:
            self._area.show_focused(control)

    def _find_place(self) -> None:
        place = next(filter(_can_have_focus, self._places()), None)
        if place is not None:
            place.setFocus(Qt.FocusReason.OtherFocusReason)
            self._waiting = place if place is not self._best else None


def _can_have_focus(control: QWidget) -> bool:
    # Buttons of classes and answers come and go.
    return bool(isalive(control)) and control.isVisible() and control.isEnabled()

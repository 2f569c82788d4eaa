"""Keys of the annotation round while a widget of the dock has the focus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractSpinBox, QLineEdit, QWidget

from napari_emda._gui.annotate.keys import KEYS

_MODIFIERS = {
    # Qt calls the command key of macOS so, too.
    "Ctrl": Qt.KeyboardModifier.ControlModifier,
    "Shift": Qt.KeyboardModifier.ShiftModifier,
}


class KeyFilter(QObject):
    """Makes the keys act in panels as well, except where the user types.

    Args:
        panels: whose widgets are filtered, and their own keys; the first one owns the filter.
        actions: what each name in `KEYS` does.
    """

    def __init__(
        self, panels: Sequence[QWidget], actions: Mapping[str, Callable[[], object]]
    ) -> None:
        super().__init__(panels[0])
        self._actions = {
            _pressed(key): actions[name] for key, (name, _) in KEYS.items() if name in actions
        }
        # Every widget: combo boxes and lists use letters to select entries, and would swallow keys.
        # A widget of two panels is filtered once: Qt ignores the second time.
        for panel in panels:
            for widget in (panel, *panel.findChildren(QWidget)):
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Act on a key of the round, unless it is text for the widget."""
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        # In a spin box letters mean nothing, so only digits are left to it.
        typed = isinstance(watched, QLineEdit) or (
            isinstance(watched, QAbstractSpinBox) and event.text().isdigit()
        )
        action = self._actions.get((Qt.Key(event.key()), event.modifiers()))
        if typed or action is None:
            return False
        action()
        return True


def _pressed(key: str) -> tuple[Qt.Key, Qt.KeyboardModifier]:
    """Qt's key and modifiers of a key as the help writes it, such as Ctrl-Shift-Z."""
    *held, letter = key.split("-")
    modifiers = Qt.KeyboardModifier.NoModifier
    for name in held:
        modifiers |= _MODIFIERS[name]
    return getattr(Qt.Key, f"Key_{letter}"), modifiers

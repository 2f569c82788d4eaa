"""Keys of a panel, bound while the dock is open: one table binds and shows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from app_model.types import KeyBinding, KeyCode, KeyMod
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractSpinBox, QLineEdit, QWidget

Keys = dict[str, tuple[str, str]]
"""By key, such as Shift-N: the name of its action, and what it does."""
# Names of keys that are neither letters nor digits, in napari and in Qt.
_NAMES = {"[": "BracketLeft", "]": "BracketRight"}
_MODIFIERS = {"Ctrl": KeyMod.CtrlCmd, "Shift": KeyMod.Shift}
_QT_MODIFIERS = {
    # Qt calls the command key of macOS so, too.
    "Ctrl": Qt.KeyboardModifier.ControlModifier,
    "Shift": Qt.KeyboardModifier.ShiftModifier,
}


def binding(key: str) -> KeyBinding:
    """Napari's key binding of a key.

    Args:
        key: as in `Keys`.
    """
    *held, last = key.split("-")
    # Digits and letters have a prefix in the names of the codes.
    prefix = "Digit" if last.isdigit() else "Key" if last.isalpha() and len(last) == 1 else ""
    code: int = KeyCode[f"{prefix}{_NAMES.get(last, last)}"]
    for name in held:
        code |= _MODIFIERS[name]
    return KeyBinding.from_int(code)


def table_of(rows: Sequence[tuple[str, str]]) -> str:
    """Keys and what they do as an HTML table."""
    cells = "".join(
        f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in rows
    )
    return f"<table>{cells}</table><p>They act on the canvas and in this panel.</p>"


class KeyBindings:
    """Binds the keys to a viewer and to layers, and restores what was bound before.

    Args:
        keys: of the panel.
        actions: what each name in the table does.
    """

    def __init__(self, keys: Keys, actions: Mapping[str, Callable[[], object]]) -> None:
        self._keys = keys
        self._actions = actions
        self._before: list[tuple[ViewerModel | Layer, Any, Any]] = []

    def bind(self, owner: ViewerModel | Layer, names: Collection[str] | None = None) -> None:
        """Bind keys on a viewer or a layer, once.

        Args:
            owner: the viewer or layer.
            names: of the actions; all by default.
        """
        if any(bound is owner for bound, _, _ in self._before):
            return
        # What was bound before, by the user or by another plugin, comes back in `unbind`.
        for key, (name, _) in self._keys.items():
            action = self._actions.get(name)
            if action is not None and (names is None or name in names):
                bound = binding(key)
                self._before.append((owner, bound, owner.keymap.get(bound)))
                owner.bind_key(bound, _press(action), overwrite=True)

    def unbind(self) -> None:
        """Restore what was bound before."""
        for owner, key, before in self._before:
            owner.bind_key(key, before, overwrite=True)
        self._before = []


def _press(action: Callable[[], object]) -> Callable[[Any], None]:
    def pressed(owner: Any) -> None:
        action()

    return pressed


class KeyFilter(QObject):
    """Makes the keys act in panels as well, except where the user types.

    Args:
        panels: whose widgets are filtered, and their own keys; the first one owns the filter.
        keys: of the panel.
        actions: what each name in the table does.
    """

    def __init__(
        self,
        panels: Sequence[QWidget],
        keys: Keys,
        actions: Mapping[str, Callable[[], object]],
    ) -> None:
        super().__init__(panels[0])
        self._actions = {
            _pressed(key): actions[name] for key, (name, _) in keys.items() if name in actions
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
        modifiers |= _QT_MODIFIERS[name]
    return getattr(Qt.Key, f"Key_{_NAMES.get(letter, letter)}"), modifiers

"""Keys of the annotation round, bound while the dock is open: one table binds and shows them.

The letters of commands are those that napari leaves free. Napari's letters for tools keep their
meaning. Digits choose classes: on annotation layers they replace napari's digits for tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from app_model.types import KeyBinding, KeyCode, KeyMod
from napari.components import ViewerModel
from napari.layers import Layer

from napari_emda._gui.common.keyboard_focus import KEY as CROSSING

# By key: the name of its action, and what it does.
KEYS: dict[str, tuple[str, str]] = {
    "N": ("next", "next open patch"),
    "Shift-N": ("back", "back to the previous patch, to revise it"),
    "K": ("done", "done: the patch is correct, unpainted pixels are background"),
    "Shift-K": ("partial", "done, only what I painted"),
    "J": ("skip", "skip this patch"),
    "Shift-J": ("unsure", "not sure: impossible to decide"),
    "Ctrl-Z": ("undo stroke", "undo the last stroke in this patch"),
    "Ctrl-Shift-Z": ("redo stroke", "repeat the stroke that was undone"),
    "U": ("undo", "undo the last decision: done, skip, suggestions, audit, import, cluster names"),
    "Shift-U": ("redo", "repeat the decision that was undone"),
    "P": ("paint", "paint with the brush"),
    "E": ("erase", "erase"),
    "F": ("fill", "fill an area"),
    "G": ("polygon", "paint a polygon"),
    "L": ("pick", "pick the class under the mouse"),
    "Z": ("pan_zoom", "put the brush away, to move the view"),
    "Q": ("brush", "next brush size"),
    **{f"{k}": (f"class {k}", f"paint with class {k}") for k in range(1, 10)},
    "H": ("bare", "show only the image, and back"),
    "Shift-H": ("uncertainty", "hide or show the uncertainty"),
    "M": ("mask", "hide or show the mask of the model"),
    "O": ("outlines", "outlines instead of filled areas, and back"),
    "W": ("draw", "draw a patch yourself"),
    "Delete": ("delete", "delete a patch that you drew"),
    "Escape": ("escape", "give up drawing, a polygon or the tool in use"),
}
# Tools of napari: names of actions that are modes of a labels layer.
TOOLS = ("paint", "erase", "fill", "polygon", "pick", "pan_zoom")
# Keys of napari's layers of rectangles that the dock needs while such a layer is selected.
OF_RECTANGLES = ("escape", "delete", "undo stroke", "redo stroke")
_MODIFIERS = {"Ctrl": KeyMod.CtrlCmd, "Shift": KeyMod.Shift}


def binding(key: str) -> KeyBinding:
    """Napari's key binding of a key in `KEYS`."""
    *held, last = key.split("-")
    # Digits and letters have a prefix in the names of the codes.
    prefix = "Digit" if last.isdigit() else "Key" if len(last) == 1 else ""
    code: int = KeyCode[f"{prefix}{last}"]
    for name in held:
        code |= _MODIFIERS[name]
    return KeyBinding.from_int(code)


def rows() -> list[tuple[str, str]]:
    """Key and what it does, for help and documentation; the digits in one row."""
    shown = []
    for key, (name, text) in KEYS.items():
        if name == "class 1":
            shown.append(("1 … 9", "paint with that class"))
        elif not name.startswith("class"):
            shown.append((key, text))
    return [*shown, (CROSSING, "from the canvas into the dock, and back")]


def help_text() -> str:
    """The keys as an HTML table."""
    cells = "".join(
        f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in rows()
    )
    return f"<table>{cells}</table><p>They act on the canvas and in this panel.</p>"


class KeyBindings:
    """Binds the keys to a viewer and to layers, and restores what was bound before.

    Args:
        actions: what each name in `KEYS` does.
    """

    def __init__(self, actions: Mapping[str, Callable[[], object]]) -> None:
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
        for key, (name, _) in KEYS.items():
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

"""Keys of the annotation round, bound while the dock is open.

The letters are those that napari leaves free. Digits choose classes: on annotation layers they
replace napari's digits for modes, which have letters as well (E erase, P paint, F fill, L pick, Z
move).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.key_bindings import coerce_keybinding

# By key: the name of its action, and what it does.
KEYS: dict[str, tuple[str, str]] = {
    "N": ("next", "next open patch"),
    "Shift-N": ("back", "back to the previous patch, to revise it"),
    "K": ("done", "done: the patch is correct, unpainted pixels are background"),
    "Shift-K": ("partial", "done, only what I painted"),
    "J": ("skip", "skip this patch"),
    "Shift-J": ("unsure", "not sure: impossible to decide"),
    "U": ("undo", "undo the last decision"),
    "H": ("bare", "show only the image, and back"),
    "Shift-H": ("uncertainty", "hide or show the uncertainty"),
    "M": ("mask", "hide or show the mask of the model"),
    "O": ("outlines", "outlines instead of filled areas, and back"),
    "Q": ("brush", "next brush size"),
    "W": ("draw", "draw a patch yourself"),
    **{f"{k}": (f"class {k}", f"paint with class {k}") for k in range(1, 10)},
}


def help_text() -> str:
    """The keys as an HTML table."""
    rows = [(key, text) for key, (name, text) in KEYS.items() if not name.startswith("class")]
    rows.append(("1 … 9", "paint with that class"))
    cells = "".join(
        f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in rows
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

    def bind(self, owner: ViewerModel | Layer) -> None:
        """Bind all keys on a viewer or a layer, once."""
        if any(bound is owner for bound, _, _ in self._before):
            return
        # What was bound before, by the user or by another plugin, comes back in `unbind`.
        for key, (name, _) in KEYS.items():
            action = self._actions.get(name)
            if action is not None:
                self._before.append((owner, key, owner.keymap.get(coerce_keybinding(key))))
                owner.bind_key(key, _press(action), overwrite=True)

    def unbind(self) -> None:
        """Restore what was bound before."""
        for owner, key, before in self._before:
            owner.bind_key(key, before, overwrite=True)
        self._before = []


def _press(action: Callable[[], object]) -> Callable[[Any], None]:
    def pressed(owner: Any) -> None:
        action()

    return pressed

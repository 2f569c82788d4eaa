"""Keys for going through objects: they act on the layers of the objects and in the panel."""

from __future__ import annotations

from napari_emda._gui.common.key_bindings import Keys, table_of
from napari_emda._gui.common.keyboard_focus import KEY as CROSSING

# As for patches where the meaning is the same.
KEYS: Keys = {
    "N": ("next", "next object in the order of the table that is not decided"),
    "Shift-N": ("back", "back to the previous object"),
    "K": ("good", "good: the outline of the object is right"),
    "Delete": ("delete", "delete it: it is background"),
    "D": ("delete", "delete it: it is background"),
    "M": ("merge", "merge it with another one: click that"),
    "S": ("split", "split it: click a voxel in each part"),
    "R": ("redraw", "redraw its outline: opens a patch"),
    "U": ("undo", "undo the last decision on an object"),
    "Shift-U": ("redo", "repeat the decision that was undone"),
    "O": ("outlines", "filled areas instead of outlines, and back"),
    "H": ("bare", "hide or show the objects"),
    "Escape": ("escape", "give up merging or splitting"),
}


def rows() -> list[tuple[str, str]]:
    """Keys and what they do, for help and documentation; keys of one action in one row."""
    keys: dict[str, str] = {}
    for key, (_, text) in KEYS.items():
        keys[text] = f"{keys[text]}, {key}" if text in keys else key
    shown = [(key, text) for text, key in keys.items()]
    return [*shown, (CROSSING, "from the canvas into the dock, and back")]


def help_text() -> str:
    """The keys as an HTML table."""
    return table_of(rows())

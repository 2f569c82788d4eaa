"""Keys of the annotation round, bound while the dock is open: one table binds and shows them.

The letters of commands are those that napari leaves free. Napari's letters for tools keep their
meaning. Digits choose classes: on annotation layers they replace napari's digits for tools.
"""

from __future__ import annotations

from napari_emda._gui.common.key_bindings import Keys, table_of
from napari_emda._gui.common.keyboard_focus import KEY as CROSSING

# By key: the name of its action, and what it does.
KEYS: Keys = {
    "N": ("next", "next open patch"),
    "Shift-N": ("back", "back to the previous patch, to revise it"),
    "K": ("done", "done: the patch is correct, unpainted pixels are background"),
    "Shift-K": ("partial", "done, only what I painted"),
    "J": ("skip", "skip this patch"),
    "Shift-J": ("unsure", "not sure: impossible to decide"),
    "Ctrl-Z": ("undo stroke", "undo the last stroke in this patch"),
    "Ctrl-Shift-Z": ("redo stroke", "repeat the stroke that was undone"),
    "U": (
        "undo",
        "undo the last decision: done, skip, suggestions, audit, import, names, check point",
    ),
    "Shift-U": ("redo", "repeat the decision that was undone"),
    "C": ("objects", "click objects: drop a wrong one, add a missed one"),
    "[": ("smaller", "a smaller object under the mouse, or a smaller brush"),
    "]": ("larger", "a larger object under the mouse, or a larger brush"),
    "S": ("smart", "paint with the smart brush, which keeps to edges"),
    "I": ("between", "click to take an outline from annotated sections before and behind"),
    "P": ("paint", "paint with the brush"),
    "E": ("erase", "erase"),
    "F": ("fill", "fill an area"),
    "G": ("polygon", "paint a polygon"),
    "L": ("pick", "pick the class under the mouse"),
    "Z": ("pan_zoom", "put the brush away, to move the view"),
    "Q": ("brush", "next brush size"),
    **{
        f"{k}": (f"class {k}", f"paint with class {k}; at a check point: it is class {k}")
        for k in range(1, 10)
    },
    "0": ("cannot tell", "at a check point: it cannot be told"),
    "H": ("bare", "show only the image, and back"),
    "Shift-H": ("uncertainty", "hide or show the uncertainty"),
    "M": ("mask", "hide or show the mask of the model"),
    "O": ("outlines", "outlines instead of filled areas, and back"),
    "W": ("draw", "draw a patch yourself"),
    "Delete": ("delete", "delete a patch that you drew"),
    "Escape": ("escape", "give up drawing, a polygon or the tool in use"),
}
# Tools of napari: names of actions that are modes of a labels layer.
TOOLS = ("erase", "fill", "polygon", "pick", "pan_zoom")
# Keys of napari's layers of rectangles that the dock needs while such a layer is selected.
OF_RECTANGLES = ("escape", "delete", "undo stroke", "redo stroke")


def rows() -> list[tuple[str, str]]:
    """Key and what it does, for help and documentation; the digits in one row."""
    shown = []
    for key, (name, text) in KEYS.items():
        if name == "class 1":
            shown.append(("1 … 9", "paint with that class; at a check point: it is of that class"))
        elif not name.startswith("class"):
            shown.append((key, text))
    return [*shown, (CROSSING, "from the canvas into the dock, and back")]


def help_text() -> str:
    """The keys as an HTML table."""
    return table_of(rows())

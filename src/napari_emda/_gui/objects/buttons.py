"""The buttons that decide on the object on view."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtWidgets import QPushButton, QToolTip, QWidget

from napari_emda._gui.common.widgets import button, column, wrapped
from napari_emda._gui.objects.keys import help_text

# Seconds that the table of keys stays: long enough to read it.
_HELP_SECONDS = 20


class ObjectButtons(QWidget):
    """Decisions, moves and history.

    Args:
        act: what each of the `napari_emda._gui.objects.keys.KEYS` does, by name.

    Attributes:
        deciding: buttons that need an object on view.
        moving: buttons that need objects.
        next: goes to the next object.
    """

    def __init__(self, act: Mapping[str, Callable[[], None]]) -> None:
        super().__init__()
        self.next = button(
            "Next", "Go to the next object of the table that is not decided (N).", act["next"]
        )
        back = button("Back", "Go back to the previous object (Shift-N).", act["back"])
        self.deciding = [
            button("Good", "The outline of the object is right (K).", act["good"]),
            button("Delete", "It is no object, but background (D or Delete).", act["delete"]),
            button("Merge", "It belongs to another object: click that (M).", act["merge"]),
            button("Split", "It is two objects: click a voxel in each (S).", act["split"]),
            button("Redraw", "Its outline is wrong: paint it in a patch (R).", act["redraw"]),
        ]
        history = [
            button("Undo", "Take the last decision on an object back (U).", act["undo"]),
            button("Redo", "Repeat the decision that was undone (Shift-U).", act["redo"]),
        ]
        self.moving = [self.next, back, *history]
        self.help = button("?", "Show the keys.", self._show_help, name="Keys of objects")
        good, *others = self.deciding
        order: list[QPushButton] = [good, self.next, back, *others, *history, self.help]
        column(self, wrapped(*order), margin=0)

    def allow(self, *, deciding: bool, moving: bool) -> None:
        """Enable the buttons that can do something now."""
        for buttons, allowed in ((self.deciding, deciding), (self.moving, moving)):
            for one in buttons:
                one.setEnabled(allowed)

    def _show_help(self) -> None:
        corner = self.help.mapToGlobal(self.help.rect().bottomLeft())
        QToolTip.showText(corner, help_text(), self.help, msecShowTime=_HELP_SECONDS * 1000)

"""What is needed while a patch is painted: decisions, moves, classes and brushes, in one widget."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QPushButton, QToolTip, QWidget

from napari_emda._gui.annotate.class_palette import ClassPalette
from napari_emda._gui.annotate.keys import help_text
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.widgets import button, column, wrapped

# Seconds that the table of keys stays: long enough to read it.
_HELP_SECONDS = 20


class PaintingTools(QWidget):
    """The buttons and the palette of a patch; the dock decides where they stand.

    Args:
        commands: of the annotation round, by name.
        tools: class and brush to paint with.

    Attributes:
        classes: buttons of the classes and brushes.
        deciding: buttons that need a patch on view.
        moving: buttons that need patches.
        history: buttons that need a project.
        tools: buttons of the ways to correct, by command.
        done: accepts the patch; one of `deciding`.
        next: goes to the next open patch; one of `moving`.
    """

    def __init__(self, commands: Mapping[str, Callable[[], None]], tools: Tools) -> None:
        super().__init__()
        self.classes = ClassPalette(tools)
        self.help = button("?", "Show the keys.", self._show_help, name="Keys")
        self.outside = QCheckBox("Paint outside the patch, too")
        self.outside.setToolTip(
            "The brush, the bucket and the polygon may leave the rectangle; what they paint there "
            "is kept, and trainings learn from it. Patches that are done never change."
        )
        # As for buttons: a click leaves the keyboard focus on the canvas.
        self.outside.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.outside.toggled.connect(tools.allow_outside)
        self.tools = self._tool_buttons(commands)
        self._in_use = tools
        tools.changed.connect(self._mark)
        self._mark()
        column(
            self,
            wrapped(*self._buttons(commands)),
            wrapped(*self.tools.values()),
            self.classes,
            self.outside,
            margin=0,
        )

    @staticmethod
    def _tool_buttons(act: Mapping[str, Callable[[], None]]) -> dict[str, QPushButton]:
        """A button for each way to correct a patch; the one in use is checked."""
        buttons = {
            # Short names, so that they stand in one row.
            "paint": button("Brush", "The brush as it is (P).", act["paint"]),
            "smart": button(
                "Smart",
                "A brush that keeps to the edges of the image and of the prediction (S).",
                act["smart"],
                name="smart brush",
            ),
            "objects": button(
                "By object",
                "Click a wrong object to drop it, or a missed one to add what the model holds "
                "there (C). [ and ] make it smaller and larger.",
                act["objects"],
                name="correct by object",
            ),
            "between": button(
                "Between",
                "Click an object to take its outline from annotated sections before and behind "
                "(I).",
                act["between"],
                name="interpolate between sections",
            ),
        }
        for one in buttons.values():
            one.setCheckable(True)
        return buttons

    def _mark(self) -> None:
        tools = self._in_use
        used = tools.clicks or ("smart" if tools.snaps else "paint")
        for name, one in self.tools.items():
            one.setChecked(name == used)

    def _buttons(self, act: Mapping[str, Callable[[], None]]) -> tuple[QPushButton, ...]:
        done = self.done = button(
            "Done", "Accept the whole patch; unpainted pixels are background (K).", act["done"]
        )
        part = button(
            "Done, only what I painted",
            "Accept only your paint; the rest stays unannotated (Shift-K).",
            act["partial"],
        )
        self.next = button("Next", "Go to the next open patch (N).", act["next"])
        back = button("Back", "Back to the previous patch, to revise it (Shift-N).", act["back"])
        aside = [
            button("Skip", "Put this patch aside (J).", act["skip"]),
            button(
                "Not sure",
                "Put aside a patch that cannot be decided; it is not suggested again (Shift-J).",
                act["unsure"],
            ),
        ]
        self.history = [
            button(
                "Undo",
                "Undo the last decision, on whichever patch (U). Ctrl-Z undoes the last stroke.",
                act["undo"],
            ),
            button(
                "Redo",
                "Repeat the decision that was undone (Shift-U). Ctrl-Shift-Z repeats a stroke.",
                act["redo"],
            ),
        ]
        draw = button("Draw a patch", "Draw a rectangle in the current section (W).", act["draw"])
        bare = button("Bare image", "Hide or show all layers over the image (H).", act["bare"])
        uncertainty = button(
            "Uncertainty", "Show or hide the model's uncertainty (Shift-H).", act["uncertainty"]
        )
        self.deciding = [done, part, *aside]
        self.moving = [back, self.next]
        # In the order in which they fill the rows of a narrow dock, each of one kind.
        moves = (back, self.next, *aside)
        return (done, part, *moves, self.help, *self.history, draw, bare, uncertainty)

    def allow(self, *, deciding: bool, moving: bool, history: bool) -> None:
        """Enable the buttons that can do something now."""
        kinds = ((self.deciding, deciding), (self.moving, moving), (self.history, history))
        for buttons, allowed in kinds:
            for one in buttons:
                one.setEnabled(allowed)

    def _show_help(self) -> None:
        corner = self.help.mapToGlobal(self.help.rect().bottomLeft())
        QToolTip.showText(corner, help_text(), self.help, msecShowTime=_HELP_SECONDS * 1000)

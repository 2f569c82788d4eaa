"""A box for a line of text, such as a path."""

from __future__ import annotations

import html

from qtpy.QtGui import QFocusEvent
from qtpy.QtWidgets import QLineEdit


class TextBox(QLineEdit):
    """A line of text of which the beginning is seen, and all of it in the tooltip.

    Args:
        tip: what to type, in a sentence.
        text: to begin with.
    """

    def __init__(self, tip: str, text: str = "") -> None:
        super().__init__()
        self._tip = tip
        self.setAccessibleDescription(tip)
        self.textChanged.connect(lambda _: self._show_tip())
        self.setText(text)
        self._show_tip()

    def _show_tip(self) -> None:
        # A tooltip is taken for HTML where it looks like it: a name may hold a tag.
        text = html.escape(self.text())
        self.setToolTip(f"<p>{html.escape(self._tip)}</p><p><b>{text}</b></p>")

    def setText(self, text: str | None) -> None:
        """Show a text from its beginning; Qt shows its end."""
        super().setText(text)
        self.setCursorPosition(0)

    def focusOutEvent(self, event: QFocusEvent | None) -> None:
        """Show the beginning again after typing."""
        super().focusOutEvent(event)
        self.setCursorPosition(0)

"""The latest message of the dock."""

from __future__ import annotations

from qtpy.QtWidgets import QFrame

from napari_emda._gui.common.widgets import Sentence, button, column, row


class Notices(QFrame):
    """The latest message, at the top of the dock, with a cross to dismiss it.

    What follows the first line of a message is shown after a click on *Why?*.

    Attributes:
        message: its first line.
        why: shows the other lines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.message = Sentence()
        self._details = Sentence()
        self._kept = ""
        self.why = button("Why?", "Show or hide the details of this message.", self._show_details)
        self.why.setCheckable(True)
        self.close_button = button("✕", "Dismiss this message.", self.clear, name="Dismiss")
        line = row(None, self.message, (self.why, 0), (self.close_button, 0))
        column(self, line, self._details, margin=0)
        self.hide()

    def show_text(self, text: str, tone: str) -> None:
        """Show a message until the next one."""
        summary, _, details = text.partition("\n")
        self.message.show_text(summary, tone)
        self.why.setChecked(False)
        self.why.setVisible(bool(details))
        self._details.show_text(details)
        self._details.hide()
        self.setVisible(bool(text))

    def _show_details(self) -> None:
        self._details.setVisible(self.why.isChecked())

    def clear(self) -> None:
        """Remove the message."""
        self.show_text("", "")

    @property
    def tone(self) -> str:
        """The tone of the message."""
        return self.message.tone

    def withdraw(self, text: str) -> None:
        """Remove the message if it has this text."""
        if self.text() == text:
            self.clear()

    def keep(self) -> None:
        """Keep the message on view until the next one or `let_go`: it answers no action."""
        self._kept = self.text()

    def let_go(self) -> None:
        """Remove a message that was kept, because the user goes on to other work."""
        if self._kept:
            self.withdraw(self._kept)

    def clear_answer(self) -> None:
        """Remove the message if it answers an action of the user; the end of a job stays."""
        # Hints are what a job reports on its way.
        if self.tone != "hint" and self.text() != self._kept:
            self.clear()

    def text(self) -> str:
        """The message, with its details."""
        details = self._details.text()
        return self.message.text() + (f"\n{details}" if details else "")

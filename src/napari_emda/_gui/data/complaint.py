"""An error that goes when its cause has gone."""

from __future__ import annotations

from collections.abc import Callable

from napari_emda._gui.session import Session


class Complaint:
    """Shows an error in the dock until the input that it is about changes.

    Args:
        session: of the dock.
        state: returns the input; two equal values mean that nothing has changed.
    """

    def __init__(self, session: Session, state: Callable[[], object]) -> None:
        self._session = session
        self._state = state
        self._text = ""
        self._about: object = None

    def show(self, text: str) -> None:
        """Show an error about the current input."""
        self._text = text
        self._about = self._state()
        self._session.say(text, "error")

    def review(self) -> None:
        """Withdraw the error if the input has changed; call it at every change."""
        if self._text and self._state() != self._about:
            self._session.withdraw(self._text)
            self._text = ""

"""A question to the user inside a panel, answered by a button."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from qtpy.QtWidgets import QBoxLayout, QPushButton, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column


class Question(QWidget):
    """A sentence with one button per answer; hidden while nothing is asked.

    It stands where the answer matters, and unlike a dialog does not block the viewer, in which the
    user may have to look for the answer.

    Attributes:
        sentence: the question.
        buttons: by their texts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sentence = Sentence()
        self.buttons: dict[str, QPushButton] = {}
        self._holder = QWidget()
        # Below each other: answers are words, and the dock is narrow.
        self._answers = QBoxLayout(QBoxLayout.Direction.TopToBottom, self._holder)
        self._answers.setContentsMargins(0, 0, 0, 0)
        self._answers.setSpacing(3)
        column(self, self.sentence, self._holder, margin=0)
        self.hide()

    @property
    def asked(self) -> bool:
        """Whether an answer is expected."""
        return bool(self.buttons)

    def ask(self, text: str, answers: Mapping[str, tuple[str, Callable[[], object]]]) -> None:
        """Ask, in place of the last question.

        Args:
            text: of the question.
            answers: texts of the buttons, their tooltips, and what they do.
        """
        self.clear()
        self.sentence.show_text(text, "hint")
        for answer, (tip, action) in answers.items():
            new = self.buttons[answer] = button(answer, tip, partial(self._answer, action))
            self._answers.addWidget(new)
            # At once: Qt shows what is added to a layout in a later turn of the event loop.
            new.show()
        self.show()

    def clear(self) -> None:
        """Withdraw the question."""
        for answer in self.buttons.values():
            self._answers.removeWidget(answer)
            # Later, because it may be the one that is being pressed.
            answer.hide()
            answer.deleteLater()
        self.buttons = {}
        self.sentence.show_text("")
        self.hide()

    def _answer(self, action: Callable[[], object]) -> None:
        # First, because the action may ask the next question.
        self.clear()
        action()

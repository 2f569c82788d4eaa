"""Boxes to type numbers into: what is typed is kept, with any decimal mark."""

from __future__ import annotations

import math
import re

from qtpy.QtGui import QValidator, QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QSpinBox, QWidget

from napari_emda.data.units import nanometres

# Decimal marks of the world's keyboards: point, comma, Arabic mark, and the middle dot.
_MARKS = ".,\u066b\u00b7"
# What people write between thousands: spaces of all kinds, apostrophes, and the Arabic mark.
_BETWEEN_THOUSANDS = re.compile(r"[\s'\u2019\u066c]")
# A number, finished or not, such as "1", "1,", "1e-". Digits of other scripts are digits as well.
_BEGUN = re.compile(r"[+-]?\d*\.?\d*(e[+-]?\d*)?", re.IGNORECASE)


def parse_number(text: str) -> float | None:
    """The number that a text states, with a decimal point or comma; None if it states none.

    >>> parse_number("4,6"), parse_number("1.234,5"), parse_number("1,000,000"), parse_number("?")
    (4.6, 1234.5, 1000000.0, None)
    """
    try:
        number = float(_plain(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _plain(text: str) -> str:
    """The text with one decimal point at most, and nothing between thousands."""
    text = _BETWEEN_THOUSANDS.sub("", text)
    marks = [character for character in text if character in _MARKS]
    # Of two different marks the last is the decimal one; one that is repeated parts thousands.
    decimal = marks[-1] if marks and (len(marks) == 1 or marks.count(marks[-1]) == 1) else ""
    return "".join(
        "." if character == decimal else character
        for character in text
        if character == decimal or character not in _MARKS
    )


class WholeNumberBox(QSpinBox):
    """A whole number of up to 32 bits; a number outside the limits becomes the nearest limit."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _configure(self)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Change the number by the wheel only while the box has the focus."""
        if event is not None and not _scrolls_past(self, event):
            super().wheelEvent(event)


class DecimalBox(QDoubleSpinBox):
    """A number with a decimal point, which may be typed as a comma; nearest limit as above."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _configure(self)

    def textFromValue(self, value: float) -> str:
        """Write a number with a point, as the rest of the dock does."""
        return f"{value:.{self.decimals()}f}"

    def valueFromText(self, text: str | None) -> float:
        """Read what was typed; the last number if it is none."""
        number = parse_number(self._typed(text or ""))
        return self.value() if number is None else min(max(number, self.minimum()), self.maximum())

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Accept every number within the limits, and everything that may become one."""
        text = text or ""
        typed = self._typed(text)
        number = parse_number(typed)
        if number is not None and self.minimum() <= number <= self.maximum():
            return QValidator.State.Acceptable, text, position
        # Out of the limits is not refused at the key: the number may not be complete yet.
        begun = number is not None or _BEGUN.fullmatch(_plain(typed)) is not None
        state = QValidator.State.Intermediate if begun else QValidator.State.Invalid
        return state, text, position

    def fixup(self, text: str | None) -> str:
        """Replace a number outside the limits by the nearest limit, and no number by the last."""
        return f"{self.prefix()}{self.textFromValue(self.valueFromText(text))}{self.suffix()}"

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Change the number by the wheel only while the box has the focus."""
        if event is not None and not _scrolls_past(self, event):
            super().wheelEvent(event)

    def _typed(self, text: str) -> str:
        return text.removeprefix(self.prefix()).removesuffix(self.suffix()).strip()


class LengthBox(DecimalBox):
    """A length in nm, 0 if unknown: the box is then empty and shows a grey question mark.

    A length with its unit, such as ``5 µm``, may be typed or pasted.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        edit = self.lineEdit()
        assert edit is not None
        # A placeholder is no text: what is typed does not mix with it.
        edit.setPlaceholderText("?")

    def textFromValue(self, value: float) -> str:
        """Write a number without trailing zeros, and nothing for an unknown length."""
        return f"{value:.10g}" if value else ""

    def valueFromText(self, text: str | None) -> float:
        """Read a length; an empty box is an unknown length."""
        text = (text or "").strip()
        if not text:
            return 0.0
        found = _LENGTH.fullmatch(text)
        factor = nanometres(found[2]) if found else None
        number = parse_number(found[1]) if found and factor else None
        if number is None or factor is None:
            return super().valueFromText(text)
        return super().valueFromText(repr(number * factor))

    def validate(self, text: str | None, position: int) -> tuple[QValidator.State, str, int]:
        """Accept an empty box and a length with its unit as well."""
        text = text or ""
        if not text.strip():
            return QValidator.State.Acceptable, text, position
        found = _LENGTH.fullmatch(text.strip())
        if found and parse_number(found[1]) is not None:
            # The unit is typed letter by letter, and "m" is one before it becomes "mm".
            return QValidator.State.Intermediate, text, position
        return super().validate(text, position)


# A number, and the letters of a unit behind it. "e" may begin an exponent, so no unit begins so.
_LENGTH = re.compile(r"([\d\s'\u2019.,\u066b\u066c\u00b7e+-]*\d)\s*([a-df-zA-DF-Zµμ\u00c5][\w.]*)")


def _configure(box: QAbstractSpinBox) -> None:
    # Qt's default is to return to the previous number without a word.
    box.setCorrectionMode(QAbstractSpinBox.CorrectionMode.CorrectToNearestValue)


def _scrolls_past(box: QAbstractSpinBox, event: QWheelEvent) -> bool:
    """Leave the wheel to the dock, which is scrolled, while nobody edits the box."""
    if box.hasFocus():
        return False
    event.ignore()
    return True

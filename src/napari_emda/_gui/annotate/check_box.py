"""The part of *Annotate* in which check points are drawn and answered."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_emda._gui.annotate.check_round import CheckRound
from napari_emda._gui.common.number_boxes import WholeNumberBox
from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.job_panel import NO_PROJECT
from napari_emda._gui.session import Session
from napari_emda.active_learning.point_report import FEWEST_TO_USE
from napari_emda.data.class_colours import class_colour

# Points that are proposed: from as many answers on, a prediction can be calibrated.
_COUNT = FEWEST_TO_USE
_MOST = 1000
_ABOUT = (
    "Random points show how good the mask is in the whole volume, and which threshold is best. "
    "Name the class at the middle of the cross; the prediction stays hidden."
)


class CheckBox(QWidget):
    """Number of points, buttons for the answers, what they say, and the calibration.

    Args:
        session: of the dock.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._round: CheckRound | None = None
        self.about = Sentence(_ABOUT)
        self.count = WholeNumberBox()
        self.count.setRange(1, _MOST)
        self.count.setValue(_COUNT)
        self.count.setSuffix(" points")
        self.count.setAccessibleName("number of check points")
        self.count.setToolTip("Number of points; more of them make the intervals narrower.")
        self.start = button("Draw points", "Draw random points and ask about them.", self._begin)
        self.reason = Sentence()
        self.status = Sentence()
        self.result = Sentence()
        self.unsure = button(
            "Cannot tell   0",
            "Leave the point out, because nobody could say (0).",
            lambda: self._act("cannot_tell"),
        )
        self.undo = button(
            "Undo", "Take the last answer back (U).", lambda: self._act("undo"), name="Undo answer"
        )
        self.end = button(
            "Pause", "Leave the points; you can go on later (Escape).", lambda: self._act("end")
        )
        self.use = button(
            "Use this",
            "Calibrate the prediction: mask, objects, scores and exports follow your points.",
            lambda: self._act("use"),
        )
        self.stop = button(
            "Use the mask as it was",
            "Take the calibration back.",
            lambda: self._act("stop_using"),
        )
        self.classes: list[QPushButton] = []
        self._grid_box = QWidget()
        self._grid = QGridLayout(self._grid_box)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self._answers = QWidget()
        column(self._answers, self._grid_box, row(None, self.unsure, self.undo, self.end), margin=0)
        column(
            self,
            self.about,
            self.reason,
            row(None, self.start, (self.count, 0)),
            self.status,
            self._answers,
            self.result,
            self.use,
            self.stop,
            margin=0,
        )
        self.show_round(None)

    def show_round(self, check_round: CheckRound | None) -> None:
        """Show the points of another project."""
        self._round = check_round
        for old in self.classes:
            old.deleteLater()
        self.classes = []
        if check_round is not None:
            for index, name in enumerate(check_round.classes):
                self._add_class(index, name)
            check_round.changed.connect(self.review)
        self.review()

    def _add_class(self, index: int, name: str) -> None:
        key = f"   {index + 1}" if index < 9 else ""
        choice = button(
            f"{name}{key}",
            f"The point is {name}{f' ({index + 1})' if key else ''}.",
            partial(self._answer, index),
            name=f"the point is {name}",
        )
        choice.setStyleSheet(f"border-left: 10px solid {class_colour(index)};")
        self._grid.addWidget(choice, index // 2, index % 2)
        self.classes.append(choice)

    def _begin(self) -> None:
        check_round = self._round
        if check_round is None:
            self._session.say(NO_PROJECT, "error")
            return
        with self._session.showing_errors():
            check_round.begin(self.count.value())

    def _answer(self, index: int) -> None:
        if self._round is not None:
            with self._session.showing_errors():
                self._round.answer(index)

    def _act(self, name: str) -> None:
        if self._round is not None:
            with self._session.showing_errors():
                getattr(self._round, name)()

    def review(self) -> None:
        """Show what can be done now, and what is known."""
        check_round = self._round
        reason = NO_PROJECT if check_round is None else check_round.why_not()
        self.reason.show_text(reason, "hint")
        active = check_round is not None and check_round.active
        left = 0 if check_round is None else check_round.left
        self.start.setEnabled(not reason)
        self.start.setText(f"Go on with {left} points" if left > 1 else _words(left))
        self.start.setVisible(not active)
        self.count.setVisible(not active and not left)
        self.about.setVisible(not active)
        self._answers.setVisible(active)
        report = None if check_round is None else check_round.report
        if check_round is None or not active:
            self.status.show_text("")
        else:
            self.status.show_text(
                f"Point {check_round.number} of {len(check_round.points)}: what is at the middle "
                "of the cross?"
            )
        # While points are answered, nothing but the estimates: the rest would be in the way.
        self.result.show_text("" if report is None else " ".join(report.sentences()))
        ready = report is not None and not report.why_not_used
        answered = 0 if report is None else report.answered
        is_used = report is not None and report.is_used
        self.use.setVisible(answered >= FEWEST_TO_USE and not active and not is_used)
        self.use.setEnabled(ready)
        in_use = report is not None and report.in_use is not None
        self.stop.setVisible(in_use and not active)


def _words(left: int) -> str:
    return "Go on with 1 point" if left else "Draw points"

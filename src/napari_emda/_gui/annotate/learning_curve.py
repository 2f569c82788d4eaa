"""Quality of the model: learning curve, audit, and whether another round is worthwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt

from napari_emda._gui.common.number_boxes import WholeNumberBox
from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.job_panel import JobStarter, may_suggest
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.learning_curve import LEAST, Estimate, Round, advice, rounds, summary
from napari_emda.settings.suggestion import QuerySettings

# Patches of an audit by default. The interval shrinks with the root of their number: four times as
# many halve it.
_PATCHES = 20
# Colour and symbol: the symbols distinguish the curves in grey as well. The names are short,
# because they stand side by side in a narrow dock; of an audit it is the IoU, too.
_STYLES = {"IoU": ("#2f9be0", "o"), "Dice": ("#3fb27f", "t"), "audit": ("#f08a24", "s")}
# Shifts to the right, in rounds, so that the intervals of one round do not cover each other.
_SHIFTS = {"IoU": 0.0, "Dice": 0.06, "audit": 0.12}


class LearningCurve(pg.PlotWidget):  # type: ignore[misc]
    """Agreement of the model with the user by round, with 95 % intervals."""

    def __init__(self) -> None:
        super().__init__(background=None)
        self.setFixedHeight(160)
        self.setMinimumWidth(120)
        self.setMenuEnabled(False)
        # A picture, without anything that the keyboard could change.
        for part in (self, self.viewport()):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        item = self.getPlotItem()
        item.setLabel("bottom", "round")
        item.setLabel("left", "agreement")
        item.layout.setContentsMargins(0, 2, 4, 8)
        item.showGrid(x=False, y=True, alpha=0.2)
        item.setMouseEnabled(x=False, y=False)
        # Scores end at 1; the legend is above them.
        item.setYRange(0, 1.3, padding=0.02)
        item.getAxis("left").setTicks([[(k / 5, f"{k / 5:g}") for k in range(6)]])
        item.addLegend(offset=(-1, 1), labelTextSize="8pt", colCount=3)
        self.points: dict[str, list[tuple[int, Estimate]]] = {}

    def show_rounds(self, done: Sequence[Round]) -> None:
        """Draw these rounds."""
        suggested = [r for r in done if not r.audit]
        self.points = {
            "IoU": [(r.number, r.iou) for r in suggested],
            "Dice": [(r.number, r.dice) for r in suggested],
            "audit": [(r.number, r.iou) for r in done if r.audit],
        }
        # A round has few points: drawing everything again is quick.
        self.clear()
        for name, points in self.points.items():
            if points:
                self._draw(name, points)
        numbers = sorted({r.number for r in done})
        self.getPlotItem().getAxis("bottom").setTicks(
            [[(number, str(number)) for number in numbers]]
        )
        if numbers:
            self.setXRange(numbers[0] - 0.5, numbers[-1] + 0.5, padding=0)

    def _draw(self, name: str, points: list[tuple[int, Estimate]]) -> None:
        colour, symbol = _STYLES[name]
        x = np.array([number for number, _ in points], float) + _SHIFTS[name]
        values, low, high = np.array([(e.value, e.low, e.high) for _, e in points]).T
        self.addItem(
            pg.ErrorBarItem(
                x=x, y=values, top=high - values, bottom=values - low, beam=0.05, pen=colour
            )
        )
        # Audits are single measurements, not a curve.
        line: Any = None if name == "audit" else pg.mkPen(colour, width=2)
        self.plot(
            x,
            values,
            pen=line,
            symbol=symbol,
            symbolSize=7,
            symbolBrush=colour,
            symbolPen=None,
            name=name,
        )


class CurveBox(JobStarter):
    """Annotations so far, the learning curve, advice, and the audit.

    Args:
        session: of the dock.
        patch: returns the side of a patch in pixels.
        end: ends the audit.
    """

    def __init__(
        self, session: Session, patch: Callable[[], int], end: Callable[[], object]
    ) -> None:
        super().__init__(
            session,
            "suggest",
            start="Audit",
            tip=(
                "Draw random patches, which you annotate from scratch: they show how good the "
                "model is in the whole volume, not only in the hardest places."
            ),
        )
        self._patch = patch
        self.summary = Sentence()
        self.last = Sentence()
        self.advice = Sentence()
        self.plot = LearningCurve()
        self.plot.setToolTip(
            "Agreement of the model with you on patches that it had not seen, by round: 1 is "
            "perfect. Bars show how uncertain each value is (95 % intervals). Suggested patches "
            "are the hardest ones; those of an audit are random and represent the volume."
        )
        self.count = WholeNumberBox()
        # A single patch has no interval.
        self.count.setRange(2, 1000)
        self.count.setValue(_PATCHES)
        self.count.setSuffix(" patches")
        self.count.setAccessibleName("number of audit patches")
        self.count.setToolTip("Number of random patches; more of them make the interval narrower.")
        self.drawn = Sentence()
        self.end = button(
            "End the audit",
            "Leave the audit: the patches that are done count, the open ones are dropped.",
            end,
        )
        self.end.hide()
        column(
            self,
            self.summary,
            self.plot,
            self.last,
            self.advice,
            self.reason,
            self.drawn,
            row(None, self.start, (self.count, 0)),
            self.end,
        )
        self.listen()

    @property
    def no_project(self) -> str:
        """The reason without a project, and without a model."""
        return "An audit measures a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why no audit can start now; empty if it can."""
        return self._session.runner.busy if opened.runs else self.no_project

    def says_why(self) -> bool:
        """Not while a job runs, which the panel above shows already."""
        return self._session.opened is not None and not self._session.runner.busy

    def may_start(self, opened: OpenProject) -> bool:
        """Whether open patches of an audit may be dropped, if there are any."""
        return may_suggest(self, opened)

    def job(self, opened: OpenProject) -> SuggestJob:
        """An audit: the model predicts random patches, and the user does not see the prediction."""
        return SuggestJob(
            project=str(opened.project.folder),
            run=opened.project.runs.latest(),
            audit=True,
            settings=QuerySettings.parse({"count": self.count.value(), "patch": self._patch()}),
        )

    def allow_end(self, allowed: bool) -> None:
        """Offer to end the audit, while one has open patches."""
        self.end.setVisible(allowed)
        if not allowed:
            self.drawn.show_text("")

    def say_how_many(self, drawn: int, job: SuggestJob) -> None:
        """Say why an audit has fewer patches than were asked for, if so."""
        asked = job.settings.count
        side = job.settings.patch
        text = ""
        if job.audit and drawn < asked:
            text = (
                f"{drawn} of {asked} patches were drawn, because the volume holds no more of "
                f"{side} x {side} pixels without annotations or padding: a smaller patch gives "
                "more."
            )
        self.drawn.show_text(text, "note")

    def show_project(self) -> None:
        """Show the annotations of the project and the learning curve."""
        opened = self._session.opened
        regions = opened.project.regions.all() if opened is not None else []
        done = rounds(regions)
        self.summary.show_text(summary(regions))
        self.plot.setVisible(bool(done))
        self.plot.show_rounds(done)
        self.last.show_text(in_words(done[-1]) if done else "")
        self.advice.show_text(advice(done), "hint")


def in_words(last: Round) -> str:
    """The quality of the model in a round, as a sentence."""
    patches = "1 patch" if last.patches == 1 else f"{last.patches} patches"
    changed = f"you changed {last.changed:.1%} of their pixels"
    if last.iou.unknown:
        so_far = "" if last.audit else f" So far {changed}."
        return (
            f"After {patches}, it is too early to say how good {last.run} is: at least {LEAST} "
            f"patches with anything in them are needed.{so_far}"
        )
    if last.audit:
        meaning = (
            "An audit of more patches says it more exactly."
            if last.iou.wide
            else "Expect the same in the rest of the volume."
        )
        return (
            f"Audit of {last.run} on {patches} drawn at random: overlap with your labels (IoU) "
            f"{last.iou.in_words()}, where 1 is perfect. {meaning}"
        )
    return (
        f"Round {last.number}: {last.run} agreed with you on {patches} that it had not seen: "
        f"overlap (IoU) {last.iou.in_words()}, where 1 is perfect; {changed}."
    )

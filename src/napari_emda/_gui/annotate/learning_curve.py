"""How good the model is: the learning curve, the audit, and whether another round will pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QSpinBox

from napari_emda._gui.common.widgets import Sentence, column, row
from napari_emda._gui.job_panel import JobStarter
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.learning_curve import Estimate, Round, advice, rounds, summary
from napari_emda.settings.suggestion import QuerySettings

_PATCHES = 20
"""Of an audit: as many as a round of suggestions has by default."""
_STYLES = {"IoU": ("#2f9be0", "o"), "Dice": ("#3fb27f", "t"), "audit, IoU": ("#f08a24", "s")}
"""Colour and symbol, so that the curves are told apart in grey, too."""
_SHIFTS = {"IoU": 0.0, "Dice": 0.06, "audit, IoU": 0.12}
"""To the right, in rounds, so that the intervals of one round do not cover each other."""


class LearningCurve(pg.PlotWidget):  # type: ignore[misc]
    """Agreement of the model with the user per round, with 95 % intervals."""

    def __init__(self) -> None:
        super().__init__(background=None)
        self.setFixedHeight(160)
        self.setMinimumWidth(120)
        self.setMenuEnabled(False)
        self.hideButtons()
        item = self.getPlotItem()
        item.setLabel("bottom", "round")
        item.setLabel("left", "agreement")
        item.layout.setContentsMargins(0, 2, 4, 8)
        item.showGrid(x=False, y=True, alpha=0.2)
        item.setMouseEnabled(x=False, y=False)
        item.setYRange(0, 1.3, padding=0.02)  # room for the legend
        item.getAxis("left").setTicks([[(k / 5, f"{k / 5:g}") for k in range(6)]])
        item.addLegend(offset=(-1, 1), labelTextSize="8pt", colCount=3)
        self.points: dict[str, list[tuple[int, Estimate]]] = {}

    def show_rounds(self, done: Sequence[Round]) -> None:
        """Draw these rounds."""
        suggested = [r for r in done if not r.audit]
        self.points = {
            "IoU": [(r.number, r.iou) for r in suggested],
            "Dice": [(r.number, r.dice) for r in suggested],
            "audit, IoU": [(r.number, r.iou) for r in done if r.audit],
        }
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
        line: Any = None if name.startswith("audit") else pg.mkPen(colour, width=2)
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
    """What was annotated so far, the learning curve, what it means, and the audit.

    Args:
        session: whose project.
        patch: tells the side of a patch.
    """

    def __init__(self, session: Session, patch: Callable[[], int]) -> None:
        super().__init__(
            session,
            "suggest",
            start="Audit",
            tip=(
                "Draw patches by lot, painted from nothing: an honest estimate of how good the "
                "model is in the volume."
            ),
        )
        self._patch = patch
        self.summary = Sentence()
        self.last = Sentence()
        self.advice = Sentence()
        self.plot = LearningCurve()
        self.plot.setToolTip(
            "How far the model agreed with you on patches that it had not seen, by round, with 95 "
            "% intervals. Suggested patches are the hardest ones; an audit's are drawn by lot and "
            "stand for the volume."
        )
        self.count = QSpinBox()
        self.count.setRange(2, 1000)
        self.count.setValue(_PATCHES)
        self.count.setSuffix(" patches")
        self.count.setToolTip(
            "How many patches to draw by lot; the interval gets narrower with more."
        )
        column(
            self,
            self.summary,
            self.plot,
            self.last,
            self.advice,
            self.reason,
            row(None, self.start, (self.count, 0)),
        )
        self.listen()

    @property
    def no_project(self) -> str:
        """What is missing, be it that no project is open."""
        return "An audit measures a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why no audit can start now; empty when it can."""
        return self._session.runner.busy if opened.runs else self.no_project

    def says_why(self) -> bool:
        """Not while anything runs: the panel above says so already."""
        return self._session.opened is not None and not self._session.runner.busy

    def job(self, opened: OpenProject) -> SuggestJob:
        """Draw patches; the model answers first, unseen by the user."""
        return SuggestJob(
            project=str(opened.project.folder),
            run=opened.project.runs.latest(),
            audit=True,
            settings=QuerySettings.parse({"count": self.count.value(), "patch": self._patch()}),
        )

    def show_project(self) -> None:
        """Draw how far the annotation of the project is."""
        opened = self._session.opened
        regions = opened.project.regions.all() if opened is not None else []
        done = rounds(regions)
        self.summary.show_text(summary(regions))
        self.plot.setVisible(bool(done))
        self.plot.show_rounds(done)
        self.last.show_text(in_words(done[-1]) if done else "")
        self.advice.show_text(advice(done), "hint")


def in_words(last: Round) -> str:
    """How good the model was in a round."""
    patches = "1 patch" if last.patches == 1 else f"{last.patches} patches"
    if last.audit:
        return (
            f"Audit of {last.run}: IoU {last.iou}, Dice {last.dice} on {patches} by lot; this "
            "stands for what is not annotated yet."
        )
    return (
        f"Round {last.number}: before it saw them, {last.run} agreed with you on {patches} to IoU "
        f"{last.iou}, Dice {last.dice}; you changed {last.changed:.1%} of the pixels."
    )

"""How good the model is by now: the learning curve, the audit, and whether another round will pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QSpinBox, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.session import Session
from napari_emda.project import runs
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.learning_curve import Estimate, Round, advice, rounds, summary
from napari_emda.settings.suggestion import QuerySettings

_PATCHES = 20
_STYLES = {"IoU": ("#2f9be0", "o"), "Dice": ("#3fb27f", "t"), "audit, IoU": ("#f08a24", "s")}


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
        suggested = [each for each in done if not each.audit]
        self.points = {
            "IoU": [(each.number, each.iou) for each in suggested],
            "Dice": [(each.number, each.dice) for each in suggested],
            "audit, IoU": [(each.number, each.iou) for each in done if each.audit],
        }
        self.clear()
        for name, points in self.points.items():
            if points:
                self._draw(name, points)
        numbers = sorted({each.number for each in done})
        self.getPlotItem().getAxis("bottom").setTicks(
            [[(number, str(number)) for number in numbers]]
        )
        if numbers:
            self.setXRange(numbers[0] - 0.5, numbers[-1] + 0.5, padding=0)

    def _draw(self, name: str, points: list[tuple[int, Estimate]]) -> None:
        colour, symbol = _STYLES[name]
        x = np.array([number for number, _ in points], float) + {"IoU": 0, "Dice": 0.06}.get(
            name, 0.12
        )
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


class CurveBox(QWidget):
    """What was annotated so far, the learning curve, what it means, and the audit.

    Args:
        session: whose project.
        patch: tells the side of a patch.
    """

    def __init__(self, session: Session, patch: Any) -> None:
        super().__init__()
        self._session, self._patch = session, patch
        self.summary, self.last, self.advice = Sentence(), Sentence(), Sentence()
        self.plot = LearningCurve()
        self.plot.setToolTip(
            "How far the model agreed with you on patches that it had not seen, by round, with 95 % intervals. "
            "Suggested patches are the hardest ones; an audit's are drawn by lot and stand for the volume."
        )
        self.count = QSpinBox()
        self.count.setRange(2, 1000)
        self.count.setValue(_PATCHES)
        self.count.setSuffix(" patches")
        self.count.setToolTip(
            "How many patches to draw by lot; the interval gets narrower with more."
        )
        self.audit = button(
            "Audit",
            "Draw patches by lot, painted from nothing: an honest estimate of how good the model is in the volume.",
            self.start_audit,
        )
        self.reason = Sentence()
        column(
            self,
            self.summary,
            self.plot,
            self.last,
            self.advice,
            self.reason,
            row(None, self.audit, (self.count, 0)),
        )
        self.update_state()

    def why_not(self) -> str:
        """Why no audit can start now; empty when it can."""
        project = self._session.project
        if project is None or runs.latest(project) is None:
            return "An audit measures a model: train one first."
        return self._session.runner.busy

    def update_state(self) -> None:
        """Grey out what cannot be done, with the reason as a tooltip."""
        why = self.why_not()
        self.audit.setEnabled(not why)
        idle = self._session.project is not None and not self._session.runner.busy
        self.reason.show_text(why if idle else "", "hint")

    def show_project(self) -> None:
        """Draw what the project knows."""
        project = self._session.project
        regions = project.regions() if project is not None else []
        done = rounds(regions)
        self.summary.show_text(summary(regions))
        self.plot.setVisible(bool(done))
        self.plot.show_rounds(done)
        self.last.show_text(in_words(done[-1]) if done else "")
        self.advice.show_text(advice(done), "hint")

    def start_audit(self) -> None:
        """Draw patches in the background; the model answers first, unseen by the user."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            settings = QuerySettings.parse({"count": self.count.value(), "patch": self._patch()})
            self._session.start(
                SuggestJob(
                    project=str(project.folder),
                    run=runs.latest(project),
                    audit=True,
                    settings=settings,
                )
            )


def in_words(each: Round) -> str:
    """What a round told."""
    patches = "1 patch" if each.patches == 1 else f"{each.patches} patches"
    if each.audit:
        return (
            f"Audit of {each.run}: IoU {each.iou}, Dice {each.dice} on {patches} by lot; this stands for what is not "
            "annotated yet."
        )
    return (
        f"Round {each.number}: before it saw them, {each.run} agreed with you on {patches} to IoU {each.iou}, Dice "
        f"{each.dice}; you changed {each.changed:.1%} of the pixels."
    )

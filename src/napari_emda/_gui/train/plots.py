"""Plots the losses of a training and how its answer in the target looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

COLOURS = ("#2f9be0", "#f08a24", "#3fb27f", "#d65f8f", "#a98be0", "#c9b23f", "#8c8c8c")
"""Of the losses in turn: told apart on a dark and on a light theme."""
LARGEST = 2000
"""Points of a curve; beyond it every second one is dropped. More than a plot has pixels."""
_AXIS = 58
"""Pixels for the numbers on the left, so that the steps of both plots are in line."""
_CLIPPED = 3
"""Scores that are so many times the best are cut off: the first looks at a network say little."""
_MOST_LEGEND = 0.6
"""Of the plot's height at most is left to the names."""


class Curve:
    """The points of one loss, thinned out when they become many."""

    def __init__(self) -> None:
        self.x: list[float] = []
        self.y: list[float] = []
        self._stride = 1
        self._count = 0

    def add(self, x: float, y: float) -> None:
        """Append a point."""
        self._count += 1
        if self._count % self._stride:
            return
        self.x.append(x)
        self.y.append(y)
        if len(self.x) > LARGEST:
            self.x = self.x[::2]
            self.y = self.y[::2]
            self._stride *= 2


class _Plot(pg.PlotWidget):  # type: ignore[misc]
    """Curves against the step; colours follow napari's theme."""

    def __init__(self, label: str, height: int, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.setFixedHeight(height)
        self.setMinimumWidth(120)
        self.setMenuEnabled(False)
        self.hideButtons()
        self._item = self.getPlotItem()
        self._item.setLabel("bottom", "step")
        self._item.setLabel("left", label)
        self._item.layout.setContentsMargins(0, 2, 4, 8)
        for side in ("left", "bottom"):
            self._item.getAxis(side).enableAutoSIPrefix(False)
        self._item.getAxis("left").setWidth(_AXIS)
        self._item.showGrid(x=False, y=True, alpha=0.2)
        self._item.setMouseEnabled(x=False, y=False)


class LossPlot(_Plot):
    """One curve per named loss."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("loss", 185, parent)
        self._legend = self._item.addLegend(
            offset=(-1, 1), labelTextSize="8pt", colCount=2, verSpacing=-8
        )
        self._legend.layout.setContentsMargins(9, 0, 9, 0)
        self._curves: dict[str, Curve] = {}
        self._lines: dict[str, Any] = {}

    @property
    def curves(self) -> Mapping[str, Curve]:
        """The points by name."""
        return self._curves

    def clear_curves(self) -> None:
        """Start anew."""
        for line in self._lines.values():
            self.removeItem(line)
        self._curves = {}
        self._lines = {}

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Append one point per loss."""
        for name, value in losses.items():
            if name not in self._curves:
                self._curves[name] = Curve()
                pen = pg.mkPen(COLOURS[len(self._lines) % len(COLOURS)], width=2)
                self._lines[name] = self.plot(pen=pen, name=name.replace("_", " "))
            curve = self._curves[name]
            curve.add(step, value)
            self._lines[name].setData(curve.x, curve.y)
        self._leave_room_for_legend()

    def _leave_room_for_legend(self) -> None:
        """Above the curves, so that no line runs through a name."""
        values = [y for curve in self._curves.values() for y in curve.y if math.isfinite(y)]
        height = self.getViewBox().height()
        if not values or height <= 0:
            return
        low = min(values)
        high = max(values)
        margin = 0.05 * ((high - low) or abs(high) or 1)
        legend = min(_MOST_LEGEND, (self._legend.boundingRect().height() + 2) / height)
        # The curves get the rest of the height: legend / (1 - legend) of theirs is the legend's.
        above = legend / (1 - legend) * (high - low + 2 * margin)
        self.setYRange(low - margin, high + margin + above, padding=0)


class QualityPlot(_Plot):
    """How the target's prediction looks, without labels, and which step looks best.

    Hidden until the first look.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("score ↓", 110, parent)
        self._item.showLabel("bottom", False)  # the plot above says it
        self.setToolTip(
            "How good the answer in the target looks, judged without any of its labels; lower is "
            "better. It rises when there is far more or less foreground than in the source's "
            "labels, when the answer changes with the image mirrored, when the network is unsure, "
            "and when objects have odd shapes. The line marks the model to keep."
        )
        self._scores: dict[int, float] = {}
        brush = pg.mkBrush(COLOURS[2])
        self._line = self.plot(
            pen=pg.mkPen(COLOURS[2], width=2),
            symbol="o",
            symbolSize=5,
            symbolBrush=brush,
            symbolPen=None,
        )
        style = {"color": COLOURS[2], "position": 0.85, "movable": False}
        pen = pg.mkPen(COLOURS[2], width=1, style=Qt.PenStyle.DashLine)
        self._kept = pg.InfiniteLine(pen=pen, label="", labelOpts=style)
        self.addItem(self._kept, ignoreBounds=True)
        self.clear_curve()

    @property
    def scores(self) -> Mapping[int, float]:
        """The points."""
        return self._scores

    @property
    def kept(self) -> int:
        """The step that is marked; 0 when none is."""
        return int(self._kept.value()) if self._kept.isVisible() else 0

    def clear_curve(self) -> None:
        """Start anew."""
        self._scores = {}
        self._kept.hide()
        self.hide()

    def add(self, step: int, score: float) -> None:
        """Append a point; the axis shows the scores near the best."""
        self._scores[step] = score
        x = sorted(self._scores)
        y = [self._scores[key] for key in x]
        self._line.setData(x, y)
        low = min(y)
        high = min(max(y), _CLIPPED * low)
        margin = 0.15 * (high - low) or 0.1 * low or 0.1
        self.setYRange(low - margin, high + margin, padding=0)
        self.show()

    def mark(self, step: int, text: str) -> None:
        """Mark a step; 0 takes the mark away."""
        self._kept.setVisible(step > 0)
        self._kept.setValue(step)
        self._kept.label.setFormat(text)

"""Plots of the losses of a training and of its label-free score in the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QWidget

# Of the losses, in turn; distinguishable on napari's dark and light themes.
COLOURS = ("#2f9be0", "#f08a24", "#3fb27f", "#d65f8f", "#a98be0", "#c9b23f", "#8c8c8c")
# Points of a curve; beyond it every second one is dropped. More than the plot has pixels across, so
# nothing is lost to the eye, and drawing stays quick in long trainings.
LARGEST = 2000
# Pixels for the numbers on the left: the same in both plots, so that their steps are aligned.
_AXIS = 58
# Scores above this multiple of the best are cut off: those of the first steps are so large that
# later differences could not be seen.
_CLIPPED = 3
# Pixels of width from which two columns of names fit beside the numbers.
_TWO_COLUMNS = 330
# Largest share of the plot's height for the legend: with many losses the curves keep the rest.
_MOST_LEGEND = 0.6


class Curve:
    """The points of one loss, at most `LARGEST`."""

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
        # Halve the points and record half as often from now on: evenly spaced, in bounded memory.
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
        # A picture, without anything that the keyboard could change.
        for part in (self, self.viewport()):
            part.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        self._item = self.getPlotItem()
        self._item.setLabel("bottom", "step")
        self._item.setLabel("left", label)
        self._item.layout.setContentsMargins(0, 2, 4, 8)
        for side in ("left", "bottom"):
            # Otherwise 5000 steps become "step (x1e+03)".
            self._item.getAxis(side).enableAutoSIPrefix(False)
        self._item.getAxis("left").setWidth(_AXIS)
        self._item.showGrid(x=False, y=True, alpha=0.2)
        # The wheel must scroll the dock.
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
        """The points of each loss, by name."""
        return self._curves

    def clear_curves(self) -> None:
        """Remove all points."""
        for line in self._lines.values():
            self.removeItem(line)
        self._curves = {}
        self._lines = {}

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Append a point to each loss."""
        for name, value in losses.items():
            if name not in self._curves:
                self._curves[name] = Curve()
                pen = pg.mkPen(COLOURS[len(self._lines) % len(COLOURS)], width=2)
                self._lines[name] = self.plot(pen=pen, name=name.replace("_", " "))
            curve = self._curves[name]
            curve.add(step, value)
            self._lines[name].setData(curve.x, curve.y)
        self._leave_room_for_legend()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """List the names in as many columns as fit."""
        super().resizeEvent(event)
        # pyqtgraph resizes plots while they are made.
        if hasattr(self, "_legend"):
            self._legend.setColumnCount(2 if self.width() >= _TWO_COLUMNS else 1)

    def _leave_room_for_legend(self) -> None:
        """Place the legend above the curves, so that no line runs through a name."""
        values = [y for curve in self._curves.values() for y in curve.y if math.isfinite(y)]
        height = self.getViewBox().height()
        if not values or height <= 0:
            return
        low = min(values)
        high = max(values)
        # 5 % above and below; constant losses get a range of their own size.
        margin = 0.05 * ((high - low) or abs(high) or 1)
        legend = min(_MOST_LEGEND, (self._legend.boundingRect().height() + 2) / height)
        # The curves get the share 1 - legend of the height, so in units of the loss the legend
        # takes legend / (1 - legend) of their range.
        above = legend / (1 - legend) * (high - low + 2 * margin)
        self.setYRange(low - margin, high + margin + above, padding=0)


class QualityPlot(_Plot):
    """The label-free score of the target's prediction, and the step with the best one.

    Hidden until the first score.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("estimated error", 130, parent)
        self._item.setTitle("lower is better", size="8pt")
        self._item.showLabel("bottom", False)  # the plot above has the same axis and a label
        self.setToolTip(
            "Error of the prediction in the target, estimated without its labels; lower is "
            "better. It rises with far more or less foreground than in the source's labels, with a "
            "prediction that changes when the image is mirrored, with uncertainty, and with oddly "
            "shaped objects. "
            "The line marks the model that is kept. Only the last third of the steps counts, "
            "because earlier models look good by chance, so it need not be the lowest point."
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
        """The scores by step."""
        return self._scores

    @property
    def kept(self) -> int:
        """The marked step; 0 if none is."""
        return int(self._kept.value()) if self._kept.isVisible() else 0

    def clear_curve(self) -> None:
        """Remove all points."""
        self._scores = {}
        self._kept.hide()
        self.hide()

    def add(self, step: int, score: float) -> None:
        """Append a point; the axis shows the scores near the best."""
        # A dictionary, because a resumed training repeats steps.
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
        """Mark a step; 0 removes the mark."""
        self._kept.setVisible(step > 0)
        self._kept.setValue(step)
        self._kept.label.setFormat(text)

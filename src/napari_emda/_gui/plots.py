"""Live curves of a training's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyqtgraph as pg
from qtpy.QtWidgets import QWidget

COLOURS = ("#2f9be0", "#f08a24", "#3fb27f", "#d65f8f", "#a98be0", "#c9b23f", "#8c8c8c")
LARGEST = 2000
"""Points of a curve; beyond it every second one is dropped."""


class Curve:
    """The points of one loss, thinned out when they become many."""

    def __init__(self) -> None:
        self.x: list[float] = []
        self.y: list[float] = []
        self._stride, self._count = 1, 0

    def add(self, x: float, y: float) -> None:
        """Append a point."""
        self._count += 1
        if self._count % self._stride:
            return
        self.x.append(x)
        self.y.append(y)
        if len(self.x) > LARGEST:
            self.x, self.y, self._stride = self.x[::2], self.y[::2], self._stride * 2


class LossPlot(pg.PlotWidget):  # type: ignore[misc]
    """One curve per named loss against the step; its colours follow napari's theme."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.setFixedHeight(185)
        self.setMinimumWidth(120)
        self.setMenuEnabled(False)
        self.hideButtons()
        item = self.getPlotItem()
        item.setLabel("bottom", "step")
        item.setLabel("left", "loss")
        item.layout.setContentsMargins(0, 2, 4, 8)
        item.getAxis("left").enableAutoSIPrefix(False)
        item.getAxis("bottom").enableAutoSIPrefix(False)
        item.showGrid(x=False, y=True, alpha=0.2)
        item.setMouseEnabled(x=False, y=False)
        self._legend = item.addLegend(offset=(-1, 1), labelTextSize="8pt", colCount=2)
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
        self._curves, self._lines = {}, {}

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

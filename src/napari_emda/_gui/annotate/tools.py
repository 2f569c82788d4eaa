"""Class and brush to paint with, kept when another project opens. No Qt."""

from __future__ import annotations

from psygnal import Signal

from napari_emda.data.label_meaning import MeantLabels

# Diameters in pixels: for single pixels, membranes and vesicles, mitochondria, and whole cells.
BRUSHES = (1, 5, 15, 40)


class Tools:
    """The class and the brush in use, and what patches begin with.

    Attributes:
        class_index: of the class to paint with, 0 being the background.
        brush: its diameter in pixels.
        start: what patches begin with: ``prediction``, ``nothing``, or labels.
        outside: whether the brush may leave the patch on view.
        snaps: whether the brush keeps to edges.
        clicks: the tool that corrects by clicks: ``objects``, ``between``, or empty for none.
    """

    class_chosen = Signal(int)
    """The user has chosen a class."""
    brush_chosen = Signal(int)
    """The user has chosen a brush."""
    changed = Signal()
    """Class, brush or reach of the brush were changed, here or in napari's controls."""

    def __init__(self) -> None:
        self.class_index = 1
        self.brush = 5
        self.start: str | MeantLabels = "prediction"
        self.outside = False
        self.snaps = False
        self.clicks = ""

    def select_class(self, index: int) -> None:
        """Choose the class to paint with."""
        self.class_index = index
        self.class_chosen.emit(index)
        self.changed.emit()

    def note(self, class_index: int, brush: int) -> None:
        """Take over what the user has chosen in napari's own controls."""
        self.class_index = class_index
        self.brush = brush
        self.changed.emit()

    def allow_outside(self, allowed: bool) -> None:
        """Let the brush leave the patch on view, or not."""
        self.outside = allowed
        self.changed.emit()

    def take_brush(self, *, snaps: bool) -> None:
        """Take the brush, which keeps to edges or does not."""
        self.snaps = snaps
        self.take_clicks("")

    def take_clicks(self, clicks: str) -> None:
        """Take a tool that corrects by clicks, or put it away."""
        self.clicks = clicks
        self.changed.emit()

    def select_brush(self, size: int) -> None:
        """Choose the diameter of the brush in pixels."""
        self.brush = size
        self.brush_chosen.emit(size)
        self.changed.emit()

    def next_brush(self) -> None:
        """Choose the next larger brush; after the largest, the smallest."""
        larger = (size for size in BRUSHES if size > self.brush)
        self.select_brush(next(larger, BRUSHES[0]))

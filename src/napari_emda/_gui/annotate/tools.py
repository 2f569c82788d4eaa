"""Class and brush to paint with, kept when another project opens. No Qt."""

from __future__ import annotations

from napari.layers import Labels
from psygnal import Signal

# Diameters in pixels: for single pixels, membranes and vesicles, mitochondria, and whole cells.
BRUSHES = (1, 5, 15, 40)


class Tools:
    """The class and the brush in use, and what patches begin with.

    Attributes:
        class_index: of the class to paint with, 0 being the background.
        brush: its diameter in pixels.
        start: what patches begin with: ``prediction``, ``nothing``, or a layer of labels.
    """

    class_chosen = Signal(int)
    """The user has chosen a class."""
    brush_chosen = Signal(int)
    """The user has chosen a brush."""

    def __init__(self) -> None:
        self.class_index = 1
        self.brush = 5
        self.start: str | Labels = "prediction"

    def select_class(self, index: int) -> None:
        """Choose the class to paint with."""
        self.class_index = index
        self.class_chosen.emit(index)

    def select_brush(self, size: int) -> None:
        """Choose the diameter of the brush in pixels."""
        self.brush = size
        self.brush_chosen.emit(size)

    def next_brush(self) -> None:
        """Choose the next larger brush; after the largest, the smallest."""
        larger = (size for size in BRUSHES if size > self.brush)
        self.select_brush(next(larger, BRUSHES[0]))

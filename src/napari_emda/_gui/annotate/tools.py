"""What to paint with, and what patches begin with. It stays when another project opens. No Qt."""

from __future__ import annotations

from napari.layers import Labels
from psygnal import Signal

BRUSHES = (1, 5, 15, 40)
"""Diameters in pixels: single pixels, membranes and vesicles, mitochondria, whole cells."""


class Tools:
    """The class and the brush in use.

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
        """Paint with a class from now on."""
        self.class_index = index
        self.class_chosen.emit(index)

    def select_brush(self, size: int) -> None:
        """Paint with a brush of so many pixels from now on."""
        self.brush = size
        self.brush_chosen.emit(size)

    def next_brush(self) -> None:
        """The next larger of the presets; after the largest the smallest."""
        larger = (size for size in BRUSHES if size > self.brush)
        self.select_brush(next(larger, BRUSHES[0]))

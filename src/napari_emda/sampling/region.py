"""Where patches of a volume may lie, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.intensity import Statistics
from napari_emda.data.padding import padding_and_rim
from napari_emda.data.resampled import Resampled
from napari_emda.objects.borders import Borders

# Windows in which the share of padding is measured, and their side: a million pixels.
_WINDOWS = 64
_SIDE = 128


@dataclass(frozen=True)
class SamplingRegion:
    """One volume of a domain: where patches may lie and where its labels are.

    Attributes:
        view: the volume at the common pixel size.
        statistics: of its grey values.
        box: patches lie inside it, in the view's pixels.
        positions: positions (z, y, x) of labelled pixels by class, at most 200 000 per class.
        counts: number of labelled pixels by class.
        context: the sections that are seen with each one; they may lie outside the box.
        borders: of its objects; None unless objects are learnt.
        held_borders: the same in memory, if image and labels are.
        taught: what a teacher predicts of each class but the background, as images.
    """

    view: Resampled
    statistics: Statistics
    box: Box
    positions: dict[int, NDArray[np.int32]]
    counts: dict[int, int]
    context: Context
    borders: Borders | None = None
    held_borders: NDArray[np.int8] | None = None
    taught: tuple[Resampled, ...] = ()

    def read(self, box: Box) -> NDArray[np.float32]:
        """Standardised grey values of a box with what is seen beside it, (z, channel, y, x)."""
        return self.context.read(self.view, self.statistics, box)

    def padding(self, box: Box) -> NDArray[np.bool_]:
        """Which pixels of a box inside the volume are padding or lie beside it, (z, y, x)."""
        greys = self.statistics.border_greys
        if not greys:
            return np.zeros(box.shape, bool)
        return np.stack([padding_and_rim(section, greys) for section in self.view.read(box)])

    def tissue_share(self) -> float:
        """Share of tissue among the pixels that are labelled as background, from 64 windows."""
        if not self.statistics.border_greys:
            return 1.0
        background = 0
        padded = 0
        for box in spread(self.box, _WINDOWS, _SIDE):
            labelled = self.view.read_labels(box) == 0
            background += int(labelled.sum())
            padded += int((labelled & self.padding(box)).sum())
        return 1 - padded / background if background else 1.0

    def read_borders(self, box: Box) -> NDArray[np.int8]:
        """Codes of the borders of objects in a box, see `Borders.read`."""
        assert self.borders is not None
        if self.held_borders is None:
            return self.borders.read(box)
        return self.held_borders[box.slices]

    def read_taught(self, box: Box) -> NDArray[np.float32]:
        """What a teacher predicts in a box, (C - 1, z, y, x) between 0 and 1."""
        values = np.stack([view.read(box) for view in self.taught]).astype(np.float32)
        return values / np.float32(255)


@dataclass(frozen=True)
class Place:
    """Where a patch lies.

    Attributes:
        region: index of the volume among those of the domain.
        box: one section thick, in the pixels of the region's view.
    """

    region: int
    box: Box

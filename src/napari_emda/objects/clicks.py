"""Correcting the paint in a section of a patch by clicks on its objects.

All arrays are those of the patch's section, so nothing outside of it can change. Paint is what a
user sees: 0 is nothing, 1 is background, and k + 1 is class k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.objects.flood import Flood, Mask, Pixel, flood, steepness_of

Bytes = NDArray[np.uint8]
BACKGROUND = 1
"""Paint that says that a pixel is background."""


@dataclass(frozen=True)
class Correction:
    """What a click would paint.

    Attributes:
        values: paint, uint8 (y, x); 0 where nothing changes.
        flood: the regions that the object could have; None if its size is fixed.
        step: index of the flood's region.
        paint: what was seen before.
        instead_of: the object that is replaced, bool (y, x); None if it is a new one.
        value: paint of the object.
    """

    values: Bytes
    flood: Flood | None = None
    step: int = 0
    paint: Bytes | None = None
    instead_of: Mask | None = None
    value: int = BACKGROUND

    @property
    def changes(self) -> Mask:
        """The pixels that change, bool (y, x)."""
        return self.values > 0

    def resized(self, by: int) -> Correction:
        """The correction with a region that is so many thresholds larger, or smaller.

        It stays as it is if it has a fixed size, or at the smallest and the largest region.
        """
        if self.flood is None or self.paint is None:
            return self
        step = min(max(self.step + by, 0), len(self.flood.thresholds) - 1)
        region = self.flood.region(step)
        values = np.where(region & (self.paint != self.value), np.uint8(self.value), np.uint8(0))
        if self.instead_of is not None:
            values[self.instead_of & ~region] = BACKGROUND
        return replace(self, values=values, step=step)


class ObjectClicks:
    """Finds what a click in a section means.

    Args:
        image: of the section, (y, x).
        probabilities: of the classes 1 to C - 1, uint8 (C - 1, y, x), 255 being certain; None if
            the patch is not predicted, or the prediction must not be used.
    """

    def __init__(self, image: NDArray[np.generic], probabilities: Bytes | None) -> None:
        self._probabilities = probabilities
        self._steepness = steepness_of(np.asarray(image, np.float32))

    @property
    def has_map(self) -> bool:
        """Whether objects can be added and resized."""
        return self._probabilities is not None

    def click(self, paint: Bytes, pixel: Pixel, class_id: int) -> Correction | None:
        """What a click would do.

        An object of the class becomes background, as does any object if the class is background. An
        object of another class becomes one of this class. Where there is no object, one is added
        as far as the map holds one: it does not spread into other objects, nor into what was
        painted as background, unless the click was there.

        Args:
            paint: what is seen now, uint8 (y, x).
            pixel: (y, x) that is clicked.
            class_id: the chosen class, 0 being background.

        Returns:
            The correction; None if there is no object and none can be added.
        """
        found = _object_at(paint, pixel)
        if found is not None:
            dropped = class_id in (0, int(paint[pixel]) - 1)
            value = BACKGROUND if dropped else class_id + 1
            return Correction(np.where(found, np.uint8(value), np.uint8(0)), value=value)
        if class_id == 0:
            return None
        allowed = paint == 0 if paint[pixel] == 0 else paint <= BACKGROUND
        regions = self._flood(allowed, pixel, class_id)
        if regions is None:
            return None
        return Correction(
            np.zeros_like(paint), regions, regions.best, paint, value=class_id + 1
        ).resized(0)

    def resize(self, paint: Bytes, pixel: Pixel, by: int) -> Correction | None:
        """Grow or shrink the object at a pixel by thresholds of the map.

        Its present size is the region of the map that is most like it.

        Args:
            paint: what is seen now, uint8 (y, x).
            pixel: (y, x).
            by: how many thresholds larger, or smaller.

        Returns:
            The correction; None if there is no object, or the map holds none.
        """
        found = _object_at(paint, pixel)
        if found is None:
            return None
        value = int(paint[pixel])
        regions = self._flood(found | (paint <= BACKGROUND), pixel, value - 1)
        if regions is None:
            return None
        step = regions.nearest(found)
        return Correction(
            np.zeros_like(paint), regions, step, paint, instead_of=found, value=value
        ).resized(by)

    def _flood(self, allowed: Mask, pixel: Pixel, class_id: int) -> Flood | None:
        if self._probabilities is None:
            return None
        return flood(self._probabilities[class_id - 1], self._steepness, allowed, pixel)


def _object_at(paint: Bytes, pixel: Pixel) -> Mask | None:
    """The connected pixels of one class around a pixel; None if it is background or nothing."""
    value = paint[pixel]
    if value <= BACKGROUND:
        return None
    labels, _ = ndimage.label(paint == value)
    return np.asarray(labels == labels[pixel])

"""An object in a section, from its outlines in a section before and one behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.objects.clicks import BACKGROUND, Bytes, Correction
from napari_emda.objects.flood import Mask, Pixel

# Pixels between a click and the object in the other section that it is taken for.
_NEAR = 24


class Outlines:
    """The objects of a class in a section, found by pixels in or near them.

    Args:
        paint: of the section, uint8 (y, x); k + 1 is class k.
        class_id: from 1.
    """

    def __init__(self, paint: Bytes, class_id: int) -> None:
        self._labels, self._count = ndimage.label(paint == class_id + 1)
        if self._count:
            self._distance, self._nearest = ndimage.distance_transform_edt(
                self._labels == 0, return_indices=True
            )

    def near(self, pixel: Pixel) -> Mask | None:
        """The object at a pixel, or the nearest one, bool (y, x); None if all are too far."""
        if not self._count or self._distance[pixel] > _NEAR:
            return None
        y, x = self._nearest[:, pixel[0], pixel[1]]
        return np.asarray(self._labels == self._labels[y, x])


def between(before: Mask, behind: Mask, share: float) -> Mask:
    """The outline of an object between two sections, by their signed distances.

    Both outlines are moved to where the middle of the object is by then, in a straight line. Then
    their distances, positive inside, are mixed in proportion to those of the sections (Raya and
    Udupa 1990, IEEE Trans. Med. Imaging 9, 32). Without the move, objects that drift from section
    to section shrink or vanish.

    Args:
        before: of the object in the section before, bool (y, x), not empty.
        behind: of the object in the section behind, bool (y, x), not empty.
        share: of the way from the first to the second, 0 to 1.

    Returns:
        bool (y, x).
    """
    first, second = (np.array(ndimage.center_of_mass(mask)) for mask in (before, behind))
    middle = (1 - share) * first + share * second
    moved = [
        ndimage.shift(_signed_distance(mask), middle - start, order=1, mode="nearest")
        for mask, start in ((before, first), (behind, second))
    ]
    return np.asarray((1 - share) * moved[0] + share * moved[1] > 0)


def interpolated(paint: Bytes, shape: Mask, class_id: int) -> Correction:
    """Paint the outline of an object, in place of what was seen of it.

    What is replaced are objects of the class most of which the outline covers.

    Args:
        paint: what is seen now, uint8 (y, x).
        shape: the object, bool (y, x).
        class_id: of the object, from 1.
    """
    value = np.uint8(class_id + 1)
    values = np.where(shape & (paint != value), value, np.uint8(0))
    labels, count = ndimage.label(paint == value)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    covered = np.bincount(labels[shape], minlength=count + 1)
    replaced = 2 * covered > sizes
    replaced[0] = False
    values[replaced[labels] & ~shape] = BACKGROUND
    return Correction(values, value=int(value))


def _signed_distance(mask: Mask) -> NDArray[np.float64]:
    """Distance to the outline, which runs between pixels; positive inside, in pixels."""
    inside = ndimage.distance_transform_edt(mask) - 0.5
    outside = ndimage.distance_transform_edt(~mask) - 0.5
    return np.asarray(np.where(mask, inside, -outside))

"""The masks of single objects, block by block, for what is computed from the shape of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.edges import padded


@dataclass(frozen=True)
class ObjectMask:
    """An object in and around a block, bool (z, y, x), and where its first voxel lies."""

    values: NDArray[np.bool_]
    start: tuple[int, int, int]

    def within(self, box: Box) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
        """The same in a box that begins in or before it."""
        z, y, x = self.start
        shape = self.values.shape
        part = Box(self.start, (z + shape[0], y + shape[1], x + shape[2])).clip_to(box)
        inside = part.moved((-z, -y, -x))
        return self.values[inside.slices], part.start


def objects_in(objects: Array, box: Box) -> Iterator[tuple[int, ObjectMask]]:
    """The objects in a block and its rim: their ids and masks.

    The rim is one voxel wide. It lies at the lower faces of the block, so that the rims of all
    blocks overlap nowhere, and beyond the volume, where there is no object, also at the upper ones.
    """
    ends = zip(box.stop, objects.shape, strict=True)
    z1, y1, x1 = (stop + (stop == size) for stop, size in ends)
    z0, y0, x0 = (start - 1 for start in box.start)
    around = Box((z0, y0, x0), (z1, y1, x1))
    inside = around.clip(objects.shape)
    values = padded(np.asarray(objects[inside.slices]), inside, around, 0)
    ids, numbers = np.unique(values, return_inverse=True)
    # Numbered from 1, as `find_objects` wants it; 0 need not occur.
    numbers = numbers.reshape(values.shape) + (ids[0] != 0)
    foreground = ids[ids != 0]
    for number, place in enumerate(ndimage.find_objects(numbers), start=1):
        # One voxel wider: the surface lies half-way to the neighbours.
        wider = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in place)
        z, y, x = (part.start + low for part, low in zip(wider, around.start, strict=True))
        yield int(foreground[number - 1]), ObjectMask(numbers[wider] == number, (z, y, x))

"""What lies beyond the edges of a volume: its image mirrored, and no labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box


def mirrored(box: Box, shape: tuple[int, ...]) -> tuple[Box, tuple[NDArray[np.int64], ...]]:
    """Where the voxels of a box lie that may reach beyond an array, whose edges are mirrors.

    Returns:
        What to read of the array, and the index of each voxel of the box in that.
    """
    places = []
    for start, stop, size in zip(box.start, box.stop, shape, strict=True):
        # mirrored at both edges, edge voxels twice, a line repeats itself after 2 * size voxels
        place = np.arange(start, stop) % (2 * size)
        places.append(np.minimum(place, 2 * size - 1 - place))
    low = tuple(int(place.min()) for place in places)
    high = tuple(int(place.max()) + 1 for place in places)
    index = np.ix_(*(place - first for place, first in zip(places, low, strict=True)))
    return Box(low, high), index  # type: ignore[arg-type]


def padded(values: NDArray[Any], inside: Box, box: Box, fill: int) -> NDArray[Any]:
    """The values of a box, of which ``values`` are those ``inside`` the array."""
    if inside == box:
        return values
    widths = [
        (low - start, stop - high)
        for start, stop, low, high in zip(
            box.start, box.stop, inside.start, inside.stop, strict=True
        )
    ]
    return np.pad(values, widths, mode="constant", constant_values=fill)

"""Reading beyond the edges of a volume: its image is mirrored, its labels are padded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box


def mirrored(box: Box, shape: tuple[int, ...]) -> tuple[Box, tuple[NDArray[np.int64], ...]]:
    """Mirror a box at the edges of an array, as ``np.pad(mode="symmetric")`` does.

    Args:
        box: may reach any distance beyond the array.
        shape: of the array.

    Returns:
        The box to read of the array, and an index that makes the values of ``box`` of those read.
    """
    positions = []
    for start, stop, size in zip(box.start, box.stop, shape, strict=True):
        # With mirrors at both edges, a line repeats itself after 2 * size voxels.
        position = np.arange(start, stop) % (2 * size)
        positions.append(np.minimum(position, 2 * size - 1 - position))
    low = tuple(int(position.min()) for position in positions)
    high = tuple(int(position.max()) + 1 for position in positions)
    index = np.ix_(*(position - first for position, first in zip(positions, low, strict=True)))
    return Box(low, high), index  # type: ignore[arg-type]


def padded(values: NDArray[Any], inside: Box, box: Box, fill: int) -> NDArray[Any]:
    """Pad values to a box.

    Args:
        values: of the part of the box inside the array.
        inside: that part.
        box: may reach beyond the array.
        fill: value outside the array.
    """
    if inside == box:
        return values
    widths = [
        (low - start, stop - high)
        for start, stop, low, high in zip(
            box.start, box.stop, inside.start, inside.stop, strict=True
        )
    ]
    return np.pad(values, widths, mode="constant", constant_values=fill)

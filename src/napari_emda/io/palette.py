"""Pictures with a table of colours: grey values for images, numbers for labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import SectionStack
from napari_emda.errors import DataError
from napari_emda.io.units import Stored


def is_grey(palette: NDArray[np.uint8]) -> bool:
    """Whether all colours of a table (k, 3) are greys."""
    return bool((palette == palette[:, :1]).all())


def grey_image(stored: Stored, name: str) -> Stored:
    """The grey values for which the numbers of a file stand.

    Args:
        stored: a file with a palette.
        name: of the file, for the message.

    Raises:
        DataError: the palette has colours. Labels often do, so the message says how to use them.
    """
    palette = stored.palette
    if palette is None:
        return stored
    if not is_grey(palette):
        raise DataError(
            f"{name} has a table of colours, as labels do: choose it as labels, or choose an image "
            "in grey values."
        )
    array = stored.array
    greys = grey_table(palette)

    def read(z: int) -> NDArray[Any]:
        return greys[np.asarray(array[z])]

    depth, rows, columns = array.shape
    grey = SectionStack(read, (depth, rows, columns), np.uint8)
    return replace(stored, array=grey, palette=None)


def grey_table(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grey value of each of 256 numbers; black where the table ends earlier."""
    greys = np.zeros(256, np.uint8)
    greys[: len(palette)] = palette[:256, 0]
    return greys

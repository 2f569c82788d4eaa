"""A reader for *File > Open* of the formats that napari does not read itself.

napari's own plugins may read others in other ways, so that these alone are offered.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda._gui.common.layer_volumes import PART
from napari_emda.errors import DataError
from napari_emda.io.location import Part, SeveralImages, located
from napari_emda.io.read import open_image
from napari_emda.io.reader import volume_name

LayerData = tuple[Any, dict[str, Any], str]

# Images of a file that are opened at once; of more, the user names one behind the file.
_MOST_LAYERS = 8
# Numbers of this size are those of objects: grey values have 8 or 16 bits, or are decimal.
_OBJECT_BYTES = 4


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of a file; None for several files that are to be one stack."""
    return None if isinstance(path, list) else read_layers


def read_layers(path: str) -> list[LayerData]:
    """Open the images of a file without reading them, one layer each.

    Raises:
        DataError: the file cannot be read, or holds too many images.
    """
    file = located(Path(path)).file
    return [_layer(file, part) for part in _parts(Path(path))]


def _parts(path: Path) -> list[Part]:
    """What is to be opened: the image that is meant, or all if none is."""
    try:
        open_image(path)
    except SeveralImages as several:
        if not 0 < len(several.parts) <= _MOST_LAYERS:
            raise DataError(str(several)) from None
        file = located(path).file
        # An image in the file may have channels in turn.
        return [found for part in several.parts for found in _parts(Path(f"{file}{part}"))]
    return [located(path).part]


def _layer(file: Path, part: Part) -> LayerData:
    path = Path(f"{file}{part}")
    stored = open_image(path)
    options: dict[str, Any] = {
        "name": volume_name(path),
        "metadata": {PART: str(part)},
    }
    # A size that is known in part is asked for in the dock, which looks into the file.
    if stored.nanometres is not None:
        options |= {"scale": stored.nanometres, "translate": stored.origin, "units": ("nm",) * 3}
    dtype = np.dtype(stored.array.dtype)
    if dtype.kind in "iu" and dtype.itemsize >= _OBJECT_BYTES:
        return stored.array, options, "labels"
    # Whether it has several scales is stated, because napari would guess it from the shape.
    return stored.array, options | {"multiscale": False}, "image"

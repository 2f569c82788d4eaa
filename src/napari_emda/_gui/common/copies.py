"""Copies of layers of the dock, which belong to the user: they never write to a project."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D


class CopiedAsArray(Lazy3D):
    """A lazy array whose copies are arrays in memory.

    napari copies the data of a layer that is duplicated or converted. A lazy copy would still read
    the files of the project, and painting in it would write to them or fail.
    """

    def __deepcopy__(self, memo: Any) -> NDArray[Any]:  # type: ignore[override]
        return np.array(self)


def protect(layer: Layer) -> None:
    """Disable painting in a layer of the user that shows voxels which cannot be written.

    Such a layer is one of the dock that was converted.
    """
    data = layer.data
    fixed = isinstance(data, Lazy3D) or (isinstance(data, np.ndarray) and not data.flags.writeable)
    if isinstance(layer, Labels) and fixed:
        layer.editable = False

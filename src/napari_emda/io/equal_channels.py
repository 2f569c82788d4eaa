"""Grey images that were saved in colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError

# Red, green and blue; a fourth channel says how opaque a pixel is.
_COLOURS = 3


class EqualChannels(Lazy3D):
    """The grey values of an image whose red, green and blue are the same everywhere.

    That they are the same is checked wherever it is read: nobody can tell without reading, and an
    image may be larger than memory.

    Args:
        array: of any number of axes, among them y, x and the channels. All others but ``sections``
            have length one.
        sections: index of the axis z; None for a single section.
        channels: index of the axis of the channels.
        name: of the file, for the message.
    """

    def __init__(self, array: Any, sections: int | None, channels: int, name: str) -> None:
        rows, columns = (
            n for axis, n in enumerate(array.shape) if axis in _last_two(array, channels)
        )
        count = 1 if sections is None else array.shape[sections]
        super().__init__((count, rows, columns), array.dtype)
        self._array = array
        self._sections = sections
        self._channels = channels
        self._name = name

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        index: list[Any] = [0] * len(self._array.shape)
        index[self._channels] = slice(None)
        for axis, part in zip(_last_two(self._array, self._channels), (y, x), strict=True):
            index[axis] = part
        if self._sections is not None:
            index[self._sections] = z
        values = np.asarray(self._array[tuple(index)])
        # What is left are z, y, x in this order, and the channels somewhere among them.
        left = [axis for axis, part in enumerate(index) if isinstance(part, slice)]
        values = np.moveaxis(values, left.index(self._channels), -1)
        grey = grey_values(values, self._name)
        return grey if self._sections is not None else grey[None][z]


def _last_two(array: Any, channels: int) -> tuple[int, int]:
    """The axes y and x: the last two that are not the channels."""
    axes = [axis for axis in range(len(array.shape)) if axis != channels]
    return axes[-2], axes[-1]


def grey_values(values: NDArray[Any], name: str) -> NDArray[Any]:
    """The first channel, if all channels of colour agree.

    Args:
        values: channels last: grey and opacity, or red, green, blue and perhaps opacity.
        name: of the file, for the message.

    Raises:
        DataError: the image has colours.
    """
    colours = values[..., : _COLOURS if values.shape[-1] >= _COLOURS else 1]
    if (colours != colours[..., :1]).any():
        raise DataError(
            f"{name} is a colour image: convert it to grey values, or save labels as numbers."
        )
    return np.ascontiguousarray(values[..., 0])
